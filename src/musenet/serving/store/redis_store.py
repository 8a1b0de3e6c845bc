"""The shared history store: Valkey or Redis.

    musenet:store           JSON: the rules that it was made for
    musenet:begun           when it was made
    musenet:filled          JSON: what a log brought last
    musenet:checked         when it was last looked whether it takes writes
    musenet:items           hash: JSON of the columns of each item that was added
    musenet:items:versions  sorted set: these items by the version that brought them last
    musenet:items:version   the newest version

Of users see `redis_rows`, of the mix of scenarios `redis_mix`.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from musenet.errors import StoreError, missing_extra
from musenet.serving.store.history import Filled, StoredPasts, UserEvent, UserHistory, microseconds
from musenet.serving.store.public_address import PASSWORD_VARIABLE, USER_VARIABLE, public
from musenet.serving.store.redis_mix import RedisMix
from musenet.serving.store.redis_rows import PREFIX, RedisRows, read_history, read_rows, user_key
from musenet.serving.store.rules import HistoryRules, check_rules, description
from musenet.serving.store.user_past import Arrival, arrival, asked, asked_at, by_user, generation_of, take_in
from musenet.serving.values import Value

WAIT_SECONDS = 5.0
DESCRIPTION, BEGUN, FILLED = PREFIX + "store", PREFIX + "begun", PREFIX + "filled"
CHECKED, NEVER = PREFIX + "checked", "noeviction"
ITEMS, VERSIONS, VERSION = PREFIX + "items", PREFIX + "items:versions", PREFIX + "items:version"
_SCHEMES = {"valkey://": "redis://", "valkeys://": "rediss://"}


class RedisStore:
    """A history store that several servers share.

    An event enters by a transaction that is tried again if another server changed its user's past meanwhile. Whether
    what is kept outlives the database's own machine is the database's setting (`appendonly yes`).

    Args:
        address: URL of the database.
        rules: which events count; None for those that the store was made for, and then it must exist.
        retention: seconds after which a repeat key that was not met again is forgotten; None for never.

    Raises:
        StoreError: if the database does not answer, or holds a store made for other rules.
    """

    def __init__(self, address: str, rules: HistoryRules | None, retention: float | None = None) -> None:
        try:
            import redis
        except ImportError as error:
            raise missing_extra(f"--store {public(address)} needs the package redis", "serve") from error
        self._redis = redis
        self._address, self._retention = public(address), retention
        url = next(
            (new + address.removeprefix(old) for old, new in _SCHEMES.items() if address.startswith(old)), address
        )
        with self._explained():
            self._database: Any = redis.Redis.from_url(
                url,
                socket_timeout=WAIT_SECONDS,
                health_check_interval=30,
                username=os.environ.get(USER_VARIABLE),
                password=os.environ.get(PASSWORD_VARIABLE),
            )
            if rules is not None:
                self._database.set(DESCRIPTION, json.dumps(description(rules)), nx=True)
                self._database.set(BEGUN, time.time(), nx=True)
            found = json.loads(self._database.get(DESCRIPTION) or "null")
        self._rules = check_rules(self._address, found, rules)

    def read(self, user: str, before: float | None) -> UserHistory:
        """The user's past as a request at this time knows it; nothing for a user without events."""
        wanted = asked(self._rules, before, self._retention)
        with self._explained():
            return read_history(self._database, self._rules, user, wanted)

    def read_many(self, users: Sequence[str], first: Sequence[int], last: Sequence[int]) -> StoredPasts:
        """What requests of these users between two moments ask for."""
        asked_first, asked_last = (
            [asked_at(self._rules, moment, self._retention) for moment in moments] for moments in (first, last)
        )
        with self._explained():
            rows = read_rows(self._database, self._rules, users, asked_first, asked_last)
        return StoredPasts(*rows, None if self._retention is None else microseconds(self._retention))

    def append(self, events: Sequence[UserEvent]) -> list[bool]:
        """Keep events, those of one user in one transaction."""
        arrivals = [arrival(self._rules, new) for new in events]
        added = [False] * len(arrivals)
        with self._explained():
            for user, places in by_user(arrivals).items():
                new = self._add(user, [arrivals[place] for place in places])
                for place, is_new in zip(places, new, strict=True):
                    added[place] = is_new
        return added

    @property
    def mix(self) -> RedisMix:
        """Where following the mix of scenarios keeps what it knows."""
        return RedisMix(self._database, self._explained)

    def put_items(self, items: Mapping[str, Mapping[str, Value]]) -> None:
        """Keep the columns of these items in place of what was known of them."""

        def change(transaction: Any) -> None:
            version = int(transaction.get(VERSION) or 0) + 1
            transaction.multi()
            transaction.set(VERSION, version)
            transaction.hset(ITEMS, mapping={item: json.dumps(dict(columns)) for item, columns in items.items()})
            transaction.zadd(VERSIONS, dict.fromkeys(items, version))

        with self._explained():
            self._database.transaction(change, VERSION)

    def items_since(self, version: int) -> tuple[int, dict[str, Mapping[str, Value]]]:
        """What was put since a version, and the version that there is now."""
        with self._explained():
            now = int(self._database.get(VERSION) or 0)
            if now == version:
                return now, {}
            names = self._database.zrangebyscore(VERSIONS, f"({version}", "+inf")
            contents = self._database.hmget(ITEMS, names) if names else []
        return now, {name.decode(): json.loads(content) for name, content in zip(names, contents, strict=True)}

    def forget(self, user: str) -> bool:
        """Remove all that is known of a user; whether there was anything."""
        with self._explained():
            rows = RedisRows(self._database, user, self._generation)
            found: int = self._database.delete(*rows.names)
        return found > 0

    def backup(self, out: Path) -> None:
        """Refused: the database itself writes copies."""
        raise StoreError(f"{self._address} is backed up by the database itself: use its BGSAVE or its append-only file")

    @property
    def begun(self) -> float:
        """When the store was made, in seconds since 1970."""
        with self._explained():
            return float(self._database.get(BEGUN))

    @property
    def filled(self) -> Filled | None:
        """What a log brought; None if none ever did."""
        with self._explained():
            found = self._database.get(FILLED)
        return None if found is None else Filled(**json.loads(found))

    @filled.setter
    def filled(self, filled: Filled) -> None:
        with self._explained():
            self._database.set(FILLED, json.dumps(asdict(filled)))

    def some_users(self, count: int) -> list[str]:
        """The first users that the database comes upon, in order of their ids."""
        with self._explained():
            names = list(islice(self._database.scan_iter(f"{user_key('')}*", count=1000), count))
        return sorted(name.decode().removeprefix(user_key("")) for name in names)

    def check(self) -> None:
        """Raise `StoreError` unless the database answers, keeps what is written, and is still the same store."""
        with self._explained():
            self._database.set(CHECKED, time.time())
            found = json.loads(self._database.get(DESCRIPTION) or "null")
            memory = self._database.info("memory")
        check_rules(self._address, found, self._rules)
        policy = memory.get("maxmemory_policy", NEVER)
        if memory.get("maxmemory") and policy != NEVER:
            raise StoreError(
                f"the history store {self._address} evicts data when its memory is full "
                f"(maxmemory-policy {policy}): set {NEVER}"
            )

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def __enter__(self) -> "RedisStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _generation(self) -> int:
        return generation_of(time.time())

    def _add(self, user: str, arrivals: Sequence[Arrival]) -> list[bool]:
        added: list[bool] = []

        def change(transaction: Any) -> None:
            nonlocal added
            rows = RedisRows(transaction, user, self._generation)
            added, changed = take_in(self._rules, rows, arrivals)
            transaction.multi()
            if changed is not None:
                rows.save(changed, self._retention)

        self._database.transaction(change, user_key(user))
        return added

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (self._redis.RedisError, ValueError) as error:
            raise StoreError(f"the history store {self._address} does not answer ({error})") from error
