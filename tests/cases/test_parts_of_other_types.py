"""Parts of one table whose columns or types differ: every value stays what it was, or the parts are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musenet.errors import DataError
from musenet.sources.tables import Tables
from sources.reading import SECOND, read, recipe_of, values, write

PRICE = recipe_of(features={"candidate": [{"price": {"numeric": "log"}}]})


def frame(first: int, **more: Any) -> pd.DataFrame:
    """Ten impressions of items that no other part has."""
    row = np.arange(10)
    roles = {"user": "u" + pd.Series(row % 2).astype(str), "item": first + row, "time": SECOND + row, "label": row % 2}
    return pd.DataFrame(roles | more)


def write_parts(folder: Path, *parts: pd.DataFrame) -> None:
    for place, part in enumerate(parts):
        part.to_parquet(folder / f"part-{place}.parquet", index=False)


def mended(tables: Tables) -> dict[str, int]:
    """What was mended, without the folder's name, and in how many rows."""
    return {
        " ".join(word.rsplit("/")[-1] for word in rule.reason.split(" ")): rule.rows
        for rule in tables.cleaning
        if not rule.dropped
    }


@pytest.mark.parametrize("whole_first", [True, False])
def test_whole_prices_in_one_part_round_no_fraction(tmp_path: Path, whole_first: bool) -> None:
    fractions = frame(0, price=np.arange(10) + 0.37)
    whole = frame(10, price=np.arange(10, 20).astype("int32"))
    write_parts(tmp_path, *([whole, fractions] if whole_first else [fractions, whole]))
    tables = read(tmp_path, "part-*.parquet", PRICE)
    expected = pd.concat([fractions, whole]).sort_values("item").price
    assert [price for _, price in values(tables.impressions, "_item", "price")] == expected.tolist()
    place = 0 if whole_first else 1
    assert mended(tables) == {f"price is int32 in part-{place}.parquet: made float64": 10}


def test_narrow_whole_numbers_hold_what_the_wide_ones_hold(tmp_path: Path) -> None:
    narrow, wide = frame(0).astype({"item": "int8"}), frame(2**60)
    write_parts(tmp_path, narrow, wide)
    found = values(read(tmp_path, "part-*.parquet").impressions, "_item")
    assert found == [*range(10), *range(2**60, 2**60 + 10)]


def test_ids_that_are_text_in_one_part_are_text_in_all(tmp_path: Path) -> None:
    write_parts(tmp_path, frame(0), frame(10).assign(item=lambda part: "A" + part.item.astype(str)))
    tables = read(tmp_path, "part-*.parquet")
    assert values(tables.impressions, "_item") == sorted(
        [*map(str, range(10)), *(f"A{item}" for item in range(10, 20))]
    )
    assert mended(tables) == {"item is int64 in part-0.parquet: made string": 10}


def test_unsigned_ids_beyond_the_signed_ones_are_text(tmp_path: Path) -> None:
    write_parts(tmp_path, frame(0), frame(10).assign(item=lambda part: part.item.astype("uint64") + np.uint64(2**63)))
    found = values(read(tmp_path, "part-*.parquet").impressions, "_item")
    assert found == sorted(map(str, [*range(10), *(2**63 + item for item in range(10, 20))]))


def test_a_column_that_a_part_lacks_is_missing_there_and_counted(tmp_path: Path) -> None:
    write_parts(
        tmp_path, frame(0), frame(10, price=1.5), frame(20, price=2.5)[["price", "user", "time", "label", "item"]]
    )
    tables = read(tmp_path, "part-*.parquet", PRICE)
    found = values(tables.impressions, "_item", "price")
    assert sorted(item for item, _ in found) == list(range(30))
    assert dict(found) == dict(zip(range(30), [None] * 10 + [1.5] * 10 + [2.5] * 10, strict=True))
    assert mended(tables) == {"price is missing in part-0.parquet: made NULL": 10}


def test_an_empty_part_says_nothing_about_types(tmp_path: Path) -> None:
    empty = pa.schema([(name, pa.null()) for name in frame(0, price=1.5).columns]).empty_table()
    pq.write_table(empty, tmp_path / "part-0.parquet")
    frame(0, price=1.5).to_parquet(tmp_path / "part-1.parquet", index=False)
    frame(10).iloc[:0].assign(price="").to_parquet(tmp_path / "part-2.parquet", index=False)
    tables = read(tmp_path, "part-*.parquet", PRICE)
    assert values(tables.impressions, "_item") == list(range(10))
    assert mended(tables) == {}


def test_a_column_of_nulls_takes_the_type_of_the_others(tmp_path: Path) -> None:
    write_parts(tmp_path, frame(0, price=None), frame(10, price=1.5))
    tables = read(tmp_path, "part-*.parquet", PRICE)
    assert values(tables.impressions, "price").count(None) == 10
    assert pd.Series(values(tables.impressions, "price")).sum() == 15.0


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        (
            [True] * 10,
            [[3]] * 10,
            r"'price' is boolean in .*part-0.parquet and array<int64> in .*part-1.parquet: write it",
        ),
        (
            pd.Timestamp("2024-03-04"),
            "2024",
            r"'price' is timestamp.* in .*part-0.parquet and string in .*: write it in one type",
        ),
        (2**60 + 1, 1.5, r"'price' is int64 in .* and float64 in .* holds whole numbers too large for it"),
    ],
)
def test_types_that_do_not_go_together_are_refused(tmp_path: Path, first: Any, second: Any, sentence: str) -> None:
    write_parts(tmp_path, frame(0, price=first), frame(10, price=second))
    with pytest.raises(DataError, match=sentence):
        read(tmp_path, "part-*.parquet", recipe_of(features={"candidate": ["price"]}))
    # What the configuration does not name may be what it likes.
    assert len(values(read(tmp_path, "part-*.parquet").impressions, "_item")) == 20


def test_times_with_and_without_a_zone_are_refused(tmp_path: Path) -> None:
    naive = frame(0).assign(time=lambda part: pd.to_datetime(part.time, unit="s").astype("datetime64[us]"))
    write_parts(tmp_path, naive, naive.assign(time=naive.time.dt.tz_localize("Europe/Berlin")))
    with pytest.raises(DataError, match=r"'time' is timestamp\(6\) in .* and timestamp\('.*', 6\) in"):
        read(tmp_path, "part-*.parquet")


def test_nanoseconds_and_microseconds_with_a_zone_are_times_alike(tmp_path: Path) -> None:
    aware = [pd.to_datetime(frame(first).time, unit="s", utc=True) for first in (0, 10)]
    nanoseconds = frame(0).assign(time=aware[0].astype("datetime64[ns, UTC]"))
    microseconds = frame(10).assign(time=aware[1].dt.tz_convert("Asia/Kolkata").dt.as_unit("us"))
    write_parts(tmp_path, nanoseconds, microseconds)
    found = values(read(tmp_path, "part-*.parquet").impressions, "_item", "_time")
    assert found == [(item, (SECOND + item % 10) * 1_000_000) for item in range(20)]


def test_csv_parts_are_brought_together_by_name_whatever_their_order_and_separator(tmp_path: Path) -> None:
    first, second, third = frame(0, price=1.25), frame(10), frame(20, price=2)
    first.to_csv(tmp_path / "part-0.csv", index=False)
    second[["label", "time", "item", "user"]].to_csv(tmp_path / "part-1.csv", index=False, sep=";")
    third[["price", "label", "time", "item", "user"]].to_csv(tmp_path / "part-2.csv.gz", index=False)
    tables = read(tmp_path, "part-*", PRICE)
    together = pd.concat([first, second, third])
    found = values(tables.impressions, "_item", "_user", "_label", "price")
    expected = [(row.item, row.user, row.label, row.price) for row in together.itertuples()]
    assert [row[:3] for row in found] == sorted(row[:3] for row in expected)
    assert sum(row[3] or 0 for row in found) == together.price.sum()
    assert mended(tables) == {"price is missing in part-1.csv: made NULL": 10}


def test_names_that_differ_in_capitals_are_told_apart_or_refused(tmp_path: Path) -> None:
    write_parts(tmp_path, frame(0, price=1.5), frame(10, Price=2.5))
    with pytest.raises(DataError, match=r"part-0.parquet calls a column 'price' and .*part-1.parquet 'Price'"):
        read(tmp_path, "part-*.parquet", PRICE)
    both = frame(0, price=1.5, Price=2.5)
    both.to_parquet(tmp_path / "both.parquet", index=False)
    both.to_csv(tmp_path / "both.csv", index=False)
    for name in ("both.parquet", "both.csv"):
        with pytest.raises(DataError, match=r"names that differ in capitals alone, 'price' and 'Price': rename one"):
            read(tmp_path, name, PRICE)


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    write(tmp_path, "part-0.parquet", **{str(name): list(column) for name, column in frame(0).items()})
    events = {"user": ["u0"] * 3, "item": [1, 2, 3], "time": [SECOND] * 3}
    write(tmp_path, "events.parquet", **events)
    (tmp_path / "latest.parquet").symlink_to(tmp_path / "events.parquet")
    part = {"path": ["events.parquet", "*t*.parquet"], "user": "user", "item": "item", "time": "time"}
    part["path"] = ["events.parquet", "latest.parquet", "even*.parquet"]
    tables = read(tmp_path, "part-0.parquet", recipe_of(repeat={"key": ["item"]}), events=part)
    assert values(tables.events, "_item") == [1, 2, 3]
