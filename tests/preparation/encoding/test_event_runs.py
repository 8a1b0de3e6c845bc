"""Histories and repeats equal the slow reference on random small logs, and know nothing of what comes later."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ibis
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.preparation.encoding.coding import FieldCoding
from musenet.preparation.encoding.encode import Folders
from musenet.preparation.encoding.events import count_events, counted_runs, encode_events, stored_runs
from musenet.preparation.relations.relations import REPEAT_COUNT, REPEAT_LAST, build_relations
from musenet.recipe.history import Before
from musenet.recipe.recipe import Recipe
from musenet.recipe.repeat import RepeatOptions
from preparation.logs import START, Log
from preparation.reference import distinct_events, fraction, known, repeats

HALF = 500_000
TRAIN_UNTIL = 100 * HALF
SPLIT = {"valid_from": "2024-01-01T00:01:00", "test_from": "2024-01-01T00:02:00"}
# Shrinking a failure would take minutes: every example asks a database.
PHASES = (Phase.explicit, Phase.generate)
SETTINGS = settings(
    max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, phases=PHASES
)

times = st.integers(0, 11).map(lambda tick: START + tick * HALF)
users = st.sampled_from(["a", "b"])
brands = st.sampled_from(["x", "y", None])
event_rows = st.fixed_dictionaries(
    {
        "_user": users,
        "_time": times,
        "_kind": st.sampled_from(["click", "buy", None]),
        "_item": st.sampled_from([1, 2, 3, None]),
        "brand": brands,
    }
)
request_rows = st.tuples(users, times, st.dictionaries(st.sampled_from([1, 2, 3, 4]), brands, min_size=1))
options = st.fixed_dictionaries(
    {
        "delay": st.sampled_from([0, 0.5, 1.5]),
        "window": st.sampled_from([None, 2, 3.5]),
        "key": st.sampled_from([["item_id"], ["brand"], ["item_id", "brand"], ["brand", "group"]]),
        "optional": st.sampled_from([[], ["brand"], ["group"]]),
        "kinds": st.sampled_from([None, ["click"], ["buy"]]),
        "history_kinds": st.sampled_from([None, ["click"]]),
    }
)
GROUPS = {1: "g", 2: "h", 3: None, 4: "g"}


def anchors() -> list[dict[str, Any]]:
    """Requests of another user, so that every period has positives and negatives."""
    minute = 60_000_000
    return [
        {"_user": "z", "_item": item, "_time": START + place * minute + 30_000_000, "_label": item - 1, "brand": "x"}
        for place in range(3)
        for item in (1, 2)
    ]


def log_of(requests: list[Any], events: list[dict[str, Any]] | None) -> Log:
    shown = [
        {"_user": user, "_item": item, "_time": time, "_label": item % 2, "brand": brand}
        for user, time, items in requests
        for item, brand in items.items()
    ]
    # Every kind occurs, long after everything, so that it may be asked for.
    last = {"_user": "z", "_time": START + TRAIN_UNTIL, "_item": 1, "brand": "x"}
    kinds = [{**last, "_kind": kind} for kind in ("click", "buy")]
    schema = {"_user": pl.String, "_time": pl.Int64, "_kind": pl.String, "_item": pl.Int64, "brand": pl.String}
    return Log(
        impressions=pl.DataFrame([*shown, *anchors()], schema_overrides={"_label": pl.Int8, "brand": pl.String}),
        events=None if events is None else pl.DataFrame([*events, *kinds], schema=schema),
        items=pl.DataFrame({"_item": list(GROUPS), "group": list(GROUPS.values())}),
    )


def recipe_of(choice: dict[str, Any], kinds: bool = True) -> Recipe:
    optional = [name for name in choice.get("optional", ()) if name in choice["key"] and len(choice["key"]) > 1]
    return Recipe.model_validate(
        {
            "features": {"candidate": ["brand"]},
            "history": {
                "columns": ["item_id", "brand"],
                "delay": choice["delay"],
                "kinds": choice["history_kinds"] if kinds else None,
            },
            "repeat": {
                "key": choice["key"],
                "optional": optional,
                "window": choice["window"],
                "kinds": choice["kinds"] if kinds else None,
            },
            "split": SPLIT,
        }
    )


def past_of(log: Log, recipe: Recipe) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Of each request (user, time): length of the history and repeat fraction; of each candidate: count, recency."""
    engine = Engine(ibis.duckdb.connect())
    found = build_relations(engine, log.tables(), recipe, lambda _: None)
    rows = engine.read(
        found.candidates.join(found.requests.select("_request_row", "_user"), "_request_row").join(
            found.items.select("_item_row", "_item"), "_item_row"
        )
    )
    shown = {
        (row["_user"], row["_time"], row["_item"]): (
            row[REPEAT_COUNT] or 0,
            math.nan if row[REPEAT_LAST] is None else (row["_time"] - row[REPEAT_LAST]) / 1e6,
        )
        for row in rows.to_pylist()
    }
    requests = engine.read(found.requests).to_pylist()
    user, time = (np.array([row[name] for row in requests]) for name in ("_user_row", "_time"))
    assert recipe.repeat is not None
    span = Before.of(recipe.history.delay, recipe.repeat.window)
    with TemporaryDirectory() as folder:
        folders = Folders(Path(folder), Path(folder))
        counts, users = count_events(engine, found.events), engine.count(found.users) + 1
        encode_events(engine, found.events, counts, users, folders, FieldCoding([], {}, {}, keeps_uncoded=False))
        begin, end = stored_runs(folders).span_of(user, time, Before(span.delay))
        fractions = counted_runs(folders).repeat_fraction(user, time, span)
    past = zip((end - begin).tolist(), fractions.tolist(), strict=True)
    asked = dict(zip([(row["_user"], row["_time"]) for row in requests], past, strict=True))
    engine.close()
    return asked, shown


def expected(log: Log, recipe: Recipe) -> tuple[dict[Any, Any], dict[Any, Any]]:
    def with_item(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "item_id": row["_item"], "group": GROUPS.get(row["_item"]), "_kind": row.get("_kind")}

    impressions = [with_item(row) for row in log.impressions.to_dicts()]
    raw = [with_item(row) for row in log.events.to_dicts()] if log.events is not None else []
    if log.events is None:
        raw = [row for row in impressions if row["_label"] == 1]
    assert recipe.repeat is not None
    key, attributes = recipe.repeat.key, [*recipe.history.columns, *recipe.repeat.key]
    stored = distinct_events(raw, attributes, recipe.history.kinds)
    counted = distinct_events(raw, attributes, recipe.repeat.kinds)
    span = Before.of(recipe.history.delay, recipe.repeat.window)
    asked, shown = {}, {}
    for row in impressions:
        user, time = row["_user"], row["_time"]
        length = len(known(stored, user, time, span.delay, None))
        asked[user, time] = (length, fraction(counted, user, time, key, span.delay, span.window))
        found = repeats(counted, row, time, key, span.delay, span.window, recipe.repeat.optional)
        shown[user, time, row["_item"]] = (found.count, found.recency)
    return asked, shown


def merge_requests(requests: list[Any]) -> list[Any]:
    """One request per user and time."""
    merged = {(user, time): items for user, time, items in requests}
    return [(user, time, items) for (user, time), items in merged.items()]


def same(left: dict[Any, Any], right: dict[Any, Any]) -> None:
    assert left.keys() == right.keys()
    for name, values in left.items():
        assert values == pytest.approx(right[name], nan_ok=True), name


@pytest.mark.slow
@SETTINGS
@given(st.lists(request_rows, min_size=8, max_size=16), st.lists(event_rows, min_size=25, max_size=50), options)
def test_equals_the_reference(requests: list[Any], events: list[dict[str, Any]], choice: dict[str, Any]) -> None:
    log, recipe = log_of(merge_requests(requests), events), recipe_of(choice)
    for found, wanted in zip(past_of(log, recipe), expected(log, recipe), strict=True):
        same(found, wanted)


@settings(SETTINGS, max_examples=5)
@given(st.lists(request_rows, min_size=12, max_size=24), options)
def test_a_log_without_events_has_its_own_positives(requests: list[Any], choice: dict[str, Any]) -> None:
    log, recipe = log_of(merge_requests(requests), None), recipe_of(choice, kinds=False)
    for found, wanted in zip(past_of(log, recipe), expected(log, recipe), strict=True):
        same(found, wanted)


@pytest.mark.slow
@settings(SETTINGS, max_examples=6)
@given(
    st.lists(request_rows, min_size=6, max_size=12),
    st.lists(event_rows, min_size=12, max_size=25),
    st.lists(request_rows, max_size=6),
    st.lists(event_rows, max_size=12),
    times,
    options,
)
def test_later_rows_change_nothing(
    requests: list[Any],
    events: list[dict[str, Any]],
    other_requests: list[Any],
    other_events: list[dict[str, Any]],
    moment: int,
    choice: dict[str, Any],
) -> None:
    """Two logs that agree on all rows before a moment agree on the past of all requests until then."""
    recipe = recipe_of(choice)
    earlier = [row for row in merge_requests(requests) if row[1] <= moment]
    before = [row for row in events if row["_time"] < moment]
    later = [row for row in merge_requests(other_requests) if row[1] > moment]
    after = [row for row in other_events if row["_time"] >= moment]
    short, long = log_of(earlier, before), log_of([*later, *earlier], [*after, *before])
    for found, wanted in zip(past_of(long, recipe), past_of(short, recipe), strict=True):
        early = {name: values for name, values in found.items() if name[1] <= moment}
        same(early, {name: values for name, values in wanted.items() if name[1] <= moment})


def test_an_event_at_the_time_of_the_request_is_not_before_it() -> None:
    event = {"_user": "a", "_time": START + 1_000_000, "_kind": "click", "_item": 1, "brand": "x"}
    choice = {"delay": 0, "window": None, "key": ["item_id"], "kinds": None, "history_kinds": None}
    for tick, count in ((999_999, 0), (1_000_000, 0), (1_000_001, 1)):
        log = log_of([("a", START + tick, {1: "x"})], [event])
        asked, shown = past_of(log, recipe_of(choice))
        assert asked["a", START + tick][0] == count
        assert shown["a", START + tick, 1][0] == count


def test_delay_and_window_are_borders_to_the_microsecond() -> None:
    choice = {"delay": 1, "window": 2, "key": ["item_id"], "kinds": None, "history_kinds": None}
    time = START + 10_000_000
    for before, count in ((1_000_000, 0), (1_000_001, 1), (2_000_000, 1), (2_000_001, 0)):
        event = {"_user": "a", "_time": time - before, "_kind": "click", "_item": 1, "brand": "x"}
        _, shown = past_of(log_of([("a", time, {1: "x"})], [event]), recipe_of(choice))
        assert shown["a", time, 1][0] == count


def test_a_window_within_the_delay_is_refused() -> None:
    with pytest.raises(DataError, match=r"repeat\.window \(1 s\) must be longer than history\.delay \(2 s\)"):
        Before.of(2, 1)


def test_a_candidate_without_an_optional_column_repeats_by_the_others() -> None:
    events = [
        {"_user": "a", "_time": START + tick, "_kind": "click", "_item": 1, "brand": brand}
        for tick, brand in ((1, "x"), (2, "y"), (3, None))
    ]
    choice = {"delay": 0, "window": None, "key": ["item_id", "brand"], "kinds": None, "history_kinds": None}
    for brand, optional, count in (("x", ["brand"], 1), (None, ["brand"], 3), (None, [], 0)):
        log = log_of([("a", START + 9, {1: brand})], events)
        _, shown = past_of(log, recipe_of({**choice, "optional": optional}))
        assert shown["a", START + 9, 1][0] == count


def test_only_some_columns_of_the_key_can_be_optional() -> None:
    for optional, said in ((["city"], "'city' is no column of the key"), (["brand"], "at least one column")):
        with pytest.raises(ValueError, match=said):
            RepeatOptions(key=["brand"], optional=optional)


def test_an_option_that_is_not_used_changes_no_fingerprint() -> None:
    assert "optional" not in RepeatOptions(key=["brand"]).model_dump()
    assert RepeatOptions(key=["item", "brand"], optional=["brand"]).model_dump()["optional"] == ["brand"]
