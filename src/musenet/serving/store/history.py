"""What a user did before a request, and what of it counts: the definitions of preparation on live events.

An event counts before a moment t if it lies in [t - window, t - delay): strictly before, `history.delay` seconds
earlier still, and for repeats no longer ago than `repeat.window`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

from musenet.dataset.roles import MICROSECONDS
from musenet.recipe.history import Before, HistoryOptions
from musenet.recipe.repeat import RepeatOptions
from musenet.serving.values import Value, text_of_value

RepeatKey = tuple[str | None, ...]
"""The values of the key's columns as text (3 and 3.0 are `3`), in the key's order; None where missing."""

UNSEEN = "\x00unseen"
"""Stands for a value that training did not keep, where a history is filled from a prepared dataset."""


@dataclass(frozen=True, slots=True)
class PastEvent:
    """One event of a user."""

    item: str | None
    kind: str | None = None
    time: float | None = None
    """Seconds since 1970 in UTC; None if not known, and then it lies before every request."""
    attributes: Mapping[str, Value] = field(default_factory=dict)
    """Its columns that histories and repeat keys read, by the log's own names; the item id under its own, too."""


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


class HistoryStore(Protocol):
    """Who keeps the users' events. Every user may be asked for; one without events has the empty history."""

    def read(self, user: str, before: float | None) -> UserHistory:
        """What counts before this moment (seconds since 1970 in UTC), delay and window applied; None: before now.

        Raises:
            UserError: if the store cannot be read.
        """
        ...


@dataclass(frozen=True)
class Past:
    """Which events count, and as what: the part of the recipe that scorer and stores share."""

    history: HistoryOptions
    repeat: RepeatOptions | None

    @property
    def columns(self) -> list[str]:
        """What has to be known of an event: the columns of histories and of the repeat key, each once."""
        return list(dict.fromkeys([*self.history.columns, *(self.repeat.key if self.repeat else [])]))

    def in_history(self, kind: str | None) -> bool:
        """Whether histories hold events of this kind."""
        return self.history.kinds is None or kind in self.history.kinds

    def in_repeats(self, kind: str | None) -> bool:
        """Whether repeats count events of this kind."""
        return self.repeat is not None and (self.repeat.kinds is None or kind in self.repeat.kinds)

    def key_of(self, event: PastEvent) -> RepeatKey:
        """The event's repeat key; empty without one."""
        key = self.repeat.key if self.repeat else []
        return tuple(text_of_value(event.attributes.get(name)) for name in key)

    def span(self, *, repeats: bool) -> Before:
        """Which events count before a moment, for histories or for repeats, in microseconds."""
        return Before.of(self.history.delay, self.repeat.window if repeats and self.repeat else None)

    def summarise(self, events: Iterable[PastEvent], before: float | None) -> UserHistory:
        """What of these events, in any order, counts before a moment; all of them if None.

        Events without a time come first, in the order given.
        """
        ordered = sorted(events, key=lambda event: -float("inf") if event.time is None else event.time)
        of_history, of_repeats = self.span(repeats=False), self.span(repeats=True)
        shown = [event for event in ordered if self.in_history(event.kind) and _counts(event, before, of_history)]
        repeats: dict[RepeatKey, RepeatStatistics] = {}
        for event in ordered:
            if self.in_repeats(event.kind) and _counts(event, before, of_repeats):
                key = self.key_of(event)
                known = repeats.get(key)
                repeats[key] = RepeatStatistics(1 + (known.count if known else 0), event.time)
        return UserHistory(last(shown, self.history.length), repeats)


def last(ordered: list[PastEvent], length: int) -> tuple[PastEvent, ...]:
    """The last `length` events, and those of the same time as the oldest of them."""
    if length == 0:
        return ()
    begin = max(0, len(ordered) - length)
    for event, before in pairwise(reversed(ordered[: begin + 1])):
        if event.time is None or before.time != event.time:
            break
        begin -= 1
    return tuple(ordered[begin:])


def microseconds(time: float) -> int:
    """A time in seconds as preparation counts it."""
    return round(time * MICROSECONDS)


def _counts(event: PastEvent, before: float | None, span: Before) -> bool:
    if before is None or event.time is None:
        return True
    ago = microseconds(before) - microseconds(event.time)
    return ago > span.delay and (span.window is None or ago <= span.window)
