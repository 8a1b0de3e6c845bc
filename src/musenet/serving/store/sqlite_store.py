"""The embedded history store: one SQLite file in write-ahead mode, a row per user."""

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType

from musenet.errors import StoreError
from musenet.serving.store.history import NOTHING, UserEvent, UserHistory
from musenet.serving.store.rules import HistoryRules, check_rules, description
from musenet.serving.store.user_past import UserPast, add_all

WAIT_SECONDS = 30.0
"""For another process that writes to the same file."""
APPLICATION = 0x6D75736E
"""What SQLite's header says of whose file it is: `musn`."""
_TABLES = (
    f"PRAGMA application_id = {APPLICATION}",
    "CREATE TABLE store (description TEXT NOT NULL)",
    "CREATE TABLE users (user TEXT PRIMARY KEY, past TEXT NOT NULL, marks BLOB NOT NULL) WITHOUT ROWID",
)


@dataclass
class _Waiting:
    """A call of `append` and what came of it."""

    events: Sequence[UserEvent]
    new: list[bool] = field(default_factory=list)
    error: Exception | None = None
    done: bool = False


class SqliteStore:
    """A history store in a file; reads never wait for writes.

    A transaction costs a write to the disk that is waited for, so events that arrive while one is under way are
    committed together by the next.

    Args:
        path: of the file, made if it does not exist.
        rules: which events count.

    Raises:
        StoreError: if the file cannot be opened, is no store, or was made for other rules.
    """

    def __init__(self, path: Path, rules: HistoryRules) -> None:
        self._path = path
        self._rules = rules
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._queue: list[_Waiting] = []
        self._queue_lock, self._write_lock = threading.Lock(), threading.Lock()
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            with self._transaction():
                self._create_tables()
                found = json.loads(self._writer.execute("SELECT description FROM store").fetchone()[0])
        check_rules(str(path), found, rules)

    def read(self, user: str, before: float | None) -> UserHistory:
        """The user's past as a request at this time knows it; nothing for a user without events."""
        with self._explained(), self._reader() as reader:
            row = reader.execute("SELECT past FROM users WHERE user = ?", (user,)).fetchone()
        return NOTHING if row is None else UserPast.decode(self._rules, row[0]).before(before)

    def append(self, events: Sequence[UserEvent]) -> list[bool]:
        """Keep events; all that wait are committed in one transaction by whoever comes to it first."""
        waiting = _Waiting(events)
        with self._queue_lock:
            self._queue.append(waiting)
        with self._write_lock:
            if not waiting.done:
                with self._queue_lock:
                    together, self._queue = self._queue, []
                self._commit(together)
        if waiting.error is not None:
            raise waiting.error
        return waiting.new

    def some_users(self, count: int) -> list[str]:
        """The first users in order of their ids."""
        with self._explained(), self._reader() as reader:
            return [user for (user,) in reader.execute("SELECT user FROM users ORDER BY user LIMIT ?", (count,))]

    def check(self) -> None:
        """Raise `StoreError` unless the file can be read."""
        with self._explained(), self._reader() as reader:
            reader.execute("SELECT description FROM store").fetchone()

    def close(self) -> None:
        """Close the file; nothing is waiting to be written."""
        with self._write_lock:
            while not self._idle.empty():
                self._idle.get().close()
            self._writer.close()

    def __enter__(self) -> "SqliteStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _commit(self, together: Sequence[_Waiting]) -> None:
        try:
            with self._explained(), self._transaction():
                for waiting in together:
                    waiting.new = self._add(waiting.events)
        except Exception as error:
            for waiting in together:
                waiting.error = error
        finally:
            for waiting in together:
                waiting.done = True

    def _add(self, events: Sequence[UserEvent]) -> list[bool]:
        pasts = {user: self._load(user) for user in {new.user for new in events}}
        added = add_all(pasts, events)
        rows = [(user, *past.encode()) for user, past in pasts.items()]
        self._writer.executemany("INSERT OR REPLACE INTO users VALUES (?, ?, ?)", rows)
        return added

    def _load(self, user: str) -> UserPast:
        row = self._writer.execute("SELECT past, marks FROM users WHERE user = ?", (user,)).fetchone()
        return UserPast(self._rules) if row is None else UserPast.decode(self._rules, *row)

    def _create_tables(self) -> None:
        if self._writer.execute("PRAGMA application_id").fetchone()[0] == APPLICATION:
            return
        if self._writer.execute("SELECT 1 FROM sqlite_master").fetchone() is not None:
            raise StoreError(f"{self._path} is another program's database: give another file")
        for statement in _TABLES:
            self._writer.execute(statement)
        self._writer.execute("INSERT INTO store VALUES (?)", (json.dumps(description(self._rules)),))

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection of this thread's own for a moment; as many are made as read at once."""
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = self._connect()
        try:
            yield connection
        finally:
            self._idle.put(connection)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the history store {self._path} cannot be used ({error})") from error
