"""A user's past in the slow and obvious way: keep every event for ever, look at all of them whenever asked."""

import json

from musenet.serving.store.history import PastEvent, RepeatKey, RepeatStatistics, UserEvent, UserHistory
from musenet.serving.store.rules import HistoryRules


class WholePast:
    def __init__(self, rules: HistoryRules) -> None:
        self.rules = rules
        self.events: list[PastEvent] = []
        self.sent: set[str] = set()

    def add(self, new: UserEvent) -> bool:
        identities = {content_of(new.event)} | ({f"id {new.id}"} if new.id is not None else set())
        if identities & self.sent:
            return False
        self.sent |= identities
        self.events.append(new.event)
        return True

    def before(self, time: float) -> UserHistory:
        history, repeat = self.rules.history, self.rules.repeat
        assert repeat is not None
        known = [event for event in self.events if event.time is not None and event.time < time - history.delay]
        shown = [event for event in known if history.kinds is None or event.kind in history.kinds]
        shown.sort(key=lambda event: event.time or 0.0)
        last = shown[-history.length :] if history.length else []
        repeats: dict[RepeatKey, list[float]] = {}
        for event in known:
            assert event.time is not None
            counts = repeat.kinds is None or event.kind in repeat.kinds
            if counts and (repeat.window is None or event.time >= time - repeat.window):
                key = tuple(str(event.attributes[name]) if event.attributes[name] else None for name in repeat.key)
                repeats.setdefault(key, []).append(event.time)
        return UserHistory(
            tuple(event for event in shown if last and (event.time or 0.0) >= (last[0].time or 0.0)),
            {key: RepeatStatistics(len(times), max(times)) for key, times in repeats.items()},
        )


def same(left: UserHistory, right: UserHistory) -> bool:
    """Equal, in whatever order what happened at once is listed."""
    return sorted(left.events, key=content_of) == sorted(right.events, key=content_of) and left.repeats == right.repeats


def content_of(event: PastEvent) -> str:
    return json.dumps([event.time, event.kind, event.item, event.attributes], separators=(",", ":"), sort_keys=True)
