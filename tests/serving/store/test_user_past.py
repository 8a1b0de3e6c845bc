"""A kept past equals the slow reference on random streams: ties, late events, repeated ones, delay, window, kinds."""

import sqlite3
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musenet.dataset.roles import MICROSECONDS
from musenet.recipe.history import HistoryOptions
from musenet.recipe.repeat import RepeatOptions
from musenet.serving.store.history import NOTHING, PastEvent, UserEvent, UserHistory
from musenet.serving.store.rules import HistoryRules
from musenet.serving.store.sqlite_rows import TABLES, SqliteRows, read_history
from musenet.serving.store.user_past import BEHIND, arrival, asked, take_in
from serving.past_reference import WholePast, same
from serving.stores import MINUTE, START, click, simple_rules

TICK = 10 * MINUTE
TICK_MICROSECONDS = round(TICK) * MICROSECONDS


class UserPast:
    """One user's rows in a database in memory, through which all goes that a store keeps and finds."""

    def __init__(self, rules: HistoryRules) -> None:
        self._rules, self.database = rules, sqlite3.connect(":memory:")
        for statement in TABLES:
            self.database.execute(statement)

    def add(self, *new: UserEvent) -> list[bool]:
        rows = SqliteRows(self.database, "a", 0)
        added, change = take_in(self._rules, rows, [arrival(self._rules, one) for one in new])
        if change is not None:
            rows.save(change)
        return added

    def before(self, time: float | None) -> UserHistory:
        return read_history(self.database, self._rules, "a", asked(self._rules, time, None))

    def rows(self) -> dict[str, int]:
        """How many there are of each, which the user's own row must agree with."""
        counts = {
            table: self.database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("events", "recent", "repeats")
        }
        told = self.database.execute("SELECT events, recent, keys FROM users").fetchone()
        assert tuple(counts.values()) == told
        return counts


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
    st.integers(0, 60) | st.integers(0, 600),
    st.sampled_from(["click", "buy", None]),
    st.sampled_from(["1", "2", None]),
    st.sampled_from(["x", None]),
    st.sampled_from([None, "one", "two", "three"]),
)
streams = st.lists(st.one_of(events, st.integers(-BEHIND // TICK_MICROSECONDS, 300)), min_size=10, max_size=60)


@settings(max_examples=80, deadline=None)
@given(any_rules, streams)
def test_equals_the_reference(rules: HistoryRules, stream: list[Any]) -> None:
    """Events in any order of time; numbers in the stream are requests, in ticks from the newest event on."""
    past, whole, newest = UserPast(rules), WholePast(rules), START
    for are_events, together in groupby(stream, key=lambda entry: isinstance(entry, UserEvent)):
        entries = list(together)
        if are_events:
            assert past.add(*entries) == [whole.add(entry) for entry in entries]
            newest = max([newest, *(entry.event.time for entry in entries)])
            past.rows()
            continue
        entry = entries[0]
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
    past, hour = UserPast(simple_rules(length=3)), 60 * MINUTE
    for n in range(500):
        past.add(click("a", n * hour, item=str(n % 7)))
    assert len(past.before(START + 500 * hour).events) == 3
    assert sum(one.count for one in past.before(START + 500 * hour).repeats.values()) == 500
    day_and_hour = 26
    assert past.rows() == {"events": day_and_hour + 3, "recent": day_and_hour, "repeats": 7}


def test_of_many_rows_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with more keys, more events a day, or more within the window than anyone has, loses the oldest."""
    monkeypatch.setattr("musenet.serving.store.user_past.MOST", 20)
    day = 24 * 60 * MINUTE
    keys, busy, window = UserPast(simple_rules()), UserPast(simple_rules()), UserPast(simple_rules(window="900 days"))
    for n in range(100):
        keys.add(click("a", n * 2 * day, str(n)))
        busy.add(click("a", n, str(n % 2)))
        window.add(click("a", n * day, "1"))
    assert keys.rows()["repeats"] <= 22
    found = keys.before(START + 200 * day).repeats
    assert set(found) >= {(str(n),) for n in range(80, 100)}
    assert set(found) <= {(str(n),) for n in range(76, 100)}
    assert busy.rows()["events"] <= 28
    assert busy.rows()["recent"] <= 22
    assert {key: one.count for key, one in busy.before(START + 200).repeats.items()} == {("0",): 50, ("1",): 50}
    assert [event.time for event in busy.before(START + 200).events] == [START + n for n in range(95, 100)]
    assert 20 <= window.before(START + 100 * day).repeats["1",].count <= 22


def test_an_old_key_that_is_met_again_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musenet.serving.store.user_past.MOST", 20)
    past, day = UserPast(simple_rules()), 24 * 60 * MINUTE
    for n in range(22):
        past.add(click("a", n * 2 * day, str(n)))
    past.add(click("a", 44 * day, "0"), click("a", 44 * day, "22"))
    past.add(click("a", 46 * day, "23"))  # with the two before there are more keys than are kept
    found = past.before(START + 47 * day).repeats
    assert ("1",) not in found
    assert found["0",].count == 2
    past.rows()


def test_looking_does_not_grow_with_keys_or_events() -> None:
    """Counted in steps of SQLite's own machine, which depend on nothing but the rows that it looks at."""
    steps = []
    for keys in (20, 2000):
        past, taken = UserPast(simple_rules()), 0
        past.add(*(click("a", n * 60 * MINUTE, str(n)) for n in range(keys)))

        def count() -> int:
            nonlocal taken
            taken += 1
            return 0

        past.database.set_progress_handler(count, 1)
        for n in range(10):
            past.add(click("a", (keys + n) * 60 * MINUTE, str(keys + n)))
        steps.append(taken)
    assert steps[1] < 1.5 * steps[0]


def test_an_event_that_comes_again_is_recognised_by_its_id_and_by_its_content() -> None:
    past = UserPast(simple_rules())
    assert past.add(click("a", 1, "1", "first")) == [True]
    assert past.add(click("a", 2, "2", "first")) == [False]
    assert past.add(click("a", 1, "1", "second")) == [False]
    assert past.add(click("a", 1, "2", "second")) == [True]
    assert sum(statistics.count for statistics in past.before(START + 5).repeats.values()) == 2


def test_a_late_event_lands_in_its_place_even_behind_all_that_is_kept() -> None:
    past = UserPast(simple_rules(length=3))
    hour = 60 * MINUTE
    for n in (0, 20, 30, 40, 65):
        past.add(click("a", n * hour))
    assert past.add(click("a", 25 * hour, "late")) == [True]
    assert past.add(click("a", 5 * hour, "later")) == [True]
    found = past.before(START + 80 * hour)
    assert [event.item for event in found.events] == ["1", "1", "1"]
    assert found.repeats["later",].last_time == START + 5 * hour
    behind = past.before(START + 65 * hour - BEHIND / MICROSECONDS + 1)
    assert [event.time for event in behind.events] == [START + n * hour for n in (25, 30, 40)]


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
