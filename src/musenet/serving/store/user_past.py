"""One user's past as a store keeps it: rows of the last events, of each repeat key, and of what was counted already.

Everything that a store decides is decided here, on plain values and by looking at few rows, however many there are; a
store finds rows and keeps the `Change`, all of it or nothing. Which events count, and when, is said by `HistoryRules`;
rows equal in time, kind, item and attributes are one event, as in preparation.
"""

import json
import math
import time as clock
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

from pydantic_core import to_json

from musenet.dataset.roles import MICROSECONDS
from musenet.serving.store.history import PastEvent, RepeatKey, RepeatStatistics, UserEvent, UserHistory, microseconds
from musenet.serving.store.rules import HistoryRules
from musenet.serving.values import Value, text_of_value

BEHIND = 25 * 3600 * MICROSECONDS
"""A request may lie this far before the user's newest event and still get its exact past: clocks may be a day wrong."""
REMEMBERED_DAYS = 35
"""An event that comes again is recognised for at least so long after it came first, and for twice as long at most."""
MOST = 20_000
"""Of a user, so many repeat keys are kept, and so many events that can still be told apart by time: the newest."""
SLACK = 1.1
"""Surplus rows are removed many at once."""
TIES = MOST
"""Of what happened at the very time of the oldest event shown, so many are shown, too."""
_MARK_BYTES = 8


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event as rows hold it."""

    user: str
    time: int
    """In microseconds."""
    marks: tuple[int, ...]
    """Numbers of its content and, if it has one, of its id: it is known if one of them is."""
    content: str | None
    """None where histories do not hold it."""
    key: str | None
    """Its repeat key; None where repeats do not count it."""


@dataclass
class Change:
    """What adding events does to a user's rows."""

    newest: int
    marks: list[int] = field(default_factory=list)
    events: list[tuple[int, int, str]] = field(default_factory=list)
    """Time, mark and content."""
    events_from: int | None = None
    """Earlier rows are not needed any more."""
    recent: list[tuple[int, int, str]] = field(default_factory=list)
    """Time, mark and repeat key of what requests can still tell apart."""
    recent_from: int | None = None
    """Earlier rows are settled, or too old to count."""
    settled: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By repeat key, how often it occurred before all that, and when last: the new totals."""
    new_keys: int = 0
    dropped_keys: list[str] = field(default_factory=list)


class PastRows(Protocol):
    """A user's rows, as they are before a change."""

    newest: int | None
    """Time of the newest event; None without any."""
    events: int
    recent: int
    keys: int
    """How many rows there are of each."""

    def known(self, marks: Collection[int]) -> set[int]:
        """Those of these marks that are remembered."""
        ...

    def event_time(self, before: int | None, place: int) -> int | None:
        """Time of the n-th newest event before a time; None if there are fewer."""
        ...

    def recent_time(self, place: int) -> int | None:
        """Time of the n-th newest recent row; None if there are fewer."""
        ...

    def recent_before(self, time: int) -> list[tuple[int, str]]:
        """Time and key of the recent rows before a time."""
        ...

    def settled(self, keys: Collection[str]) -> dict[str, tuple[int, int]]:
        """Count and last time of those of these keys that have some."""
        ...

    def oldest_keys(self, count: int) -> list[str]:
        """The settled keys that were met longest ago."""
        ...


def arrival(rules: HistoryRules, new: UserEvent) -> Arrival:
    """An event on its way into rows."""
    event = new.event
    assert event.time is not None
    time = microseconds(event.time)
    marks = [_mark([time, event.kind, event.item, _texts(event.attributes)])]
    if new.id is not None:
        marks.append(_mark(new.id))
    shown = rules.history.length > 0 and rules.in_history(event.kind)
    return Arrival(
        new.user,
        time,
        tuple(marks),
        _json([event.kind, event.item, event.attributes]) if shown else None,
        _json(rules.key_of(event)) if rules.in_repeats(event.kind) else None,
    )


def generation_of(seconds: float) -> int:
    """Which generation of marks is made at this time; it and the one before are remembered."""
    return int(seconds // (REMEMBERED_DAYS * 86_400))


def remembered_from(seconds: float) -> float:
    """What came since is recognised if it comes again at this time."""
    return (generation_of(seconds) - 1) * REMEMBERED_DAYS * 86_400.0


def by_user(arrivals: Sequence[Arrival]) -> dict[str, list[int]]:
    """The places of each user's events."""
    places: dict[str, list[int]] = {}
    for place, one in enumerate(arrivals):
        places.setdefault(one.user, []).append(place)
    return places


def take_in(rules: HistoryRules, rows: PastRows, arrivals: Sequence[Arrival]) -> tuple[list[bool], Change | None]:
    """Take a user's events in, wherever in time they belong: whether each was new, and what changes."""
    known = rows.known({mark for one in arrivals for mark in one.marks}) if rows.newest is not None else set()
    new: list[bool] = []
    marks: list[int] = []
    for one in arrivals:
        new.append(known.isdisjoint(one.marks))
        if new[-1]:
            known.update(one.marks)
            marks += one.marks
    fresh = [one for one, is_new in zip(arrivals, new, strict=True) if is_new]
    if not fresh:
        return new, None
    newest = max([one.time for one in fresh] + ([] if rows.newest is None else [rows.newest]))
    change = Change(newest, marks)
    # An event from the future, by this clock, settles nothing that requests of today ask about.
    horizon = min(newest, microseconds(clock.time())) - BEHIND
    _change_events(rules, rows, fresh, horizon, change)
    _change_repeats(rules, rows, fresh, horizon, change)
    return new, change


def _change_events(rules: HistoryRules, rows: PastRows, fresh: Sequence[Arrival], horizon: int, change: Change) -> None:
    """Of the events before all requests to come, only the last L are kept, and those of the oldest's time."""
    shown = sorted((one.time, one.marks[0], one.content) for one in fresh if one.content is not None)
    length, before = rules.history.length, horizon - rules.span(repeats=False).delay
    cuts = [None if rows.newest is None else rows.event_time(before, length)]
    cuts.append(_newest_time([one for one in shown if one[0] < before], length))
    if rows.events + len(shown) > (length + MOST) * SLACK:
        cuts += [rows.event_time(None, length + MOST), _newest_time(shown, length + MOST)]
    change.events_from = max((cut for cut in cuts if cut is not None), default=None)
    change.events = [one for one in shown if change.events_from is None or one[0] >= change.events_from]


def _change_repeats(
    rules: HistoryRules, rows: PastRows, fresh: Sequence[Arrival], horizon: int, change: Change
) -> None:
    """What no request can tell apart any more becomes a count of its key; with a window it is forgotten."""
    counted = sorted((one.time, one.marks[0], one.key) for one in fresh if one.key is not None)
    if rules.repeat is None or (not counted and not rows.recent):
        return
    span = rules.span(repeats=True)
    border = horizon - (span.delay if span.window is None else span.window)
    if rows.recent + len(counted) > MOST * SLACK:
        surplus = [rows.recent_time(MOST), _newest_time(counted, MOST)]
        border = max([border, *(time for time in surplus if time is not None)])
    change.recent_from = border
    change.recent = [one for one in counted if one[0] >= border]
    if span.window is not None:
        return
    old = [(time, key) for time, _, key in counted if time < border] + (
        rows.recent_before(border) if rows.recent else []
    )
    totals = rows.settled({key for _, key in old}) if old and rows.keys else {}
    change.new_keys = -len(totals)
    for time, key in old:
        count, last = totals.get(key, (0, time))
        totals[key] = count + 1, max(last, time)
    change.new_keys += len(totals)
    change.settled = totals
    if rows.keys + change.new_keys > MOST * SLACK:
        oldest = rows.oldest_keys(rows.keys + change.new_keys - MOST)
        change.dropped_keys = [key for key in oldest if key not in totals]  # what was just met again is not old


def _newest_time(ordered: Sequence[tuple[int, int, str]], place: int) -> int | None:
    """Time of the n-th newest; None if there are fewer."""
    return ordered[-place][0] if 0 < place <= len(ordered) else None


@dataclass(frozen=True)
class Asked:
    """The rows that a request asks for, in microseconds."""

    events_end: int
    repeats_begin: int | None
    repeats_end: int
    keys_begin: int | None
    """Settled keys that were last met before are forgotten."""


def asked(rules: HistoryRules, before: float | None, retention: float | None) -> Asked:
    """What a request at this time (seconds) knows; at the present time, if None."""
    return asked_at(rules, microseconds(clock.time() if before is None else before), retention)


def asked_at(rules: HistoryRules, moment: int, retention: float | None) -> Asked:
    """As `asked`, of a moment in microseconds."""
    events, repeats = rules.span(repeats=False), rules.span(repeats=True)
    kept = None if retention is None else moment - microseconds(retention)
    begin = kept if repeats.window is None else moment - repeats.window
    return Asked(moment - events.delay, begin, moment - repeats.delay, kept)


def user_history(events: Iterable[tuple[int, str]], *counts: Sequence[tuple[str, int, int]]) -> UserHistory:
    """Rows as a scorer is told of them.

    Args:
        events: time and content, oldest first.
        counts: repeat key, count and last time; settled ones and recent ones.
    """
    repeats: dict[RepeatKey, RepeatStatistics] = {}
    for rows in counts:
        keys = json.loads(f"[{','.join(row[0] for row in rows)}]")
        for key, (_, count, last) in zip(map(tuple, keys), rows, strict=True):
            known = repeats.get(key, RepeatStatistics(0, -math.inf))
            repeats[key] = RepeatStatistics(count + known.count, max(last / MICROSECONDS, known.last_time or 0.0))
    return UserHistory(tuple(_event(time, content) for time, content in events), repeats)


def _event(time: int, content: str) -> PastEvent:
    kind, item, attributes = json.loads(content)
    return PastEvent(item, kind, time / MICROSECONDS, attributes)


def _json(content: object) -> str:
    return to_json(content).decode()


def _texts(attributes: Mapping[str, Value]) -> dict[str, str]:
    """In the one form of each value; what is missing is left out."""
    texts = ((name, text_of_value(value)) for name, value in sorted(attributes.items()))
    return {name: text for name, text in texts if text is not None}


def _mark(content: str | list[Any]) -> int:
    """A number that no two of a user's events share: the first 64 bits of a checksum."""
    digest = blake2b(to_json(content), digest_size=_MARK_BYTES).digest()
    return int.from_bytes(digest, "little", signed=True)
