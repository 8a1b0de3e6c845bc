"""The tables of a SQLite history store, and one user's rows in them."""

import json
import sqlite3
from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.serving.store.history import NOTHING, StoredRows, UserHistory
from musenet.serving.store.rules import HistoryRules
from musenet.serving.store.user_past import TIES, Asked, Change, user_history

TABLES = (
    "CREATE TABLE store (name TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE users (id INTEGER PRIMARY KEY, user TEXT NOT NULL UNIQUE, newest INTEGER NOT NULL, "
    "events INTEGER NOT NULL, recent INTEGER NOT NULL, keys INTEGER NOT NULL)",
    "CREATE TABLE events (user INTEGER, time INTEGER, mark INTEGER, content TEXT NOT NULL, "
    "PRIMARY KEY (user, time, mark)) WITHOUT ROWID",
    "CREATE TABLE recent (user INTEGER, time INTEGER, mark INTEGER, key TEXT NOT NULL, "
    "PRIMARY KEY (user, time, mark)) WITHOUT ROWID",
    "CREATE TABLE repeats (user INTEGER, key TEXT, count INTEGER NOT NULL, last INTEGER NOT NULL, "
    "PRIMARY KEY (user, key)) WITHOUT ROWID",
    "CREATE INDEX repeats_by_last ON repeats (last)",
    "CREATE TABLE marks (generation INTEGER, user INTEGER, mark INTEGER, "
    "PRIMARY KEY (generation, user, mark)) WITHOUT ROWID",
    "CREATE TABLE items (item TEXT PRIMARY KEY, version INTEGER NOT NULL, content TEXT NOT NULL) WITHOUT ROWID",
    "CREATE INDEX items_by_version ON items (version)",
)
_WANTED = """
    WITH wanted AS MATERIALIZED (
        SELECT value ->> 0 AS place, users.id AS user, users.events AS events, value ->> 2 AS first_end,
            value ->> 3 AS events_end, value ->> 4 AS repeats_end, value ->> 5 AS repeats_begin,
            value ->> 6 AS keys_begin, users.newest AS newest
        FROM json_each(:wanted) JOIN users ON users.user = value ->> 1
    )"""
_TEXTS = "SELECT group_concat(place), group_concat(time), group_concat(content, char(10))"
_OF_MANY = (
    f"""{_WANTED}, asked AS MATERIALIZED (
        SELECT *, coalesce(CASE WHEN events > :before THEN (
            SELECT time FROM events WHERE events.user = wanted.user AND time < first_end
            ORDER BY time DESC, mark DESC LIMIT 1 OFFSET :before
        ) END, -9223372036854775808) AS events_begin FROM wanted
    )
    {_TEXTS} FROM (SELECT place, time, content -> 2 AS content FROM asked CROSS JOIN events
        ON events.user = asked.user AND time < events_end AND time >= events_begin)""",
    f"{_WANTED} {_TEXTS} FROM (SELECT place, time, key AS content FROM wanted CROSS JOIN recent "
    "ON recent.user = wanted.user AND time >= repeats_begin AND time < repeats_end)",
    f"{_WANTED} {_TEXTS}, group_concat(count) FROM (SELECT place, last AS time, key AS content, count "
    "FROM wanted CROSS JOIN repeats ON repeats.user = wanted.user AND last >= keys_begin)",
)
"""Each gives one row of texts: Python's lock is handed over once for all users, not at every row."""
_NEWEST = f"{_WANTED} SELECT group_concat(place), group_concat(newest) FROM wanted"
_USERS_AT_ONCE = 64
_OF_USERS = ("events", "recent", "repeats", "marks")
_AT_ONCE = 1000
"""Expired rows that one transaction removes."""


class SqliteRows:
    """A user's rows, within a transaction.

    Args:
        connection: in the transaction.
        user: the user's id.
        generation: of the marks that are made now; those of the one before are remembered, too.
    """

    def __init__(self, connection: sqlite3.Connection, user: str, generation: int) -> None:
        self._connection, self._user, self._generation = connection, user, generation
        self._id: int | None = None
        self.newest: int | None = None
        self.events, self.recent, self.keys = 0, 0, 0
        found = connection.execute(
            "SELECT id, newest, events, recent, keys FROM users WHERE user = ?", (user,)
        ).fetchone()
        if found is not None:
            self._id, self.newest, self.events, self.recent, self.keys = found

    def known(self, marks: Collection[int]) -> set[int]:
        """Those of these marks that are remembered."""
        found = self._connection.execute(
            "SELECT mark FROM marks WHERE generation IN (?, ?) AND user = ? "
            "AND mark IN (SELECT value FROM json_each(?))",
            (self._generation, self._generation - 1, self._id, json.dumps(list(marks))),
        )
        return {mark for (mark,) in found}

    def event_time(self, before: int | None, place: int) -> int | None:
        """Time of the n-th newest event before a time; None if there are fewer."""
        if not place:
            return None
        earlier = "" if before is None else "AND time < ?"
        return self._time(
            f"SELECT time FROM events WHERE user = ? {earlier} ORDER BY time DESC, mark DESC LIMIT 1 OFFSET ?",
            *([] if before is None else [before]),
            place - 1,
        )

    def recent_time(self, place: int) -> int | None:
        """Time of the n-th newest recent row; None if there are fewer."""
        return self._time(
            "SELECT time FROM recent WHERE user = ? ORDER BY time DESC, mark DESC LIMIT 1 OFFSET ?", place - 1
        )

    def recent_before(self, time: int) -> list[tuple[int, str]]:
        """Time and key of the recent rows before a time."""
        return self._connection.execute(
            "SELECT time, key FROM recent WHERE user = ? AND time < ?", (self._id, time)
        ).fetchall()

    def settled(self, keys: Collection[str]) -> dict[str, tuple[int, int]]:
        """Count and last time of those of these keys that have some."""
        found = self._connection.execute(
            "SELECT key, count, last FROM repeats WHERE user = ? AND key IN (SELECT value FROM json_each(?))",
            (self._id, json.dumps(list(keys))),
        )
        return {key: (count, last) for key, count, last in found}

    def oldest_keys(self, count: int) -> list[str]:
        """The settled keys that were met longest ago."""
        found = self._connection.execute(
            "SELECT key FROM repeats WHERE user = ? ORDER BY last, key LIMIT ?", (self._id, count)
        )
        return [key for (key,) in found]

    def save(self, change: Change) -> None:
        """Keep what changes."""
        execute, many = self._connection.execute, self._connection.executemany
        if self._id is None:
            self._id = execute("INSERT INTO users VALUES (NULL, ?, 0, 0, 0, 0)", (self._user,)).lastrowid
        user = self._id
        many("INSERT INTO marks VALUES (?, ?, ?)", [(self._generation, user, mark) for mark in change.marks])
        many("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?)", [(user, *row) for row in change.events])
        many("INSERT OR REPLACE INTO recent VALUES (?, ?, ?, ?)", [(user, *row) for row in change.recent])
        many(
            "INSERT OR REPLACE INTO repeats VALUES (?, ?, ?, ?)",
            [(user, key, count, last) for key, (count, last) in change.settled.items()],
        )
        events, recent, keys = self.events + len(change.events), self.recent + len(change.recent), self.keys
        if change.events_from is not None:
            events -= execute("DELETE FROM events WHERE user = ? AND time < ?", (user, change.events_from)).rowcount
        if change.recent_from is not None:
            recent -= execute("DELETE FROM recent WHERE user = ? AND time < ?", (user, change.recent_from)).rowcount
        if change.dropped_keys:
            many("DELETE FROM repeats WHERE user = ? AND key = ?", [(user, key) for key in change.dropped_keys])
        keys += change.new_keys - len(change.dropped_keys)
        execute(
            "UPDATE users SET newest = ?, events = ?, recent = ?, keys = ? WHERE id = ?",
            (change.newest, events, recent, keys, user),
        )

    def forget(self) -> bool:
        """Remove them all; whether there were any."""
        if self._id is None:
            return False
        for table in _OF_USERS:
            found = "generation IN (SELECT DISTINCT generation FROM marks) AND user" if table == "marks" else "user"
            self._connection.execute(f"DELETE FROM {table} WHERE {found} = ?", (self._id,))
        self._connection.execute("DELETE FROM users WHERE id = ?", (self._id,))
        return True

    def _time(self, statement: str, *values: object) -> int | None:
        found = self._connection.execute(statement, (self._id, *values)).fetchone()
        return None if found is None else found[0]


def read_history(connection: sqlite3.Connection, rules: HistoryRules, user: str, asked: Asked) -> UserHistory:
    """What a user's rows say, within a transaction."""
    found = connection.execute("SELECT id FROM users WHERE user = ?", (user,)).fetchone()
    if found is None:
        return NOTHING
    (row,), length = found, rules.history.length
    events = connection.execute(
        "SELECT time, content, mark FROM events WHERE user = ? AND time < ? ORDER BY time DESC, mark DESC LIMIT ?",
        (row, asked.events_end, length),
    ).fetchall()
    if events and len(events) == length:
        time, _, mark = events[-1]
        events += connection.execute(
            "SELECT time, content, mark FROM events WHERE user = ? AND time = ? AND mark < ? "
            "ORDER BY mark DESC LIMIT ?",
            (row, time, mark, TIES),
        )
    settled = connection.execute(
        "SELECT key, count, last FROM repeats WHERE user = ? AND last >= ? AND last < ?",
        (row, _from(asked.keys_begin), asked.repeats_end),
    ).fetchall()
    recent = connection.execute(
        "SELECT key, count(*), max(time) FROM recent WHERE user = ? AND time >= ? AND time < ? GROUP BY key",
        (row, _from(asked.repeats_begin), asked.repeats_end),
    ).fetchall()
    return user_history(((time, content) for time, content, _ in reversed(events)), settled, recent)


def read_rows(
    connection: sqlite3.Connection,
    rules: HistoryRules,
    users: Sequence[str],
    first: Sequence[Asked],
    last: Sequence[Asked],
) -> tuple[StoredRows, StoredRows, StoredRows, NDArray[np.int64]]:
    """Events, recent and settled keys of users from their first to their last requests; and when their newest was.

    All in one transaction.
    """
    wanted = []
    for place, (user, one, other) in enumerate(zip(users, first, last, strict=True)):
        begins = _from(one.repeats_begin), _from(one.keys_begin)
        wanted.append([place, user, one.events_end, other.events_end, other.repeats_end, *begins])
    found: list[list[tuple[str | None, ...]]] = [[], [], []]
    newest = np.full(len(users), _from(None))
    for begin in range(0, len(wanted), _USERS_AT_ONCE):
        part = json.dumps(wanted[begin : begin + _USERS_AT_ONCE])
        for rows, statement in zip(found, _OF_MANY, strict=True):
            rows.append(connection.execute(statement, {"wanted": part, "before": rules.history.length - 1}).fetchone())
        places, times = connection.execute(_NEWEST, {"wanted": part}).fetchone()
        newest[_numbers([places])] = _numbers([times])
    events, recent, settled = (_together(rows) for rows in found)
    return events, recent, settled, newest


def _together(parts: Sequence[tuple[str | None, ...]]) -> StoredRows:
    """The rows of all parts, whose columns are texts: users, times, contents, and counts where these are not 1."""
    users, times, contents, *counts = zip(*parts, strict=True)
    user, time, *count = map(_numbers, (users, times, *counts))
    return StoredRows(user, time, _listed(contents, "\n"), count[0] if count else np.ones_like(user))


def _numbers(texts: Sequence[str | None]) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = _listed(texts, ",").cast(pa.int64()).to_numpy()
    return numbers


def _listed(texts: Sequence[str | None], separator: str) -> pa.Array:
    return pc.list_flatten(pc.split_pattern(pa.array(texts, pa.string()), separator))


def remove_expired(connection: sqlite3.Connection, generation: int, keys_begin: int | None) -> None:
    """Remove some of the marks that are not remembered any more, and of the keys that are past their retention."""
    connection.execute(
        "DELETE FROM marks WHERE (generation, user, mark) IN "
        "(SELECT generation, user, mark FROM marks WHERE generation < ? LIMIT ?)",
        (generation - 1, _AT_ONCE),
    )
    if keys_begin is None:
        return
    expired = connection.execute(
        "SELECT user, key FROM repeats WHERE last < ? LIMIT ?", (keys_begin, _AT_ONCE)
    ).fetchall()
    connection.executemany("DELETE FROM repeats WHERE user = ? AND key = ?", expired)
    connection.executemany("UPDATE users SET keys = keys - 1 WHERE id = ?", [(user,) for user, _ in expired])


def _from(time: int | None) -> int:
    return -(2**63) if time is None else time
