"""What following the mix keeps in a history store: requests that wait for answers, and what was learned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

Change = Callable[[str | None, "Sequence[Shown]"], str]
"""The new state, from the one before (None at first) and the requests that are learned from."""


@dataclass(frozen=True)
class Shown:
    """A request that was scored and shown, until its answer counts."""

    id: str
    time: int
    """Microseconds since 1970 in UTC."""
    items: list[str]
    """Of its candidates."""
    numbers: bytes
    """What learning from it takes, as whoever scored it wrote it down."""
    taken: frozenset[str] = frozenset()
    """The items that the user took."""


class MixStore(Protocol):
    """Who keeps requests until they are learned from, and what was learned, by the model that scored them.

    Servers and threads may share it. Each method raises `StoreError` if the store does not answer.
    """

    def add(self, model: str, shown: Shown) -> None:
        """Keep a request; one whose id is known already stays as it is."""
        ...

    def answer(self, taken: Sequence[tuple[str, str]]) -> list[bool]:
        """Note items that were taken, as pairs of request and item; whether each request still waits."""
        ...

    def read(self, model: str, before: int, count: int) -> tuple[str | None, bool]:
        """The state, and whether so many requests were shown before this moment (in microseconds) and wait."""
        ...

    def change(self, model: str, change: Change, before: int = 0, count: int = 0) -> bool:
        """Take the first `count` requests that were shown before a moment, and change the state by them.

        Both happen or neither does, whatever other servers do at once; nothing happens, and False is returned, while
        fewer wait. Requests are in order of time, those of one time in the order in which they came.
        """
        ...

    def keep_only(self, model: str) -> None:
        """Forget what is of other models."""
        ...
