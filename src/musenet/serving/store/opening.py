"""Opening a history store: a SQLite file on one machine, Valkey or Redis for several servers."""

from pathlib import Path

from musenet.errors import StoreError
from musenet.serving.store.history import WritableStore
from musenet.serving.store.public_address import PASSWORD_VARIABLE, USER_VARIABLE, public
from musenet.serving.store.rules import HistoryRules

NETWORK = ("redis://", "rediss://", "valkey://", "valkeys://", "unix://")


def open_store(address: str, rules: HistoryRules | None, retention: float | None = None) -> WritableStore:
    """The store at this address, made if it does not exist.

    Args:
        address: the path of a SQLite file, or an URL such as `redis://host:6379/0` or `valkey://host:6379/0`.
        rules: which events count; a store keeps to those that it was made with. None opens one that exists.
        retention: seconds after which a repeat key that was not met again is forgotten; None for never.

    Raises:
        StoreError: if it cannot be opened, or was made for other rules.
    """
    if address.startswith(NETWORK):
        from musenet.serving.store.redis_store import RedisStore

        if public(address) != address:
            raise StoreError(
                f"--store {public(address)}: others can read what is in it; leave user and password out "
                f"and give them in ${USER_VARIABLE} and ${PASSWORD_VARIABLE}"
            )
        return RedisStore(address, rules, retention)
    if "://" in address:
        raise StoreError(
            f"--store {public(address)}: give a file's path, or an URL that begins with {', '.join(NETWORK)}"
        )
    from musenet.serving.store.sqlite_store import SqliteStore

    return SqliteStore(Path(address), rules, retention)


def open_existing(address: str, rules: HistoryRules) -> WritableStore:
    """The store at this address; raises `StoreError` as `open_store`, and if there is no such file."""
    if "://" not in address and not Path(address).is_file():
        raise StoreError(f"--store {address} does not exist: give the file of `musenet serve` or `load-history`")
    return open_store(address, rules)
