"""What counts of a user's events, against a plain account of the definitions."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musenet.errors import DataError
from musenet.recipe.history import HistoryOptions
from musenet.recipe.repeat import RepeatOptions
from musenet.serving.scorer.repeats import checksums, count_repeats, may_be_among
from musenet.serving.store.history import PastEvent, UserHistory
from musenet.serving.store.rules import HistoryRules

KINDS = ["click", "buy", None]
EVENTS = st.lists(
    st.builds(
        lambda kind, time, brand, city: PastEvent("i", kind, time, {"brand": brand, "city": city}),
        st.sampled_from(KINDS),
        st.none() | st.integers(0, 12).map(float),
        st.sampled_from([1, 2, None]),
        st.sampled_from(["rome", "oslo", None]),
    ),
    max_size=12,
)


def past(**changes: Any) -> HistoryRules:
    history = {"columns": ["brand"], "length": 3, "kinds": ["click", "buy"], "delay": 1.0}
    repeat = {"key": ["brand", "city"], "optional": ["city"], "kinds": ["buy"], "window": 6.0}
    return HistoryRules(
        HistoryOptions.model_validate(history | changes.get("history", {})),
        RepeatOptions.model_validate(repeat | changes.get("repeat", {})),
    )


@given(EVENTS, st.integers(0, 14).map(float))
@settings(max_examples=150, deadline=None)
def test_history_and_repeats_are_what_lies_in_their_spans(events: list[PastEvent], before: float) -> None:
    found = past().summarise(events, before)

    def earlier(event: PastEvent, window: float) -> bool:
        return event.time is None or before - window <= event.time < before - 1

    counted = [e for e in events if e.kind in ("click", "buy") and earlier(e, 1e9)]
    counted.sort(key=lambda event: -1 if event.time is None else event.time)
    assert list(found.events) == counted[len(counted) - len(found.events) :]
    cut = len(counted) - 3
    assert len(found.events) >= min(3, len(counted))
    for surplus in found.events[:-3]:  # what happened at once is for the scorer to order
        assert surplus.time == counted[cut].time
    if len(counted) > len(found.events):
        next_older = counted[len(counted) - len(found.events) - 1].time
        assert next_older is None or next_older != found.events[0].time
    repeats = [e for e in events if e.kind == "buy" and earlier(e, 6.0)]
    keys = [
        (None if e.attributes["brand"] is None else str(e.attributes["brand"]), e.attributes["city"]) for e in repeats
    ]
    assert {key: one.count for key, one in found.repeats.items()} == Counter(keys)


@given(EVENTS, st.integers(0, 14).map(float))
@settings(max_examples=150, deadline=None)
def test_a_candidate_repeats_by_the_columns_that_it_has(events: list[PastEvent], before: float) -> None:
    candidates = [("1", "rome"), ("1", None), (None, "rome"), ("2", "oslo"), ("2", None), ("3", "rome"), (None, None)]
    columns = list(zip(*candidates, strict=True))
    known = past().summarise(events, before)
    found = count_repeats(past(), len(candidates), lambda: columns, known, before)
    assert count_repeats(past(), 1, lambda: [("1",), ("rome",)], known, before).count[0] == found.count[0]
    for place, (brand, city) in enumerate(candidates):
        same = [
            event.time
            for event in events
            if brand is not None
            and event.kind == "buy"
            and str(event.attributes["brand"]) == brand
            and (city is None or event.attributes["city"] == city)
            and (event.time is None or before - 6 <= event.time < before - 1)
        ]
        assert found.count[place] == len(same)
        assert found.features[place, 0] == bool(same)
        times = [time for time in same if time is not None]
        ago = np.log((1 + before - max(times)) / 86401) / 2 if times else 0.0
        assert found.features[place, 2] == pytest.approx(ago, rel=1e-6)


KEYS = st.lists(st.tuples(st.none() | st.text(max_size=2), st.none() | st.text(max_size=2)))


@given(KEYS, KEYS)
@settings(max_examples=100, deadline=None)
def test_no_key_that_is_known_or_incomplete_is_passed_over(
    keys: list[tuple[str | None, ...]], known: list[tuple[str | None, ...]]
) -> None:
    may = may_be_among(checksums(keys), known)
    assert all(may[place] for place, key in enumerate(keys) if None in key or key in known)


def test_checksums_tell_most_keys_apart() -> None:
    may = may_be_among(checksums(("a", str(one)) for one in range(1000)), [("a", str(one)) for one in range(990, 1010)])
    assert may.tolist() == [False] * 990 + [True] * 10


def test_without_events_or_a_key_nothing_repeats() -> None:
    assert past().summarise([], 5.0) == UserHistory()
    none = HistoryRules(HistoryOptions(), None)
    features = count_repeats(none, 0, list, UserHistory(), 5.0).features
    assert features.shape == (0, 3)


def test_a_history_of_length_zero_is_empty() -> None:
    event = PastEvent("i", "click", 1.0, {"brand": 1})
    assert past(history={"length": 0}).summarise([event], 9.0).events == ()


def test_a_window_within_the_delay_is_refused() -> None:
    with pytest.raises(DataError, match=r"repeat\.window .* must be longer than history\.delay"):
        past(repeat={"window": 1.0}).summarise([PastEvent("i", "buy", 1.0)], 9.0)
