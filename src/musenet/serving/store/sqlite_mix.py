"""Following the mix of scenarios on a SQLite history store."""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from musenet.serving.store.mix import Change, Shown

TABLES = (
    "CREATE TABLE IF NOT EXISTS mix (model TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS shown (place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, "
    "model TEXT NOT NULL, time INTEGER NOT NULL, items TEXT NOT NULL, numbers BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS shown_by_time ON shown (model, time, place)",
    "CREATE TABLE IF NOT EXISTS taken (id TEXT, item TEXT, PRIMARY KEY (id, item)) WITHOUT ROWID",
)
_FIRST = "SELECT place, id, time, items, numbers FROM shown WHERE model = ? AND time < ? ORDER BY time, place LIMIT ?"


class SqliteMix:
    """See `MixStore`.

    A lost machine may lose its last moments, since no commit waits for the disk: answers are not worth the wait.

    Args:
        connect: to the store's file.
        explained: makes `StoreError` of what goes wrong.
    """

    def __init__(
        self, connect: Callable[[], sqlite3.Connection], explained: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._explained, self._lock = explained, threading.Lock()
        self._connection = connect()
        self._connection.execute("PRAGMA synchronous = NORMAL")
        with self._transaction() as writer:
            for statement in TABLES:
                writer.execute(statement)

    def add(self, model: str, shown: Shown) -> None:
        """Keep a request; one whose id is known already stays as it is."""
        row = (shown.id, model, shown.time, json.dumps(shown.items), shown.numbers)
        with self._transaction() as writer:
            writer.execute("INSERT OR IGNORE INTO shown (id, model, time, items, numbers) VALUES (?, ?, ?, ?, ?)", row)

    def answer(self, taken: Sequence[tuple[str, str]]) -> list[bool]:
        """Note items that were taken; whether each request still waits."""
        with self._transaction() as writer:
            waits = [_there(writer, "SELECT 1 FROM shown WHERE id = ?", (request,)) for request, _ in taken]
            known = [pair for pair, is_waiting in zip(taken, waits, strict=True) if is_waiting]
            writer.executemany("INSERT OR IGNORE INTO taken VALUES (?, ?)", known)
        return waits

    def read(self, model: str, before: int, count: int) -> tuple[str | None, bool]:
        """The state, and whether so many requests were shown before this moment and wait."""
        with self._explained(), self._lock:
            last = "SELECT 1 FROM shown WHERE model = ? AND time < ? ORDER BY time, place LIMIT 1 OFFSET ?"
            return self._state(model), _there(self._connection, last, (model, before, count - 1))

    def change(self, model: str, change: Change, before: int = 0, count: int = 0) -> bool:
        """Take the first `count` requests that were shown before a moment, and change the state by them."""
        with self._transaction() as writer:
            found = writer.execute(_FIRST, (model, before, count)).fetchall()
            if len(found) < count:
                return False
            requests = [self._shown(id_, time, items, numbers) for _, id_, time, items, numbers in found]
            state = change(self._state(model), requests)
            writer.execute("INSERT OR REPLACE INTO mix VALUES (?, ?)", (model, state))
            writer.executemany("DELETE FROM shown WHERE place = ?", [(row[0],) for row in found])
            writer.executemany("DELETE FROM taken WHERE id = ?", [(request.id,) for request in requests])
        return True

    def keep_only(self, model: str) -> None:
        """Forget what is of other models."""
        with self._transaction() as writer:
            for statement in (
                "DELETE FROM taken WHERE id IN (SELECT id FROM shown WHERE model <> ?)",
                "DELETE FROM shown WHERE model <> ?",
                "DELETE FROM mix WHERE model <> ?",
            ):
                writer.execute(statement, (model,))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _state(self, model: str) -> str | None:
        found = self._connection.execute("SELECT state FROM mix WHERE model = ?", (model,)).fetchone()
        return None if found is None else str(found[0])

    def _shown(self, id_: str, time: int, items: str, numbers: bytes) -> Shown:
        taken = self._connection.execute("SELECT item FROM taken WHERE id = ?", (id_,))
        return Shown(id_, time, json.loads(items), numbers, frozenset(item for (item,) in taken))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._explained(), self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")


def _there(connection: sqlite3.Connection, query: str, values: tuple[object, ...]) -> bool:
    return connection.execute(query, values).fetchone() is not None
