"""Following the mix of scenarios on Valkey or Redis.

    musenet:arrivals       how many requests came
    musenet:mix            set: models that something is kept of
    musenet:mix:M          what model M's mix has learned
    musenet:shown:M        sorted set: requests that wait, by their time; order of arrival and id
    musenet:waiting:R      hash: what is kept of request R
    musenet:taken:R        set: items of request R that were taken

Members of the sorted set that have one score are in order of their bytes, which begin with the order of arrival.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from musenet.serving.store.mix import Change, Shown
from musenet.serving.store.redis_rows import PREFIX

MODELS, ARRIVALS = f"{PREFIX}mix", f"{PREFIX}arrivals"


class RedisMix:
    """See `MixStore`.

    Args:
        database: a client.
        explained: makes `StoreError` of what goes wrong.
    """

    def __init__(self, database: Any, explained: Callable[[], AbstractContextManager[None]]) -> None:
        self._database, self._explained = database, explained

    def add(self, model: str, shown: Shown) -> None:
        """Keep a request; one whose id is known already stays as it is."""

        def change(transaction: Any) -> None:
            known = transaction.exists(_waiting(shown.id))
            arrival = 0 if known else transaction.incr(ARRIVALS)
            transaction.multi()
            if known:
                return
            kept = {"time": shown.time, "items": json.dumps(shown.items), "numbers": shown.numbers}
            transaction.hset(_waiting(shown.id), mapping=kept)
            transaction.zadd(_shown(model), {f"{arrival:020d} {shown.id}": shown.time})
            transaction.sadd(MODELS, model)

        with self._explained():
            self._database.transaction(change, _waiting(shown.id))

    def answer(self, taken: Sequence[tuple[str, str]]) -> list[bool]:
        """Note items that were taken; whether each request still waits."""
        waits: list[bool] = []

        def change(transaction: Any) -> None:
            waits[:] = [bool(transaction.exists(_waiting(request))) for request, _ in taken]
            transaction.multi()
            for (request, item), is_waiting in zip(taken, waits, strict=True):
                if is_waiting:
                    transaction.sadd(_taken(request), item)

        with self._explained():
            self._database.transaction(change, *{_waiting(request) for request, _ in taken})
        return waits

    def read(self, model: str, before: int, count: int) -> tuple[str | None, bool]:
        """The state, and whether so many requests were shown before this moment and wait."""
        with self._explained():
            pipeline = self._database.pipeline(transaction=False)
            pipeline.get(_mix(model))
            pipeline.zcount(_shown(model), "-inf", f"({before}")
            state, waiting = pipeline.execute()
        return _text(state), waiting >= count

    def change(self, model: str, change: Change, before: int = 0, count: int = 0) -> bool:
        """Take the first `count` requests that were shown before a moment, and change the state by them.

        Requests leave together with a change of the state alone, so that watching it is enough.
        """
        changed = False

        def learn(transaction: Any) -> None:
            nonlocal changed
            members = transaction.zrangebyscore(_shown(model), "-inf", f"({before}", start=0, num=count)
            changed = len(members) == count
            state, requests = _text(transaction.get(_mix(model))), [self._read(transaction, one) for one in members]
            transaction.multi()
            if not changed:
                return
            transaction.set(_mix(model), change(state, requests))
            transaction.sadd(MODELS, model)
            if requests:
                transaction.zrem(_shown(model), *members)
                transaction.delete(*_kept_of([request.id for request in requests]))

        with self._explained():
            self._database.transaction(learn, _mix(model))
        return changed

    def keep_only(self, model: str) -> None:
        """Forget what is of other models."""
        with self._explained():
            for other in self._database.smembers(MODELS) - {model.encode()}:
                name = other.decode()
                ids = [_id_of(member) for member in self._database.zrange(_shown(name), 0, -1)]
                self._database.delete(_shown(name), _mix(name), *_kept_of(ids))
                self._database.srem(MODELS, other)

    def _read(self, transaction: Any, member: bytes) -> Shown:
        from redis import WatchError

        id_ = _id_of(member)
        kept, taken = transaction.hgetall(_waiting(id_)), transaction.smembers(_taken(id_))
        if not kept:
            raise WatchError("another server learned from it")
        items = frozenset(item.decode() for item in taken)
        return Shown(id_, int(kept[b"time"]), json.loads(kept[b"items"]), kept[b"numbers"], items)


def _mix(model: str) -> str:
    return f"{PREFIX}mix:{model}"


def _shown(model: str) -> str:
    return f"{PREFIX}shown:{model}"


def _waiting(request: str) -> str:
    return f"{PREFIX}waiting:{request}"


def _taken(request: str) -> str:
    return f"{PREFIX}taken:{request}"


def _kept_of(requests: Sequence[str]) -> list[str]:
    return [key for request in requests for key in (_waiting(request), _taken(request))]


def _id_of(member: bytes) -> str:
    return member.decode().split(" ", 1)[1]


def _text(found: bytes | None) -> str | None:
    return None if found is None else found.decode()
