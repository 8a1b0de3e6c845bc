"""One user's rows in Valkey or Redis.

    musenet:user:U       hash: time of the newest event
    musenet:events:U     sorted set: time, mark and content of each event that may be shown
    musenet:recent:U     sorted set: time, mark and repeat key of what can still be told apart
    musenet:repeats:U    hash: how often each repeat key occurred before that
    musenet:last:U       sorted set: repeat keys by when they occurred last
    musenet:marks:G:U    set: what came in generation G, until it expires

Members of the first two sorted sets have one score; they are in order of their bytes, which begin with the time.
"""

import struct
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.serving.store.history import NOTHING, StoredRows, UserHistory
from musenet.serving.store.rules import HistoryRules
from musenet.serving.store.user_past import REMEMBERED_DAYS, TIES, Asked, Change, user_history

PREFIX = "musenet:"
NEWEST = "newest"
_ROW = struct.Struct(">Qq")
_SIGN = 2**63
_USERS_AT_ONCE = 64
_ATTRIBUTES = r'^\[(?:null|"(?:[^"\\]|\\.)*"),(?:null|"(?:[^"\\]|\\.)*"),(.*)\]$'
"""Of an event's content, behind its kind and item."""
_TWO_GENERATIONS = 2 * REMEMBERED_DAYS * 86_400


def user_key(user: str) -> str:
    """The key that changes whenever the user's rows do."""
    return f"{PREFIX}user:{user}"


class RedisRows:
    """A user's rows, within a transaction that watches `user_key`.

    Args:
        database: the transaction.
        user: the user's id.
        generation: of the marks that are made now; those of the one before are remembered, too.
    """

    def __init__(self, database: Any, user: str, generation: int) -> None:
        self._database = database
        self._user, self._events, self._recent, self._repeats, self._last = _names(user)
        self._marks = [f"{PREFIX}marks:{one}:{user}" for one in (generation, generation - 1)]
        newest = database.hget(self._user, NEWEST)
        self.newest = None if newest is None else int(newest)
        self.events, self.recent, self.keys = 0, 0, 0
        if self.newest is not None:
            self.events, self.recent = database.zcard(self._events), database.zcard(self._recent)
            self.keys = database.hlen(self._repeats)

    @property
    def names(self) -> list[str]:
        """All keys that hold something of the user."""
        return [self._user, self._events, self._recent, self._repeats, self._last, *self._marks]

    def known(self, marks: Collection[int]) -> set[int]:
        """Those of these marks that are remembered."""
        asked = list(marks)
        found = [self._database.smismember(name, asked) for name in self._marks]
        return {mark for mark, *ours in zip(asked, *found, strict=True) if any(ours)}

    def event_time(self, before: int | None, place: int) -> int | None:
        """Time of the n-th newest event before a time; None if there are fewer."""
        return self._time(self._events, b"+" if before is None else _border(before), place) if place else None

    def recent_time(self, place: int) -> int | None:
        """Time of the n-th newest recent row; None if there are fewer."""
        return self._time(self._recent, b"+", place)

    def recent_before(self, time: int) -> list[tuple[int, str]]:
        """Time and key of the recent rows before a time."""
        rows = self._database.zrangebylex(self._recent, b"-", _border(time))
        return [(moment, text) for moment, _, text in map(_unpacked, rows)]

    def settled(self, keys: Collection[str]) -> dict[str, tuple[int, int]]:
        """Count and last time of those of these keys that have some."""
        asked = list(keys)
        found = self._database.hmget(self._repeats, asked)
        return {key: _totals(value) for key, value in zip(asked, found, strict=True) if value is not None}

    def oldest_keys(self, count: int) -> list[str]:
        """The settled keys that were met longest ago."""
        return [key.decode() for key in self._database.zrange(self._last, 0, count - 1)]

    def save(self, change: Change, retention: float | None) -> None:
        """Queue what changes."""
        database = self._database
        database.hset(self._user, mapping={NEWEST: change.newest})
        database.sadd(self._marks[0], *change.marks)
        database.expire(self._marks[0], _TWO_GENERATIONS)
        for name, rows in ((self._events, change.events), (self._recent, change.recent)):
            if rows:
                database.zadd(name, {_packed(*row): 0 for row in rows})
        for name, begin in ((self._events, change.events_from), (self._recent, change.recent_from)):
            if begin is not None:
                database.zremrangebylex(name, b"-", _border(begin))
        if change.settled:
            totals = {key: f"{count} {last}" for key, (count, last) in change.settled.items()}
            database.hset(self._repeats, mapping=totals)
            database.zadd(self._last, {key: last for key, (_, last) in change.settled.items()})
        if change.dropped_keys:
            database.hdel(self._repeats, *change.dropped_keys)
            database.zrem(self._last, *change.dropped_keys)
        if retention is not None:
            database.expire(self._repeats, round(retention))
            database.expire(self._last, round(retention))

    def _time(self, name: str, end: bytes, place: int) -> int | None:
        found = self._database.zrevrangebylex(name, end, b"-", start=place - 1, num=1)
        return _unpacked(found[0])[0] if found else None


def read_history(database: Any, rules: HistoryRules, user: str, asked: Asked) -> UserHistory:
    """What a user's rows say, all at one moment."""
    name, events, recent, repeats, _ = _names(user)
    length, end = rules.history.length, _border(asked.events_end)
    begin = b"-" if asked.repeats_begin is None else _border(asked.repeats_begin, including=True)
    with database.pipeline(transaction=True) as moment:
        moment.exists(name)
        moment.zrevrangebylex(events, end, b"-", start=0, num=length + TIES)
        moment.zrangebylex(recent, begin, _border(asked.repeats_end))
        moment.hgetall(repeats)
        there, shown, counted, totals = moment.execute()
    if not there:
        return NOTHING
    rows = [_unpacked(row) for row in shown]
    oldest = rows[length - 1][0] if 0 < length <= len(rows) else None
    kept = [(time, text) for time, _, text in rows if length and (oldest is None or time >= oldest)]
    settled = [(key.decode(), *_totals(value)) for key, value in totals.items()]
    settled = [row for row in settled if asked.keys_begin is None or row[2] >= asked.keys_begin]
    settled = [row for row in settled if row[2] < asked.repeats_end]
    return user_history(kept[::-1], settled, _counted([_unpacked(row) for row in counted]))


def read_rows(
    database: Any, rules: HistoryRules, users: Sequence[str], first: Sequence[Asked], last: Sequence[Asked]
) -> tuple[StoredRows, StoredRows, StoredRows, NDArray[np.int64]]:
    """Events, recent and settled keys of users from their first to their last requests; and when their newest was."""
    length = rules.history.length
    found: list[Any] = []
    for begin in range(0, len(users), _USERS_AT_ONCE):
        part = slice(begin, begin + _USERS_AT_ONCE)
        with database.pipeline(transaction=True) as moment:
            for user, one, other in zip(users[part], first[part], last[part], strict=True):
                name, events, recent, repeats, _ = _names(user)
                # The first of several moments may ask for older ones: whatever there is, then.
                most = {"start": 0, "num": length + TIES} if one.events_end == other.events_end else {}
                moment.zrevrangebylex(events, _border(other.events_end), b"-", **most)
                oldest = b"-" if one.repeats_begin is None else _border(one.repeats_begin, including=True)
                moment.zrangebylex(recent, oldest, _border(other.repeats_end))
                moment.hgetall(repeats)
                moment.hget(name, NEWEST)
            found += moment.execute()
    settled = []
    for one, totals in zip(first, found[2::4], strict=True):
        kept = ((key, *_totals(value)) for key, value in totals.items())
        settled.append([row for row in kept if one.keys_begin is None or row[2] >= one.keys_begin])
    of_settled = np.repeat(np.arange(len(users)), [len(rows) for rows in settled])
    keys, counts, times = ([row[at] for rows in settled for row in rows] for at in range(3))
    shown = _stored(found[::4])
    return (
        replace(shown, content=pc.replace_substring_regex(shown.content, _ATTRIBUTES, r"\1")),
        _stored(found[1::4]),
        StoredRows(of_settled, np.array(times, np.int64), pa.array(keys, pa.string()), np.array(counts, np.int64)),
        np.array([-_SIGN if time is None else int(time) for time in found[3::4]], np.int64),
    )


def _stored(found: Sequence[Sequence[bytes]]) -> StoredRows:
    """Packed rows of each user."""
    packed = [row for rows in found for row in rows]
    time = np.frombuffer(b"".join(row[:8] for row in packed), dtype=">u8")
    return StoredRows(
        np.repeat(np.arange(len(found)), [len(rows) for rows in found]),
        (time ^ np.uint64(_SIGN)).astype(np.int64),
        pa.array([row[_ROW.size :] for row in packed], pa.string()),
        np.ones(len(packed), dtype=np.int64),
    )


def _counted(rows: Sequence[tuple[int, int, str]]) -> list[tuple[str, int, int]]:
    """Each repeat key once, with how often it occurs and when last; rows are in order of time."""
    found: dict[str, tuple[int, int]] = {}
    for time, _, key in rows:
        found[key] = found.get(key, (0, 0))[0] + 1, time
    return [(key, count, last) for key, (count, last) in found.items()]


def _names(user: str) -> list[str]:
    return [f"{PREFIX}{part}:{user}" for part in ("user", "events", "recent", "repeats", "last")]


def _packed(time: int, mark: int, text: str) -> bytes:
    return _ROW.pack(time + _SIGN, mark) + text.encode()


def _unpacked(row: bytes) -> tuple[int, int, str]:
    time, mark = _ROW.unpack_from(row)
    return time - _SIGN, mark, row[_ROW.size :].decode()


def _border(time: int, *, including: bool = False) -> bytes:
    """Of a range in order of bytes: up to this time, or from it on."""
    return (b"[" if including else b"(") + struct.pack(">Q", time + _SIGN)


def _totals(value: bytes) -> tuple[int, int]:
    count, last = value.split()
    return int(count), int(last)
