"""A kept past equals the slow reference on random streams: ties, late events, repeated ones, delay, window, kinds."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from musenet.dataset.roles import MICROSECONDS
from musenet.recipe.history import HistoryOptions
from musenet.recipe.repeat import RepeatOptions
from musenet.serving.store.history import NOTHING, PastEvent, UserEvent
from musenet.serving.store.rules import HistoryRules
from musenet.serving.store.user_past import BEHIND, REMEMBERED, UserPast
from serving.past_reference import WholePast, same
from serving.stores import MINUTE, START, click, simple_rules

TICK = 10 * MINUTE

any_rules = st.builds(
    lambda length, delay, window, history, repeat: HistoryRules(
        HistoryOptions(length=length, kinds=history, delay=delay),
        RepeatOptions.model_validate({"key": ["item_id", "brand"], "window": window, "kinds": repeat}),
    ),
    st.sampled_from([0, 1, 2, 5]),
    st.sampled_from([0.0, 600.0, 7200.0]),
    st.sampled_from([None, 9000.0, 4e4]),
    st.sampled_from([None, ["click"], ["buy"]]),
    st.sampled_from([None, ["click"]]),
)
events = st.builds(
    lambda tick, kind, item, brand, identity: UserEvent(
        "a", PastEvent(item, kind, START + tick * TICK, {"item_id": item, "brand": brand}), identity
    ),
    st.integers(0, 60),
    st.sampled_from(["click", "buy", None]),
    st.sampled_from(["1", "2", None]),
    st.sampled_from(["x", None]),
    st.sampled_from([None, "one", "two", "three"]),
)
streams = st.lists(st.one_of(events, st.integers(-6, 30)), min_size=10, max_size=60)


@settings(max_examples=150, deadline=None)
@given(any_rules, streams)
def test_equals_the_reference(rules: HistoryRules, stream: list[Any]) -> None:
    """Events in any order of time; numbers in the stream are requests, in ticks from the newest event on."""
    past, whole, newest = UserPast(rules), WholePast(rules), START
    for entry in stream:
        if isinstance(entry, UserEvent):
            assert past.add(entry) == whole.add(entry)
            newest = max(newest, entry.event.time or 0.0)
            continue
        past = UserPast.decode(rules, *past.encode())
        found = past.before(newest + entry * TICK)
        assert [event.time for event in found.events] == sorted(event.time or 0.0 for event in found.events)
        # Like the reference, and like a request that brings its whole history with it.
        for expected in (whole.before(newest + entry * TICK), rules.summarise(whole.events, newest + entry * TICK)):
            assert same(found, expected)


def test_a_request_does_not_know_what_happens_at_its_own_time() -> None:
    past = UserPast(simple_rules())
    past.add(click("a", 60))
    assert past.before(START + 60) == NOTHING
    later = past.before(START + 60.000001)
    assert [event.item for event in later.events] == ["1"]
    assert later.repeats["1",].count == 1


def test_what_is_kept_does_not_grow_with_the_number_of_events() -> None:
    past = UserPast(simple_rules(length=3))
    for minute in range(3 * REMEMBERED):
        past.add(click("a", minute * MINUTE, item=str(minute % 7)))
    content, marks = past.encode()
    assert len(past.before(START + 3 * REMEMBERED * MINUTE).events) == 3
    assert len(content) < 8000
    assert len(marks) <= 16 * REMEMBERED


def test_an_event_that_comes_again_is_recognised_by_its_id_and_by_its_content() -> None:
    past = UserPast(simple_rules())
    assert past.add(click("a", 1, "1", "first"))
    assert not past.add(click("a", 2, "2", "first"))
    assert not past.add(click("a", 1, "1", "second"))
    assert past.add(click("a", 1, "2", "second"))
    assert sum(statistics.count for statistics in past.before(START + 5).repeats.values()) == 2


def test_a_late_event_lands_in_its_place_even_behind_all_that_is_kept() -> None:
    past = UserPast(simple_rules(length=3))
    for minute in (0, 200, 300, 400, 500):
        past.add(click("a", minute * MINUTE))
    assert past.add(click("a", 250 * MINUTE, "late"))
    assert past.add(click("a", 50 * MINUTE, "later"))
    found = past.before(START + 600 * MINUTE)
    assert [event.item for event in found.events] == ["1", "1", "1"]
    assert found.repeats["later",].last_time == START + 50 * MINUTE
    behind = past.before(START + 500 * MINUTE - BEHIND / MICROSECONDS)
    assert [event.time for event in behind.events] == [START + minute * MINUTE for minute in (250, 300, 400)]


def test_without_repeats_nothing_is_counted() -> None:
    past = UserPast(HistoryRules(HistoryOptions(length=2), None))
    past.add(click("a", 0))
    assert past.before(START + 1).repeats == {}
    assert len(past.before(START + 1).events) == 1


def test_the_present_time_is_meant_where_no_time_is_said() -> None:
    past = UserPast(simple_rules())
    past.add(click("a", 0))
    past.add(click("a", 10_000_000_000))
    assert [event.time for event in past.before(None).events] == [START]
