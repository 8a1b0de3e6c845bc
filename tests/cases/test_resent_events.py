"""What is sent or filled again counts once: for as long as the docs say, by time, however many others came since."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pytest

from musenet.dataset.roles import MICROSECONDS
from musenet.errors import StoreError
from musenet.serving.export.filling import fill_store
from musenet.serving.store.history import PastEvent, UserEvent, WritableStore
from musenet.serving.store.rules import HistoryRules
from musenet.serving.store.user_past import REMEMBERED_DAYS
from preparation.logs import DAY, Log, MemorySource, random_log, recipe
from serving.stores import click, simple_rules

Opened = Callable[[str, HistoryRules], WritableStore]
RECIPE = recipe()
RULES = HistoryRules(RECIPE.history, RECIPE.repeat)
LATER = 4e9


def events_of(log: Log) -> pl.DataFrame:
    assert log.events is not None
    return log.events.unique()


def expected(events: pl.DataFrame) -> dict[tuple[str, str], int]:
    """How often each user had each item, as polars counts it."""
    assert RECIPE.repeat is not None
    counted = events if RECIPE.repeat.kinds is None else events.filter(pl.col("_kind").is_in(RECIPE.repeat.kinds))
    counted = counted.drop_nulls(["_user", "_item"])
    return {(str(user), str(item)): n for user, item, n in counted.group_by("_user", "_item").len().iter_rows()}


def found(store: WritableStore) -> dict[tuple[str, str], int]:
    return {
        (user, str(key[0])): one.count
        for user in store.some_users(1000)
        for key, one in store.read(user, LATER).repeats.items()
        if key[0] is not None
    }


def live(log: Log, events: pl.DataFrame) -> list[UserEvent]:
    """As the service keeps them: with what is looked up from their items."""
    assert log.items is not None
    items = {row["_item"]: {name: row[name] for name in ("city", "brand")} for row in log.items.to_dicts()}
    return [
        UserEvent(
            str(row["_user"]),
            PastEvent(
                row["_item"],
                row["_kind"],
                row["_time"] / MICROSECONDS,
                {"item_id": row["_item"], **items.get(row["_item"], {})},
            ),
        )
        for row in events.to_dicts()
    ]


def test_an_event_is_known_however_many_others_came_since(address: str, opened: Opened) -> None:
    store = opened(address, simple_rules())
    stream = [click("anna", n, str(n % 5), f"id {n}") for n in range(5000)]
    for begin in range(0, 5000, 1000):
        assert store.append(stream[begin : begin + 1000]) == [True] * 1000
    assert store.append(stream[:1000]) == [False] * 1000
    assert store.append([click("anna", 9000, "7", "id 0")]) == [False]
    assert {key: one.count for key, one in store.read("anna", LATER).repeats.items()} == {
        (str(item),): 1000 for item in range(5)
    }


def test_an_event_is_known_for_as_long_as_the_docs_say(
    address: str, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever part of a generation of marks it came."""
    store, now, day = opened(address, simple_rules()), 1.8e9, 86_400.0
    monkeypatch.setattr(time, "time", lambda: now)
    for started in (0, 10, REMEMBERED_DAYS - 0.01):
        begin, event = now + started * day, click(f"user {started}", 0)
        now = begin
        assert store.append([event]) == [True]
        now = begin + (REMEMBERED_DAYS - 0.001) * day
        assert store.append([event]) == [False]
        now = begin + 2 * REMEMBERED_DAYS * day
        assert store.append([event]) == [True]


def test_filling_again_adds_what_is_new_and_says_what_came_late(address: str, opened: Opened) -> None:
    log = random_log(1)
    events = events_of(log)
    middle = events["_time"].sort()[len(events) // 2]
    early, late = events.filter(pl.col("_time") < middle), events.filter(pl.col("_time") >= middle)
    store = opened(address, RULES)
    hidden = early.sort("_time", "_user").gather([3, 8])
    known = early.join(hidden, on=early.columns, how="anti", nulls_equal=True)
    fill_store(store, MemorySource(log.but(events=known), "monday"), RECIPE)
    assert found(store) == expected(known)
    # Meanwhile some of the later ones are sent live, and sent again.
    sent = live(log, late.sort("_time").head(20))
    store.append(sent)
    grown = MemorySource(log.but(events=events), "tuesday")
    filling = fill_store(store, grown, RECIPE)
    assert filling.since is not None
    assert filling.since <= middle
    assert filling.late == len(hidden)
    assert found(store) == expected(pl.concat([known, late]))
    for source in (grown, MemorySource(log.but(events=events), "touched")):
        assert fill_store(store, source, RECIPE).new == 0
    assert store.append(sent) == [False] * len(sent)
    assert found(store) == expected(pl.concat([known, late]))


def test_filling_up_to_a_time_and_then_further_is_filling_at_once(address: str, opened: Opened) -> None:
    log = random_log(2)
    source, until = MemorySource(log), events_of(log)["_time"].sort()[len(events_of(log)) // 2]
    store = opened(address, RULES)
    first = fill_store(store, source, RECIPE, until=until)
    assert fill_store(store, source, RECIPE, until=until - DAY).new == 0
    rest = fill_store(store, source, RECIPE)
    assert first.new > 0 < rest.new
    assert found(store) == expected(events_of(log))


def test_an_interrupted_filling_goes_on(tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musenet.serving.export.filling.AT_ONCE", 50)
    log = random_log(3)
    store = opened(str(tmp_path / "history.sqlite"), RULES)
    append, calls = store.append, 0

    def killed(events: Sequence[UserEvent]) -> list[bool]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return append(events)

    with monkeypatch.context() as patched:
        patched.setattr(store, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            fill_store(store, MemorySource(log), RECIPE)
    assert 0 < sum(found(store).values()) < sum(expected(events_of(log)).values())
    fill_store(store, MemorySource(log), RECIPE)
    assert found(store) == expected(events_of(log))


def test_where_the_store_cannot_tell_what_it_holds_filling_is_refused(
    address: str, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took events long ago, and a log that may hold them comes now; of a log that it was filled from, it knows."""
    log = random_log(1)
    months = 100 * 86_400.0
    filled_from_the_start = opened(address, RULES)
    fill_store(filled_from_the_start, MemorySource(log), RECIPE)
    now = time.time() + months
    monkeypatch.setattr(time, "time", lambda: now)
    assert fill_store(filled_from_the_start, MemorySource(log, "touched"), RECIPE).new == 0
    assert log.events is not None
    later = log.events.with_columns(pl.col("_time") + int(months / 3) * MICROSECONDS)
    with pytest.raises(StoreError, match="cannot tell which any more: fill a new store"):
        fill_store(filled_from_the_start, MemorySource(log.but(events=pl.concat([log.events, later]))), RECIPE)
