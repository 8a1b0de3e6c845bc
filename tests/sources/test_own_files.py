import gzip
import json
import shutil
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from musenet.errors import DataError
from musenet.sources.own_files import OwnFiles, OwnFilesOptions
from odd_logs import write_positives, write_three_files
from sources.reading import ROLES, SECOND, counts, read, recipe_of, rows, values, write, write_log

ODD_RECIPE: dict[str, Any] = {
    "features": {
        "item": ["brand", {"weight_kg": {"numeric": "log"}}],
        "context": ["device", "hour", "weekday"],
        "candidate": [{"shelf_price": {"numeric": "log"}}, {"slot": "position"}],
    },
    "history": {"columns": ["article", "brand"], "kinds": ["open", "buy"]},
    "repeat": {"key": ["article"]},
    "split": {"test": "7 days", "valid": "1 day"},
}
ODD_PARTS: dict[str, Any] = {
    "impressions": {
        "user": "visitor",
        "item": "article",
        "time": "served_ms",
        "label": "taken",
        "request": "page_view",
    },
    "events": {"path": "actions.parquet", "user": "visitor", "item": "article", "time": "at_ms", "kind": "verb"},
    "items": {"path": "catalogue.parquet", "item": "article"},
    "timezone": "Europe/Berlin",
}


def test_a_log_with_every_oddity_is_read_and_each_refusal_counted(tmp_path: Path) -> None:
    views, actions, _ = (pa.parquet.read_table(path).to_pylist() for path in write_three_files(tmp_path))
    tables = read(tmp_path, "views.parquet", recipe_of(**ODD_RECIPE), **ODD_PARTS)

    good = [row for row in views if row["visitor"] is not None and row["shelf_price"] != "n/k €"]
    distinct = {tuple(row.values()): row for row in good}.values()
    text = sum(row["visitor"] is not None and row["shelf_price"] == "n/k €" for row in views)
    without_item = sum(row["article"] is None for row in actions)
    assert counts(tables) == {
        ("impressions", "visitor is missing"): 1,
        ("impressions", "shelf_price is not a number"): text,
        ("impressions", "equals another row in every column used"): len(good) - len(distinct),
        ("events", "article is missing"): without_item,
        ("items", "repeats an id: the first is kept"): 1,
    }
    expected = sorted(
        (
            row["visitor"],
            row["article"],
            row["served_ms"] * 1000,
            row["taken"],
            row["page_view"],
            row["slot"],
            float(row["shelf_price"]),
        )
        for row in distinct
    )
    assert (
        values(tables.impressions, "_user", "_item", "_time", "_label", "_request", "slot", "shelf_price") == expected
    )
    assert tables.events is not None
    assert len(values(tables.events, "_user")) == len(actions) - without_item
    assert tables.rejected is not None
    refused = tables.rejected.filter(tables.rejected.reason == "visitor is missing").to_pyarrow().to_pylist()
    assert json.loads(refused[0]["row"])["article"] == views[7]["article"]
    assert (tables.user_column, tables.item_column, tables.timezone) == ("visitor", "article", "Europe/Berlin")


def test_hour_and_weekday_come_from_the_local_clock(tmp_path: Path) -> None:
    summer = datetime(2024, 7, 1, 22, 30, tzinfo=UTC)  # a Monday; Tuesday 0:30 in Berlin
    write_log(tmp_path, time=[summer] * 10, item=list(range(10)))
    recipe = recipe_of(features={"context": ["hour", "weekday"]})
    tables = read(tmp_path, "log.parquet", recipe, timezone="Europe/Berlin")
    assert set(values(tables.impressions, "hour", "weekday")) == {(0, 1)}


def test_positives_alone_in_a_csv(tmp_path: Path) -> None:
    write_positives(tmp_path)
    recipe = recipe_of(negatives={"per_request": 20, "from": "popular"}, repeat={"key": ["sku"]})
    roles = {"user": "customer", "item": "sku", "time": "bought_on", "label": None}
    tables = read(tmp_path, "purchases.csv", recipe, impressions=roles)
    assert set(values(tables.impressions, "_label")) == {1}
    assert tables.events is None
    assert tables.protocol == "a log of positives alone"
    assert values(tables.impressions, "_time")[0] >= datetime(2024, 3, 4, tzinfo=UTC).timestamp() * 1e6


WALL = [datetime(2023, 11, 14, 22, 13, 20) + timedelta(seconds=row) for row in range(10)]
A_TIME = "a time (timestamps, integers, or text such as 2024-01-31 12:00:00)"
BERLIN = timezone(timedelta(hours=1))
TIMES: dict[str, list[Any] | pa.Array] = {
    "seconds": [SECOND + row for row in range(10)],
    "milliseconds": [(SECOND + row) * 1000 for row in range(10)],
    "microseconds": [(SECOND + row) * 1_000_000 for row in range(10)],
    "float seconds": [float(SECOND + row) for row in range(10)],
    "zoned": [time.replace(tzinfo=UTC).astimezone(BERLIN) for time in WALL],
    "naive": WALL,
    "nanoseconds type": pa.array(np.array(WALL, "datetime64[ns]")),
    "iso text": [time.isoformat(" ") for time in WALL],
    "iso text with zone": [time.replace(tzinfo=UTC).astimezone(BERLIN).isoformat() for time in WALL],
    "zulu": [time.isoformat() + "Z" for time in WALL],
    "text of integers": [str((SECOND + row) * 1000) for row in range(10)],
}


@pytest.mark.parametrize("kind", TIMES)
def test_times_however_written(tmp_path: Path, kind: str) -> None:
    write_log(tmp_path, time=TIMES[kind], item=list(range(10)))
    found = values(read(tmp_path, "log.parquet").impressions, "_time")
    assert found == [(SECOND + row) * 1_000_000 for row in range(10)]


def test_floats_that_are_missing_or_larger_than_whole_numbers_are_no_damaged_file(tmp_path: Path) -> None:
    columns = rows(20)
    columns["time"] = [float("nan"), float("inf"), *map(float, columns["time"][2:])]
    columns["code"] = [1.0] * 18 + [float("nan"), 1e30]
    columns["slot"] = [1.0] * 17 + [1e30, float("nan"), 2.0]
    write(tmp_path, "log.parquet", **columns)
    tables = read(tmp_path, "log.parquet", recipe_of(features={"candidate": ["code", {"slot": "position"}]}))
    assert counts(tables) == {
        ("impressions", "time is missing"): 1,
        ("impressions", f"time is not {A_TIME}"): 1,
        ("impressions", "slot is not a whole number"): 1,
    }
    kept = tables.impressions.to_pyarrow().sort_by("_time")
    assert kept["code"].to_pylist()[-2:] == [None, 1e30]
    assert kept["slot"].to_pylist()[-2:] == [None, 2]


@pytest.mark.parametrize("told", ["time", {"column": "time", "format": "%Y%m%d"}])
@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_of_dates_in_floats_one_may_be_none(told: Any, odd: float, tmp_path: Path) -> None:
    write_log(tmp_path, time=[odd] + [20240102.0] * 9, item=list(range(10)))
    tables = read(tmp_path, "log.parquet", impressions={"time": told})
    assert set(values(tables.impressions, "_time")) == {1_704_153_600_000_000}


def test_files_of_one_name_in_several_folders_are_added_unless_one_of_them_changed(tmp_path: Path) -> None:
    for night in ("monday", "tuesday"):
        (tmp_path / night).mkdir()
    options = {"source": "own_files", "impressions": {"path": "*/log.parquet", **ROLES}}
    source = OwnFiles(OwnFilesOptions.model_validate(options), recipe_of(), tmp_path)
    write_log(tmp_path / "monday")
    known = source.files()
    write(tmp_path / "tuesday", "log.parquet", **rows(20))
    assert source.added_to(known).size().impressions == 20
    write(tmp_path / "monday", "log.parquet", **rows(30))
    with pytest.raises(DataError, match=r"data\.impressions: log\.parquet has changed since"):
        source.added_to(known)


def test_fractions_of_a_second_survive(tmp_path: Path) -> None:
    time = datetime(2024, 1, 1, 0, 0, 0, 999_999, tzinfo=UTC)
    write_log(tmp_path, time=[time] * 10)
    assert set(values(read(tmp_path, "log.parquet").impressions, "_time")) == {1_704_067_200_999_999}


def test_dates_and_naive_times_are_local(tmp_path: Path) -> None:
    write_log(tmp_path, time=[datetime(2024, 1, 2).date()] * 10)
    found = values(read(tmp_path, "log.parquet", timezone="America/New_York").impressions, "_time")
    assert set(found) == {int(datetime(2024, 1, 2, 5, tzinfo=UTC).timestamp()) * 1_000_000}


def test_a_told_unit_goes_before_the_size(tmp_path: Path) -> None:
    write_log(tmp_path, time=list(range(10)))
    told = {"time": {"column": "time", "unit": "milliseconds"}}
    assert values(read(tmp_path, "log.parquet", impressions=told).impressions, "_time")[-1] == 9000


@pytest.mark.parametrize(
    "labels",
    [[0, 1] * 5, [False, True] * 5, ["false", "True"] * 5, [0.0, 1.0] * 5, ["0", "1"] * 5, ["0.0", "1.0"] * 5],
    ids=["integers", "booleans", "words", "floats", "text", "text of floats"],
)
def test_labels_however_written(tmp_path: Path, labels: list[Any]) -> None:
    write_log(tmp_path, label=labels, item=list(range(10)))
    assert values(read(tmp_path, "log.parquet").impressions, "_item", "_label") == [(row, row % 2) for row in range(10)]


def test_kinds_as_labels(tmp_path: Path) -> None:
    write_log(tmp_path, label=["view", "click", "buy", "view", "view"] * 2, item=list(range(10)))
    tables = read(tmp_path, "log.parquet", impressions={"positive_kinds": ["click", "buy"]})
    assert [label for _, label in values(tables.impressions, "_item", "_label")] == [0, 1, 1, 0, 0] * 2


def test_rare_odd_labels_are_refused_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "log.parquet", **(rows(300) | {"label": [7, None, *([0, 1] * 149)]}))
    assert counts(read(tmp_path, "log.parquet")) == {
        ("impressions", "label is not 0 or 1"): 1,
        ("impressions", "label is missing"): 1,
    }


def test_large_ids_survive(tmp_path: Path) -> None:
    ids = [2**53 + 1, 2**63 - 1]
    write_log(tmp_path, item=ids * 5)
    assert set(values(read(tmp_path, "log.parquet").impressions, "_item")) == set(ids)


def test_ids_that_a_table_tool_made_floats_are_integers_again(tmp_path: Path) -> None:
    write_log(tmp_path, item=[1.0, 2.0, None, 4.0, float("nan"), 5.0, 6.0, 7.0, 8.0, 9.0])
    tables = read(tmp_path, "log.parquet")
    assert values(tables.impressions, "_item") == [1, 2, 4, 5, 6, 7, 8, 9]
    assert counts(tables) == {("impressions", "item is missing"): 2}


def test_ids_that_are_whole_numbers_in_every_file_are_one_type(tmp_path: Path) -> None:
    write_log(tmp_path)
    (tmp_path / "items.csv").write_text("item,colour\n0,red\n1,\n2,blue\n")
    recipe = recipe_of(features={"item": ["colour"]})
    tables = read(tmp_path, "log.parquet", recipe, items={"path": "items.csv", "item": "item"})
    assert tables.items is not None
    assert set(values(tables.impressions, "_item")) == {0, 1, 2}
    assert values(tables.items, "_item", "colour") == [(0, "red"), (1, None), (2, "blue")]
    assert counts(tables) == {}


def test_ids_of_two_types_become_text_everywhere(tmp_path: Path) -> None:
    write_log(tmp_path)
    (tmp_path / "items.csv").write_text("item,colour\n0,red\n1,\n2b,blue\n")
    recipe = recipe_of(features={"item": ["colour"]})
    tables = read(tmp_path, "log.parquet", recipe, items={"path": "items.csv", "item": "item"})
    assert tables.items is not None
    assert set(values(tables.impressions, "_item")) == {"0", "1", "2"}
    assert values(tables.items, "_item", "colour") == [("0", "red"), ("1", None), ("2b", "blue")]
    assert counts(tables) == {("impressions", "item is int64 here and text elsewhere: made text"): 10}


def test_a_csv_with_a_byte_order_mark_spaces_semicolons_and_gzip(tmp_path: Path) -> None:
    text = "\ufeff user; item ;time;label\n" + "".join(f"u;i{row};{SECOND + row};{row % 2}\n" for row in range(4))
    with gzip.open(tmp_path / "log.csv.gz", "wt", encoding="utf-8") as file:
        file.write(text)
    assert values(read(tmp_path, "log.csv.gz").impressions, "_item") == ["i0", "i1", "i2", "i3"]


def test_quotes_line_ends_and_empty_cells_of_a_csv(tmp_path: Path) -> None:
    content = ',user,item,time,label,name\r\n0,u,"1",1700000000,1,"a, ""b"""\r\n1,u,2,1700000001,0,\r\n'
    (tmp_path / "log.csv").write_bytes(content.encode())
    recipe = recipe_of(features={"candidate": ["name"]})
    tables = read(tmp_path, "log.csv", recipe)
    assert set(values(tables.impressions, "_item", "_label", "name")) == {(1, 1, 'a, "b"'), (2, 0, None)}


def test_several_files_and_patterns(tmp_path: Path) -> None:
    for part in range(2):
        write(tmp_path, f"part-{part}.parquet", **(rows() | {"item": [10 * part + row for row in range(10)]}))
    assert values(read(tmp_path, "part-*.parquet").impressions, "_item") == list(range(20))
    assert values(read(tmp_path, ["part-1.parquet"]).impressions, "_item") == list(range(10, 20))


def test_attributes_that_only_the_impressions_hold(tmp_path: Path) -> None:
    write_log(tmp_path, city=["a", "b", "c", "b", *"aabbab"], colour=["x", "y", "z"] * 3 + ["x"])
    write(tmp_path, "users.parquet", user=["u0", "u9"], age=[30, 40])
    recipe = recipe_of(features={"user": ["age", "city"], "item": ["colour"]})
    tables = read(tmp_path, "log.parquet", recipe, users={"path": "users.parquet", "user": "user"})
    assert tables.users is not None
    assert tables.items is not None
    assert set(values(tables.users, "_user", "age", "city")) == {("u0", 30, "a"), ("u1", None, "b"), ("u9", 40, None)}
    assert values(tables.items, "_item", "colour") == [(0, "x"), (1, "y"), (2, "z")]
    assert counts(tables) == {("users", "city changes in the impressions: its value at the user's first is used"): 2}
    assert "city" not in tables.impressions.columns


def test_events_without_items_stay_if_they_say_something_themselves(tmp_path: Path) -> None:
    write_log(tmp_path, city=list("ababababab"))
    events = {"user": ["u0"] * 3, "item": [1, None, None], "time": [SECOND] * 3, "city": ["a", "b", None]}
    write(tmp_path, "events.parquet", **events)
    recipe = recipe_of(features={"candidate": ["city"]}, history={"columns": ["city"]}, repeat={"key": ["city"]})
    part = {"path": "events.parquet", "user": "user", "item": "item", "time": "time"}
    tables = read(tmp_path, "log.parquet", recipe, events=part)
    assert tables.events is not None
    assert values(tables.events, "city") == ["a", "b"]
    assert counts(tables) == {("events", "item is missing, and every column of the history"): 1}


def test_numbers_in_text_and_what_is_none(tmp_path: Path) -> None:
    write_log(tmp_path, price=["1.5", " 2 ", "NA", "", None, "1e2", "3", "4", "inf", "x"])
    recipe = recipe_of(features={"candidate": [{"price": {"numeric": "log"}}]})
    tables = read(tmp_path, "log.parquet", recipe)
    assert values(tables.impressions, "price") == [1.5, 2.0, 3.0, 4.0, 100.0, None, None, None]
    assert counts(tables) == {("impressions", "price is not a number"): 2}


def test_the_fingerprint_follows_the_files(tmp_path: Path) -> None:
    from musenet.sources.own_files import OwnFiles, OwnFilesOptions

    write_log(tmp_path)
    part = {"path": "log.parquet", "user": "user", "item": "item", "time": "time", "label": "label"}
    options = OwnFilesOptions.model_validate({"source": "own_files", "impressions": part})
    source = OwnFiles(options, recipe_of(), tmp_path)
    before = source.fingerprint()
    assert source.fingerprint() == before
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy2(tmp_path / "log.parquet", elsewhere / "log.parquet")  # a log that was moved is still the same
    moved = part | {"path": str(elsewhere / "log.parquet")}
    there = OwnFilesOptions.model_validate({"source": "own_files", "impressions": moved})
    assert OwnFiles(there, recipe_of(), Path()).fingerprint() == before
    write_log(tmp_path, label=[1] * 10, more=[2.5] * 10)
    assert source.fingerprint() != before


def test_a_number_among_the_features_is_one_in_the_history(tmp_path: Path) -> None:
    write_log(tmp_path, price=[1.5] * 10)
    events = {"user": ["u0"] * 6, "item": [1] * 6, "time": [SECOND] * 6, "price": ["2.5"] * 5 + ["free"]}
    write(tmp_path, "events.parquet", **events)
    recipe = recipe_of(features={"candidate": [{"price": {"numeric": "log"}}]}, history={"columns": ["price"]})
    part = {"path": "events.parquet", "user": "user", "item": "item", "time": "time"}
    tables = read(tmp_path, "log.parquet", recipe, events=part)
    assert tables.events is not None
    assert values(tables.events, "price") == [2.5] * 5
    assert counts(tables) == {("events", "price is not a number"): 1}
