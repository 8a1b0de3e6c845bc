"""What users did, what a scorer is told of it, and who keeps it."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from musenet.dataset.roles import MICROSECONDS
from musenet.serving.store.mix import MixStore
from musenet.serving.values import Value

RepeatKey = tuple[str | None, ...]
"""The values of the key's columns as text (3 and 3.0 are `3`), in the key's order; None where missing."""


@dataclass(frozen=True, slots=True)
class PastEvent:
    """One event of a user."""

    item: str | None
    kind: str | None = None
    time: float | None = None
    """Seconds since 1970 in UTC; None if not known, and then it lies before every request."""
    attributes: Mapping[str, Value] = field(default_factory=dict)
    """Its columns that histories and repeat keys read, by the log's own names; the item id under its own, too."""


@dataclass(frozen=True)
class UserEvent:
    """An event and whose it is, on its way into a store."""

    user: str
    event: PastEvent
    """With a time, and with the attributes that are looked up from its item."""
    id: str | None = None
    """What makes it the same event when it is sent again; its content alone, if None."""


@dataclass(frozen=True, slots=True)
class RepeatStatistics:
    """How often the user had this before, and when last (seconds since 1970 in UTC; None if not known)."""

    count: int
    last_time: float | None = None


@dataclass(frozen=True, slots=True)
class UserHistory:
    """What is known of a user before a moment."""

    events: tuple[PastEvent, ...] = ()
    """The last L events, oldest first, and those that happened in the same microsecond as the oldest of them: the
    scorer orders what happened at once, and cuts, as preparation does."""
    repeats: Mapping[RepeatKey, RepeatStatistics] = field(default_factory=dict)


NOTHING = UserHistory()


@dataclass(frozen=True)
class Filled:
    """That a store was filled from a log."""

    log: str
    """What tells the log's state from others."""
    since: int | None
    """Microseconds: what lies before was in already; None if nothing was."""
    until: int
    """Microseconds: all that lies before is in."""
    events: int
    """How many of the log's events lie before that."""
    begun: float
    """When filling began, in seconds since 1970."""
    finished: bool


@dataclass(frozen=True)
class StoredRows:
    """Rows of several users as a store keeps them."""

    user: NDArray[np.int64]
    """(rows,) whose a row is: a place among the users asked for."""
    time: NDArray[np.int64]
    """(rows,) microseconds."""
    content: pa.Array
    """(rows,) JSON: of an event its attributes; of a repeat key its values."""
    count: NDArray[np.int64]
    """(rows,) how many events a row stands for."""


@dataclass(frozen=True)
class StoredPasts:
    """What a store knows of several users."""

    events: StoredRows
    """At least the last L before each moment asked about."""
    recent: StoredRows
    """Repeat keys of events that requests can tell apart."""
    settled: StoredRows
    """How often each repeat key occurred before all that; `time` is of the last."""
    newest: NDArray[np.int64]
    """(users,) microseconds of each user's newest event; before all times for one without any."""
    retention: int | None
    """Microseconds after which a key that was not met again is forgotten."""


class HistoryStore(Protocol):
    """Who keeps the users' events. Every user may be asked for; one without events has the empty history."""

    def read(self, user: str, before: float | None) -> UserHistory:
        """What counts before this moment (seconds since 1970 in UTC), delay and window applied; None: before now.

        Raises:
            UserError: if the store cannot be read.
        """
        ...


class BulkHistoryStore(HistoryStore, Protocol):
    """One that many users are asked for at once."""

    def read_many(self, users: Sequence[str], first: Sequence[int], last: Sequence[int]) -> StoredPasts:
        """What requests of these users ask for, the first and the last of each at these moments (microseconds).

        Raises:
            UserError: if the store cannot be read.
        """
        ...


@runtime_checkable
class ItemStore(Protocol):
    """Who keeps the items that were added since an export; each method raises `StoreError` if it cannot."""

    def put_items(self, items: Mapping[str, Mapping[str, Value]]) -> None:
        """Keep the columns of these items, by id, in place of what was known of them: all or none."""
        ...

    def items_since(self, version: int) -> tuple[int, dict[str, Mapping[str, Value]]]:
        """What was put since a version (all, since 0), and the version that there is now."""
        ...


class WritableStore(BulkHistoryStore, ItemStore, AbstractContextManager["WritableStore"], Protocol):
    """A store that events are added to; threads may share it.

    Every method raises `StoreError` while the store does not answer.
    """

    def append(self, events: Sequence[UserEvent]) -> list[bool]:
        """Keep events, whatever their order; whether each was new.

        What is kept when this returns outlives the process. An event comes in whole or not at all, and once however
        often it is sent; after an error, send all again.
        """
        ...

    def some_users(self, count: int) -> list[str]:
        """A few of the users that have a past."""
        ...

    def forget(self, user: str) -> bool:
        """Remove all that is known of a user; whether there was anything."""
        ...

    def backup(self, out: Path) -> None:
        """Write a copy that can be opened as a store, while others go on reading and adding."""
        ...

    @property
    def mix(self) -> MixStore:
        """Where following the mix of scenarios keeps what it knows."""
        ...

    @property
    def begun(self) -> float:
        """When the store was made, in seconds since 1970."""
        ...

    @property
    def filled(self) -> Filled | None:
        """What a log brought last; None if none ever did."""
        ...

    @filled.setter
    def filled(self, filled: Filled) -> None: ...

    def check(self) -> None:
        """Raise `StoreError` unless the store answers."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


def microseconds(time: float) -> int:
    """A time in seconds as preparation counts it."""
    return round(time * MICROSECONDS)
