"""Opening a history store: a SQLite file on one machine, Valkey or Redis for several servers."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from musenet.errors import StoreError
from musenet.serving.store.history import HistoryStore, Past
from musenet.serving.store.user_past import NewEvent

FORMAT = 1
NETWORK = ("redis://", "rediss://", "valkey://", "valkeys://", "unix://")


class WritableStore(HistoryStore, AbstractContextManager["WritableStore"], Protocol):
    """A store that events are added to; threads may share it.

    Reading and adding raise `StoreError` while the store does not answer.
    """

    def append(self, events: Sequence[NewEvent]) -> list[bool]:
        """Keep events, whatever their order; whether each was new.

        What is kept when this returns outlives the process. An event comes in whole or not at all, and once however
        often it is sent; after an error, send all again.
        """
        ...

    def some_users(self, count: int) -> list[str]:
        """A few of the users that have a past."""
        ...

    def check(self) -> None:
        """Raise `StoreError` unless the store answers."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


def open_store(address: str, rules: Past) -> WritableStore:
    """The store at this address, made if it does not exist.

    Args:
        address: the path of a SQLite file, or an URL such as `redis://host:6379/0` or `valkey://host:6379/0`.
        rules: which events count; a store keeps to those that it was made with.

    Raises:
        StoreError: if it cannot be opened, or was made for other rules.
    """
    if address.startswith(NETWORK):
        from musenet.serving.store.redis_store import RedisStore

        return RedisStore(address, rules)
    if "://" in address:
        raise StoreError(f"--store {address}: give a file's path, or an URL that begins with {', '.join(NETWORK)}")
    from musenet.serving.store.sqlite_store import SqliteStore

    return SqliteStore(Path(address), rules)


def check_rules(address: str, found: object, rules: Past) -> None:
    """Raise `StoreError` unless the store's description is that of these rules."""
    wanted = description(rules)
    if found == wanted:
        return
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise StoreError(f"{address} is no history store of this version: give another place and fill it")
    differing = " and ".join(name for name, value in wanted.items() if found.get(name) != value)
    raise StoreError(
        f"{address} was made for other options of {differing} than the model's: give another place, "
        "and fill it by `musenet fill`"
    )


def description(rules: Past) -> dict[str, object]:
    """What a store notes of itself."""
    return {
        "format": FORMAT,
        "history": rules.history.model_dump(mode="json"),
        "repeat": None if rules.repeat is None else rules.repeat.model_dump(mode="json"),
    }
