"""Requests, duplicates and periods: what is grouped, kept, and refused in one sentence."""

from typing import Any

import ibis
import polars as pl
import pytest
from pydantic import TypeAdapter, ValidationError

from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.preparation.relations.relations import Relations, build_relations
from musenet.preparation.relations.requests import local_text
from musenet.preparation.relations.split import split_cuts
from musenet.recipe.split import DaysSplit, SplitOptions
from preparation.logs import START, Log, random_log, recipe

HOUR = 3_600_000_000


def relations(log: Log, **changes: Any) -> tuple[Relations, Engine]:
    engine = Engine(ibis.duckdb.connect())
    return build_relations(engine, log.tables(), recipe(**changes), lambda _: None), engine


def refused(log: Log, match: str, **changes: Any) -> None:
    with pytest.raises(DataError, match=match) as caught:
        relations(log, **changes)
    assert "\n" not in str(caught.value)


def test_a_context_column_that_varies_names_column_count_and_request() -> None:
    log = random_log(1)
    first = log.impressions["_request"].value_counts().filter(pl.col("count") > 1)["_request"].min()
    row = pl.int_range(pl.len()).over("_request") == 0
    varied = log.impressions.with_columns(
        party=pl.when((pl.col("_request") == first) & row).then(99).otherwise(pl.col("party"))
    )
    refused(
        log.but(impressions=varied),
        rf"column 'party' differs inside 1 request \(for example '{first!s}'\): list it under features\.candidate",
    )
    by_time = log.but(impressions=varied.drop("_request"))
    refused(by_time, r"'(device|party|truth)' differs inside \d+ requests? \(for example of user 'u\d+' at 2024-01")


def test_a_context_that_is_partly_missing_varies() -> None:
    log = random_log(1)
    row = pl.int_range(pl.len()).over("_request") == 0
    holed = log.impressions.with_columns(party=pl.when(row).then(None).otherwise(pl.col("party")))
    refused(log.but(impressions=holed), "column 'party' differs inside")


def test_a_request_of_two_users_is_refused() -> None:
    log = random_log(1)
    first = log.impressions["_request"].value_counts().filter(pl.col("count") > 1)["_request"].min()
    row = pl.int_range(pl.len()).over("_request") == 0
    mixed = log.impressions.with_columns(
        _user=pl.when((pl.col("_request") == first) & row).then(pl.lit("other")).otherwise(pl.col("_user"))
    )
    refused(log.but(impressions=mixed), rf"1 request \(for example '{first!s}'\) hold impressions of several users")


def test_a_request_is_at_its_earliest_row() -> None:
    log = random_log(1)
    late = log.impressions.with_columns(_time=pl.col("_time") + pl.int_range(pl.len()).over("_request"))
    found, engine = relations(log.but(impressions=late))
    times = engine.read(found.requests.select("_request", "_time")).to_pylist()
    wanted = dict(log.impressions.select("_request", "_time").iter_rows())
    assert {row["_request"]: row["_time"] for row in times} == wanted


def test_of_duplicates_the_positive_is_kept_then_the_first() -> None:
    log = random_log(1)
    copies = log.impressions.head(20)
    flipped = copies.with_columns(_label=1 - pl.col("_label"), _time=pl.col("_time") + 1)
    later = log.impressions.tail(5).with_columns(_time=pl.col("_time") + 1, place=pl.lit(77, pl.Int64))
    found, engine = relations(log.but(impressions=pl.concat([flipped, later, log.impressions])))
    assert [(rule.reason, rule.rows) for rule in found.rules if rule.table == "impressions"] == [
        ("shown twice in one request", 25)
    ]
    assert engine.count(found.candidates) == len(log.impressions)
    positives = engine.count(found.candidates.filter(found.candidates["_label"] == 1))
    assert positives == sum(log.impressions["_label"]) + (20 - sum(copies["_label"]))
    assert engine.count(found.candidates.filter(found.candidates["place"] == 77)) == 0
    assert found.duplicates is not None
    assert engine.count(found.duplicates) == 25


def cuts_of(times: list[int], split: dict[str, Any], timezone: str = "UTC", rows: list[int] | None = None) -> Any:
    engine = Engine(ibis.duckdb.connect())
    table = ibis.memtable({"_time": times, "_impressions": rows or [1] * len(times)})
    return split_cuts(engine, TypeAdapter(SplitOptions).validate_python(split), table, timezone)


def test_days_end_at_local_midnight_and_may_be_23_hours_long() -> None:
    # 2024-03-31 is the day on which Berlin's clocks skip an hour.
    last = START + 90 * 24 * HOUR + 10 * HOUR
    cuts = cuts_of([START, last], {"test": "1 day", "valid": "1 day"}, "Europe/Berlin")
    assert cuts.test_from == START + 90 * 24 * HOUR - HOUR
    assert cuts.valid_from == cuts.test_from - 24 * HOUR
    next_day = cuts_of([START, last + 14 * HOUR], {"test": "1 day", "valid": "1 day"}, "Europe/Berlin")
    assert next_day.test_from - next_day.valid_from == 23 * HOUR


def test_a_time_beyond_the_calendar_is_on_its_last_days() -> None:
    found = cuts_of([0, 1 << 62], {"test": "1 day", "valid": "1 day"})
    assert local_text(found.test_from, "UTC") == "9999-12-30 00:00"


def test_parts_hold_equal_numbers_and_never_split_a_moment() -> None:
    cuts = cuts_of(list(range(70)), {"parts": 7})
    assert (cuts.valid_from, cuts.test_from) == (50, 60)
    tied = cuts_of([1, 2, 3, 4, 5, 6, 7], {"parts": 7, "test": 2}, rows=[10, 10, 10, 15, 5, 10, 10])
    assert (tied.valid_from, tied.test_from) == (5, 6)


def test_times_are_local_unless_they_carry_an_offset() -> None:
    local = {"valid_from": "2024-07-01", "test_from": "2024-07-02"}
    berlin, utc = cuts_of([1], local, "Europe/Berlin"), cuts_of([1], local)
    assert utc.valid_from - berlin.valid_from == 2 * HOUR
    offset = {"valid_from": "2024-07-01T00:00+02:00", "test_from": "2024-07-02T00:00+02:00"}
    assert cuts_of([1], offset) == berlin
    with pytest.raises(ValidationError, match="give all times with an offset"):
        cuts_of([1], {**local, "test_from": "2024-07-02T00:00+02:00"})


def test_rows_outside_of_the_periods_are_left_out_and_counted_but_still_events() -> None:
    log = random_log(1).but(events=None)
    times = {
        "train_from": "2024-01-03",
        "valid_from": "2024-01-07",
        "test_from": "2024-01-09",
        "test_until": "2024-01-11",
    }
    changes = {"split": times, "history": {"columns": ["item_id"]}, "repeat": {"key": ["item_id"]}}
    found, engine = relations(log, **changes)
    begin, end = START + 2 * 24 * HOUR, START + 10 * 24 * HOUR
    outside = log.impressions.filter((pl.col("_time") < begin) | (pl.col("_time") >= end))
    rules = {rule.reason: rule.rows for rule in found.rules}
    assert rules["before train_from or after test_until"] == len(outside)
    assert engine.count(found.candidates) == len(log.impressions) - len(outside)
    assert engine.count(found.events) == log.impressions["_label"].sum()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"split": {"test": "30 days", "valid": "1 day"}},
            "the train period .* has no impressions; the log runs from 2024-01-01 ",
        ),
        ({"split": {"valid_from": "2024-01-10", "test_from": "2025-01-01"}}, "the test period .* has no impressions"),
        ({"split": {"parts": 400}}, "the log's last moment holds more than one of 400 parts"),
        (
            {"features": {"item": ["citty"]}},
            r"features\.item: there is no column 'citty' in items or impressions; did you mean 'city'\?",
        ),
        ({"features": {"context": ["user_id"]}}, "'user_id' is the user id: list it under user"),
        ({"history": {"columns": ["colour"]}}, "history.columns: there is no column 'colour'"),
        (
            {"history": {"columns": ["item_id"], "kinds": ["clik"]}},
            "history.kinds: no event is of kind 'clik'; there are buy, click, view",
        ),
        ({"features": {"item": ["place"]}}, "column 'place' changes for .* items: it is no attribute of the item"),
        ({"features": {"user": ["party"]}}, "column 'party' changes for .* users: .* list it under features.context"),
        ({"repeat": {"key": ["item_id"], "window": 5}, "history": {"delay": 10}}, "repeat.window"),
        ({"negatives": {"per_request": 3}}, "column '(price|place|chance)' of the impressions is unknown for sampled"),
        ({"negatives": {"per_request": 3}, "features": {}, "true_probability": None}, "but 2.. labels are 0"),
    ],
)
def test_mistakes_are_one_sentence(change: dict[str, Any], match: str) -> None:
    refused(random_log(1), match, **change)


def test_columns_that_differ_in_case_are_refused() -> None:
    log = random_log(1)
    twins = log.but(items=pl.DataFrame(log.items).with_columns(Party=pl.lit(1)))
    refused(
        twins, "columns 'Party' and 'party' differ only in case", features={"item": ["Party"], "context": ["party"]}
    )


def test_labels_decide_whether_there_is_anything_to_learn() -> None:
    log = random_log(1)
    ones = log.impressions.with_columns(_label=pl.lit(1, pl.Int8))
    refused(log.but(impressions=ones), r"every label is 1.*negatives: \{per_request: 20, from: popular\}")
    late = log.impressions.with_columns(
        _label=pl.when(pl.col("_time") > START + 9 * 24 * HOUR).then(0).otherwise(pl.col("_label")).cast(pl.Int8)
    )
    refused(log.but(impressions=late), "the test period .* has no positives")
    twos = log.impressions.with_columns(_label=pl.lit(2, pl.Int8))
    refused(log.but(impressions=twos), "labels other than 0 and 1")
    refused(log.but(impressions=log.impressions.clear()), "the log holds no impressions")
    missing = log.impressions.with_columns(_user=pl.lit(None, pl.String))
    refused(log.but(impressions=missing), r"\d+ impressions lack their user")


def test_a_repeat_key_of_two_types_is_refused() -> None:
    log = random_log(1)
    assert log.events is not None
    events = log.events.with_columns(place=pl.lit("third"))
    refused(log.but(events=events), r"repeat\.key: 'place' is of different types", repeat={"key": ["place"]})


def test_the_repeat_key_is_looked_up_where_the_events_look_it_up() -> None:
    """Events have no city of their own, so the candidate's is its item's, whatever the impressions call city."""
    log = random_log(1)
    named = log.but(impressions=log.impressions.with_columns(city=pl.lit("nowhere")))
    changes = {"features": {"candidate": ["city"]}, "repeat": {"key": ["city"]}, "predefined_scenario": []}
    counts = []
    for which, features in ((named, ["city"]), (log, [])):
        found, engine = relations(which, **{**changes, "features": {"candidate": features}})
        total = found.candidates["_repeat_count"].sum()
        counts.append(engine.connection.to_pyarrow(total).as_py())
    assert counts[0] == counts[1] > 0


def test_days_need_not_be_whole() -> None:
    assert DaysSplit.model_validate({"test": "12 hours", "valid": 3600}).test == 43200
