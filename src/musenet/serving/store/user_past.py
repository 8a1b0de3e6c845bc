"""One user's past as a store keeps it: the last L events, a row per repeat key, and what was counted already.

Everything that a store decides is decided here, on plain values; a store only keeps the result, all of it or nothing.
Which events count, and when, is said by `HistoryRules`; rows equal in time, kind, item and attributes
are one event, as in preparation.
"""

import bisect
import json
import time as clock
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from musenet.dataset.roles import MICROSECONDS
from musenet.serving.store.history import PastEvent, RepeatKey, RepeatStatistics, UserEvent, UserHistory, microseconds
from musenet.serving.store.rules import HistoryRules
from musenet.serving.values import Value, text_of_value

BEHIND = 3600 * MICROSECONDS
"""A request may lie this far before the user's newest event and still get its exact past."""
REMEMBERED = 1000
"""An event that comes again is recognised until so many others of its user have come."""
_MARK, _MARK_BYTES = "Q", 8


@dataclass
class _Occurrences:
    """When a repeat key occurred, in microseconds."""

    settled: int = 0
    """How often before all that can still be asked about."""
    settled_last: int = 0
    times: list[int] = field(default_factory=list)
    """Those since, ascending."""

    def between(self, begin: int | None, end: int) -> RepeatStatistics | None:
        low = 0 if begin is None else bisect.bisect_left(self.times, begin)
        high = bisect.bisect_left(self.times, end)
        count = self.settled + high - low
        if not count:
            return None
        return RepeatStatistics(count, (self.times[high - 1] if high > low else self.settled_last) / MICROSECONDS)


class UserPast:
    """A user's past, bounded however many events come; `encode` and `decode` are its one form in every store.

    Args:
        rules: which events count.
    """

    def __init__(self, rules: HistoryRules) -> None:
        self._rules = rules
        # By time and then by mark, so that the order of arrival changes nothing.
        self._events: list[tuple[int, int, PastEvent]] = []
        self._repeats: dict[RepeatKey, _Occurrences] = {}
        self._marks = array(_MARK)
        self._newest: int | None = None

    def add(self, new: UserEvent) -> bool:
        """Take an event in, wherever in time it belongs; false if it is here already."""
        event = new.event
        assert event.time is not None
        time = microseconds(event.time)
        mark = _mark([time, event.kind, event.item, _texts(event.attributes)])
        marks = [mark, *([] if new.id is None else [_mark(new.id)])]
        if any(one in self._marks for one in marks):
            return False
        self._marks.extend(marks)
        del self._marks[: -2 * REMEMBERED]
        if self._rules.in_history(event.kind):
            bisect.insort(self._events, (time, mark, event), key=lambda entry: entry[:2])
        if self._rules.in_repeats(event.kind):
            bisect.insort(self._repeats.setdefault(self._rules.key_of(event), _Occurrences()).times, time)
        self._newest = time if self._newest is None else max(self._newest, time)
        self._settle(self._newest - BEHIND)
        return True

    def before(self, time: float | None) -> UserHistory:
        """What a request at this time (seconds) knows; at the present time, if None."""
        moment = microseconds(clock.time() if time is None else time)
        events, repeats = self._rules.span(repeats=False), self._rules.span(repeats=True)
        end = _first_from(self._events, moment - events.delay)
        begin = None if repeats.window is None else moment - repeats.window
        found = ((key, at.between(begin, moment - repeats.delay)) for key, at in self._repeats.items())
        return UserHistory(
            tuple(event for _, _, event in self._events[self._first_shown(end) : end]),
            {key: statistics for key, statistics in found if statistics is not None},
        )

    def _first_shown(self, end: int) -> int:
        """Where the last L of the first `end` events begin, those of the same time as the oldest included."""
        length = self._rules.history.length
        if length == 0 or end <= length:
            return end if length == 0 else 0
        return _first_from(self._events, self._events[end - length][0])

    def _settle(self, horizon: int) -> None:
        """Forget what no request from `horizon` on can tell apart any more."""
        events, repeats = self._rules.span(repeats=False), self._rules.span(repeats=True)
        del self._events[: self._first_shown(_first_from(self._events, horizon - events.delay))]
        border = horizon - (repeats.delay if repeats.window is None else repeats.window)
        for key, at in list(self._repeats.items()):
            old = bisect.bisect_left(at.times, border)
            if old and repeats.window is None:
                at.settled += old
                at.settled_last = max(at.settled_last, at.times[old - 1])
            del at.times[:old]
            if not at.times and not at.settled:
                del self._repeats[key]

    def encode(self) -> tuple[str, bytes]:
        """The past as JSON, and the marks of what was counted already, which only adding needs."""
        content = {
            "newest": self._newest,
            "events": [[time, mark, one.kind, one.item, one.attributes] for time, mark, one in self._events],
            "repeats": [[key, at.settled, at.settled_last, at.times] for key, at in self._repeats.items()],
        }
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")), self._marks.tobytes()

    @classmethod
    def decode(cls, rules: HistoryRules, content: str | bytes, marks: bytes = b"") -> "UserPast":
        """What `encode` made; without its marks it can be read, not added to."""
        past, found = cls(rules), json.loads(content)
        past._newest = found["newest"]
        for time, mark, kind, item, attributes in found["events"]:
            past._events.append((time, mark, PastEvent(item, kind, time / MICROSECONDS, attributes)))
        for key, settled, last, times in found["repeats"]:
            past._repeats[tuple(key)] = _Occurrences(settled, last, times)
        past._marks.frombytes(marks)
        return past


def add_all(pasts: Mapping[str, UserPast], events: Iterable[UserEvent]) -> list[bool]:
    """Take events in, each into its user's past; whether each was new."""
    return [pasts[new.user].add(new) for new in events]


def _first_from(events: Sequence[tuple[int, int, PastEvent]], time: int) -> int:
    """Place of the first event that does not lie before this time."""
    return bisect.bisect_left(events, time, key=lambda entry: entry[0])


def _texts(attributes: Mapping[str, Value]) -> dict[str, str]:
    """In the one form of each value; what is missing is left out."""
    texts = ((name, text_of_value(value)) for name, value in sorted(attributes.items()))
    return {name: text for name, text in texts if text is not None}


def _mark(content: str | list[Any]) -> int:
    """A number that no two of a user's events share: the first 64 bits of a checksum."""
    return int.from_bytes(blake2b(json.dumps(content).encode(), digest_size=_MARK_BYTES).digest(), "little")
