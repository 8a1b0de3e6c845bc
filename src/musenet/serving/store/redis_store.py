"""The shared history store: Valkey or Redis, a hash per user."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from types import TracebackType
from typing import Any

from musenet.errors import StoreError
from musenet.serving.store.history import NOTHING, UserEvent, UserHistory
from musenet.serving.store.rules import HistoryRules, check_rules, description
from musenet.serving.store.user_past import UserPast, add_all

PREFIX = "musenet:"
PAST, MARKS = "past", "marks"
WAIT_SECONDS = 5.0
_SCHEMES = {"valkey://": "redis://", "valkeys://": "rediss://"}


class RedisStore:
    """A history store that several servers share.

    An event enters by a transaction that is tried again if another server changed its user's past meanwhile. Whether
    what is kept outlives the database's own machine is the database's setting (`appendonly yes`).

    Args:
        address: URL of the database.
        rules: which events count.

    Raises:
        StoreError: if the database does not answer, or holds a store made for other rules.
    """

    def __init__(self, address: str, rules: HistoryRules) -> None:
        try:
            import redis
        except ImportError as error:
            raise StoreError(f"--store {_public(address)} needs the package redis: pip install redis") from error
        self._redis = redis
        self._address = _public(address)
        self._rules = rules
        url = next(
            (new + address.removeprefix(old) for old, new in _SCHEMES.items() if address.startswith(old)), address
        )
        with self._explained():
            self._database = redis.Redis.from_url(url, socket_timeout=WAIT_SECONDS, health_check_interval=30)
            self._database.set(PREFIX + "store", json.dumps(description(rules)), nx=True)
            found = json.loads(self._database.get(PREFIX + "store") or "null")
        check_rules(self._address, found, rules)

    def read(self, user: str, before: float | None) -> UserHistory:
        """The user's past as a request at this time knows it; nothing for a user without events."""
        with self._explained():
            content = self._database.hget(_name(user), PAST)
        return NOTHING if content is None else UserPast.decode(self._rules, content).before(before)

    def append(self, events: Sequence[UserEvent]) -> list[bool]:
        """Keep events, those of one user in one transaction."""
        added: dict[int, bool] = {}
        by_user: dict[str, list[int]] = {}
        for place, new in enumerate(events):
            by_user.setdefault(new.user, []).append(place)
        with self._explained():
            for user, places in by_user.items():
                added |= zip(places, self._add(user, [events[place] for place in places]), strict=True)
        return [added[place] for place in range(len(events))]

    def some_users(self, count: int) -> list[str]:
        """The first users that the database comes upon, in order of their ids."""
        with self._explained():
            names = list(islice(self._database.scan_iter(f"{_name('')}*", count=1000), count))
        return sorted(name.decode().removeprefix(_name("")) for name in names)

    def check(self) -> None:
        """Raise `StoreError` unless the database answers."""
        with self._explained():
            self._database.ping()

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def __enter__(self) -> "RedisStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add(self, user: str, events: Sequence[UserEvent]) -> list[bool]:
        name = _name(user)
        added: list[bool] = []

        def change(transaction: Any) -> None:
            nonlocal added
            content, marks = transaction.hmget(name, PAST, MARKS)
            past = UserPast(self._rules) if content is None else UserPast.decode(self._rules, content, marks)
            added = add_all({user: past}, events)
            content, marks = past.encode()
            transaction.multi()
            transaction.hset(name, mapping={PAST: content, MARKS: marks})

        self._database.transaction(change, name)
        return added

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (self._redis.RedisError, ValueError) as error:
            raise StoreError(f"the history store {self._address} does not answer ({error})") from error


def _name(user: str) -> str:
    return f"{PREFIX}user:{user}"


def _public(address: str) -> str:
    """The address without the password that it may hold."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
