"""What came before a request, computed in the slow and obvious way, for comparison."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Repeats:
    indicator: bool
    count: int
    recency: float


def distinct_events(rows: Iterable[Row], attributes: Sequence[str], kinds: Sequence[str] | None) -> list[Row]:
    """Events of these kinds; rows equal in user, time, kind, item and attributes are one event."""
    seen = {}
    for row in rows:
        if kinds is None or row["_kind"] in kinds:
            identity = (row["_user"], row["_time"], row["_kind"], row["_item"], *(row[name] for name in attributes))
            seen[identity] = row
    return list(seen.values())


def known(events: Iterable[Row], user: Any, time: int, delay: int, window: int | None) -> list[Row]:
    """The user's events strictly before `time - delay`, and not before `time - window`."""
    return [
        event
        for event in events
        if event["_user"] == user
        and event["_time"] < time - delay
        and (window is None or event["_time"] >= time - window)
    ]


def key_of(row: Row, key: Sequence[str]) -> tuple[Any, ...] | None:
    values = tuple(row[name] for name in key)
    return None if any(value is None for value in values) else values


def repeats(
    events: list[Row],
    candidate: Row,
    time: int,
    key: Sequence[str],
    delay: int,
    window: int | None,
    optional: Sequence[str] = (),
) -> Repeats:
    """Whether, how often, and how long ago the candidate's key was met."""
    key = [name for name in key if not (name in optional and candidate[name] is None)]
    wanted = key_of(candidate, key)
    same = [
        event["_time"]
        for event in known(events, candidate["_user"], time, delay, window)
        if wanted is not None and key_of(event, key) == wanted
    ]
    recency = (time - max(same)) / 1e6 if same else math.nan
    return Repeats(bool(same), len(same), recency)


def fraction(events: list[Row], user: Any, time: int, key: Sequence[str], delay: int, window: int | None) -> float:
    """Share of the known events whose key the user had before them."""
    earlier = known(events, user, time, delay, window)
    if not earlier:
        return math.nan
    again = 0
    for event in earlier:
        wanted = key_of(event, key)
        again += wanted is not None and any(
            key_of(other, key) == wanted for other in known(events, user, event["_time"], 0, window)
        )
    return again / len(earlier)
