"""The embedded history store: one SQLite file in write-ahead mode."""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

from musenet.errors import StoreError
from musenet.files import full_disk_explained, replacing
from musenet.serving.store.history import Filled, StoredPasts, UserEvent, UserHistory, microseconds
from musenet.serving.store.rules import FORMAT, HistoryRules, check_rules, description
from musenet.serving.store.sqlite_mix import SqliteMix
from musenet.serving.store.sqlite_rows import TABLES, SqliteRows, read_history, read_rows, remove_expired
from musenet.serving.store.user_past import Arrival, arrival, asked, asked_at, by_user, generation_of, take_in
from musenet.serving.values import Value

WAIT_SECONDS = 30.0
"""For another process that writes to the same file."""
APPLICATION = 0x6D75736E
"""What SQLite's header says of whose file it is: `musn`."""
DESCRIPTION, BEGUN, FILLED, CHECKED = "description", "begun", "filled", "checked"


@dataclass
class _Waiting:
    """A change that waits to be committed and what came of it."""

    change: Callable[[], None]
    error: Exception | None = None
    done: bool = False


class SqliteStore:
    """A history store in a file; reads never wait for writes.

    A transaction costs a write to the disk that is waited for, so what arrives while one is under way is committed
    together by the next.

    Args:
        path: of the file, made if it does not exist.
        rules: which events count; None for those that the store was made for, and then it must exist.
        retention: seconds after which a repeat key that was not met again is forgotten; None for never.

    Raises:
        StoreError: if the file cannot be opened, is no store, or was made for other rules.
    """

    def __init__(self, path: Path, rules: HistoryRules | None, retention: float | None = None) -> None:
        self._path, self._retention = path, retention
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._queue: list[_Waiting] = []
        self._queue_lock, self._write_lock = threading.Lock(), threading.Lock()
        if rules is None and not path.is_file():
            raise StoreError(f"{path} does not exist: give the file of `musenet serve` or `load-history`")
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(0o600)  # as its log and shared memory will be
            self._file = _identity(path)
            self._writer = self._connect()
            try:
                with self._transaction():
                    self._create_tables(rules)
                    known = self._writer.execute("PRAGMA user_version").fetchone()[0] == FORMAT
                    found = _note(self._writer, DESCRIPTION) if known else None
                self._rules = check_rules(str(path), found, rules)
            except BaseException:
                self._writer.close()
                raise

    def read(self, user: str, before: float | None) -> UserHistory:
        """The user's past as a request at this time knows it; nothing for a user without events."""
        wanted = asked(self._rules, before, self._retention)
        with self._explained(), self._reader() as reader:
            return read_history(reader, self._rules, user, wanted)

    def read_many(self, users: Sequence[str], first: Sequence[int], last: Sequence[int]) -> StoredPasts:
        """What requests of these users between two moments ask for."""
        asked_first, asked_last = (
            [asked_at(self._rules, moment, self._retention) for moment in moments] for moments in (first, last)
        )
        with self._explained(), self._reader() as reader:
            rows = read_rows(reader, self._rules, users, asked_first, asked_last)
        return StoredPasts(*rows, None if self._retention is None else microseconds(self._retention))

    def append(self, events: Sequence[UserEvent]) -> list[bool]:
        """Keep events; all that wait are committed in one transaction by whoever comes to it first."""
        arrivals = [arrival(self._rules, new) for new in events]
        new: list[bool] = []

        def change() -> None:
            new[:] = self._add(arrivals)

        self._write(change)
        return new

    @cached_property
    def mix(self) -> SqliteMix:
        """Where following the mix of scenarios keeps what it knows."""
        with self._explained():
            return SqliteMix(self._connect, self._explained)

    def put_items(self, items: Mapping[str, Mapping[str, Value]]) -> None:
        """Keep the columns of these items in place of what was known of them."""
        contents = [(item, json.dumps(dict(columns))) for item, columns in items.items()]

        def change() -> None:
            version = _version(self._writer) + 1
            rows = [(item, version, content) for item, content in contents]
            self._writer.executemany("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", rows)

        self._write(change)

    def items_since(self, version: int) -> tuple[int, dict[str, Mapping[str, Value]]]:
        """What was put since a version, and the version that there is now."""
        with self._explained(), self._reader() as reader:
            now = _version(reader)
            if now == version:
                return now, {}
            found = reader.execute("SELECT item, content FROM items WHERE version > ? ORDER BY version", (version,))
            return now, {item: json.loads(content) for item, content in found}

    def forget(self, user: str) -> bool:
        """Remove all that is known of a user from the file; whether there was anything."""
        found: list[bool] = []

        def change() -> None:
            found[:] = [SqliteRows(self._writer, user, self._generation).forget()]

        self._write(change)
        with self._explained(), self._write_lock:  # what was written before stands in the log until then
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return found[0]

    def backup(self, out: Path) -> None:
        """Write a copy that can be opened as a store, while others go on reading and adding."""
        with full_disk_explained(out.parent), replacing(out) as temporary, self._explained(), self._reader() as reader:
            temporary.touch(0o600)
            with closing(sqlite3.connect(temporary)) as copy:
                reader.backup(copy)
                wrong = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if wrong != "ok":
                raise StoreError(f"the history store {self._path} is damaged ({wrong}): take an older copy of it")

    @property
    def begun(self) -> float:
        """When the store was made, in seconds since 1970."""
        with self._explained(), self._reader() as reader:
            return float(_note(reader, BEGUN))

    @property
    def filled(self) -> Filled | None:
        """What a log brought; None if none ever did."""
        with self._explained(), self._reader() as reader:
            found = _note(reader, FILLED)
        return None if found is None else Filled(**found)

    @filled.setter
    def filled(self, filled: Filled) -> None:
        self._write(lambda: _set_note(self._writer, FILLED, asdict(filled)))

    def some_users(self, count: int) -> list[str]:
        """The first users in order of their ids."""
        with self._explained(), self._reader() as reader:
            return [user for (user,) in reader.execute("SELECT user FROM users ORDER BY user LIMIT ?", (count,))]

    def check(self) -> None:
        """Raise `StoreError` unless the file can be read and written, and is still the same store."""
        self._write(lambda: _set_note(self._writer, CHECKED, time.time()))
        with self._explained(), self._reader() as reader:
            found = _note(reader, DESCRIPTION)
        check_rules(str(self._path), found, self._rules)

    def close(self) -> None:
        """Close the file; nothing is waiting to be written."""
        with self._write_lock:
            while not self._idle.empty():
                self._idle.get().close()
            if "mix" in vars(self):
                self.mix.close()
            self._writer.close()

    def __enter__(self) -> "SqliteStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, change: Callable[[], None]) -> None:
        waiting = _Waiting(change)
        with self._queue_lock:
            self._queue.append(waiting)
        with self._write_lock:
            if not waiting.done:
                with self._queue_lock:
                    together, self._queue = self._queue, []
                self._commit(together)
        if waiting.error is not None:
            raise waiting.error

    def _commit(self, together: Sequence[_Waiting]) -> None:
        try:
            with self._explained(), self._transaction():
                self._check_place()
                for waiting in together:
                    waiting.change()
        except Exception as error:
            for waiting in together:
                waiting.error = error
        finally:
            for waiting in together:
                waiting.done = True

    def _check_place(self) -> None:
        """What is written to a file that was removed or replaced is lost."""
        if not self._path.exists() or _identity(self._path) != self._file:
            raise StoreError(f"the history store {self._path} was removed or replaced: start again")

    def _add(self, arrivals: Sequence[Arrival]) -> list[bool]:
        generation = self._generation
        keys_begin = None if self._retention is None else asked(self._rules, None, self._retention).keys_begin
        remove_expired(self._writer, generation, keys_begin)
        added = [False] * len(arrivals)
        for user, places in by_user(arrivals).items():
            rows = SqliteRows(self._writer, user, generation)
            new, change = take_in(self._rules, rows, [arrivals[place] for place in places])
            if change is not None:
                rows.save(change)
            for place, is_new in zip(places, new, strict=True):
                added[place] = is_new
        return added

    @property
    def _generation(self) -> int:
        return generation_of(time.time())

    def _create_tables(self, rules: HistoryRules | None) -> None:
        if self._writer.execute("PRAGMA application_id").fetchone()[0] == APPLICATION:
            return
        if rules is None or self._writer.execute("SELECT 1 FROM sqlite_master").fetchone() is not None:
            raise StoreError(f"{self._path} is another program's database: give another file")
        for statement in (f"PRAGMA application_id = {APPLICATION}", f"PRAGMA user_version = {FORMAT}", *TABLES):
            self._writer.execute(statement)
        _set_note(self._writer, DESCRIPTION, description(rules))
        _set_note(self._writer, BEGUN, time.time())

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection of this thread's own for a moment, which sees one state; as many are made as read at once."""
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = self._connect()
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._idle.put(connection)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            for setting in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
                connection.execute(f"PRAGMA {setting}")
        except BaseException:
            connection.close()
            raise
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


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _note(connection: sqlite3.Connection, name: str) -> Any:
    found = connection.execute("SELECT content FROM store WHERE name = ?", (name,)).fetchone()
    return None if found is None else json.loads(found[0])


def _set_note(connection: sqlite3.Connection, name: str, content: object) -> None:
    connection.execute("INSERT OR REPLACE INTO store VALUES (?, ?)", (name, json.dumps(content)))


def _version(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("SELECT coalesce(max(version), 0) FROM items").fetchone()[0]
    return found
