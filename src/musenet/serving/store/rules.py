"""Which events count, and as what: the definitions of preparation on live events.

An event counts before a moment t if it lies in [t - window, t - delay): strictly before, `history.delay` seconds
earlier still, and for repeats no longer ago than `repeat.window`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from musenet.errors import StoreError
from musenet.recipe.history import Before, HistoryOptions
from musenet.recipe.repeat import RepeatOptions
from musenet.serving.store.history import PastEvent, RepeatKey, RepeatStatistics, UserHistory, microseconds
from musenet.serving.values import text_of_value

FORMAT = 2
"""Of what a store notes of itself."""


@dataclass(frozen=True)
class HistoryRules:
    """The part of the recipe that scorer and history stores share."""

    history: HistoryOptions
    repeat: RepeatOptions | None

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
        return UserHistory(_last(shown, self.history.length), repeats)


def _last(ordered: list[PastEvent], length: int) -> tuple[PastEvent, ...]:
    """The last `length` events, and those of the same time as the oldest of them."""
    if length == 0:
        return ()
    begin = max(0, len(ordered) - length)
    for event, before in pairwise(reversed(ordered[: begin + 1])):
        if event.time is None or before.time != event.time:
            break
        begin -= 1
    return tuple(ordered[begin:])


def _counts(event: PastEvent, before: float | None, span: Before) -> bool:
    if before is None or event.time is None:
        return True
    ago = microseconds(before) - microseconds(event.time)
    return ago > span.delay and (span.window is None or ago <= span.window)


def check_rules(address: str, found: object, rules: HistoryRules | None) -> HistoryRules:
    """The rules of a store by its description; raises `StoreError` unless they are the given ones, if any."""
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise StoreError(f"{address} is not a history store of this version: give another path and fill it")
    if rules is None:
        repeat = found["repeat"]
        return HistoryRules(
            HistoryOptions.model_validate(found["history"]),
            None if repeat is None else RepeatOptions.model_validate(repeat),
        )
    wanted = description(rules)
    if found == wanted:
        return rules
    differing = " and ".join(name for name, value in wanted.items() if found.get(name) != value)
    raise StoreError(
        f"{address} was made for other options of {differing} than the model's: give another place, "
        "and fill it by `musenet load-history`"
    )


def description(rules: HistoryRules) -> dict[str, object]:
    """What a store notes of itself."""
    return {
        "format": FORMAT,
        "history": rules.history.model_dump(mode="json"),
        "repeat": None if rules.repeat is None else rules.repeat.model_dump(mode="json"),
    }
