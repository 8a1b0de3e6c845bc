"""Frames of several libraries: the same rows are the same file, and columns added come back in the type that came."""

import datetime as dt
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frame_logs import LIBRARIES
from musenet.errors import DataError
from musenet.frames import as_kind, keep_frame, kind_of, with_columns

ROWS = pd.DataFrame(
    {
        "id": [3, 1, 2],
        "text": ["x", None, "ß"],
        "kind": pd.Categorical(["b", "a", "b"]),
        "at": pd.to_datetime(["2024-01-31 12:00:00.000000", "NaT", "2024-02-01 00:00:00.000001"]),
        "price": [1.5, np.nan, 2.0],
    }
)
TYPES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.Table, "duckdb": duckdb.DuckDBPyRelation}


@pytest.mark.parametrize("library", LIBRARIES)
def test_equal_rows_are_the_same_file_whoever_holds_them(library: str, tmp_path: Path) -> None:
    expected = keep_frame(ROWS, "events", tmp_path)
    assert keep_frame(LIBRARIES[library](ROWS), "events", tmp_path) == expected
    assert [file.name for file in tmp_path.iterdir()] == [expected.name]
    kept = pq.read_table(expected)
    assert kept["kind"].to_pylist() == ["b", "a", "b"]
    assert kept["text"].to_pylist() == ["x", None, "ß"]
    assert kept["at"].to_pylist() == [
        dt.datetime(2024, 1, 31, 12),
        None,
        dt.datetime(2024, 2, 1, microsecond=1),
    ]


def test_other_rows_are_another_file(tmp_path: Path) -> None:
    first = keep_frame(ROWS, "events", tmp_path)
    assert keep_frame(ROWS.assign(id=[3, 1, 4]), "events", tmp_path) != first
    assert keep_frame(ROWS[::-1], "events", tmp_path) != first


def test_the_parts_that_a_library_holds_its_rows_in_do_not_matter(tmp_path: Path) -> None:
    table = pa.Table.from_pandas(ROWS, preserve_index=False)
    parts = pa.concat_tables([table.slice(2), table.slice(0, 2)])
    assert keep_frame(parts, "rows", tmp_path) == keep_frame(parts.combine_chunks(), "rows", tmp_path)


def test_the_row_numbers_of_a_chosen_part_of_a_pandas_frame_are_no_column(tmp_path: Path) -> None:
    assert "id" in pq.read_schema(keep_frame(ROWS[ROWS.id > 1], "rows", tmp_path)).names
    assert len(pq.read_schema(keep_frame(ROWS[ROWS.id > 1], "rows", tmp_path)).names) == 5
    named = pq.read_table(keep_frame(ROWS.set_index("id"), "rows", tmp_path))
    assert sorted(named["id"].to_pylist()) == [1, 2, 3]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame({"a": [1, "x"]}), "events cannot be read as a table"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "events"),
        (pd.DataFrame({"a": pd.Series([], dtype="int64")}), "events has no rows"),
    ],
    ids=["two types", "a name twice", "no rows"],
)
def test_what_is_no_table_is_one_sentence(frame: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said) as error:
        keep_frame(frame, "events", tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("library", LIBRARIES)
def test_columns_are_added_in_the_type_that_came_in(library: str) -> None:
    frame = LIBRARIES[library](ROWS)
    found = with_columns(frame, {"score": pa.array([0.1, 0.2, 0.3])})
    assert type(found) is TYPES[library]
    assert kind_of(found) == library
    table = pa.table(found)
    assert table["score"].to_pylist() == [0.1, 0.2, 0.3]
    assert table["id"].to_pylist() == [3, 1, 2]
    assert table.column_names == [*ROWS.columns, "score"]


def test_a_pandas_frame_keeps_its_index_and_types() -> None:
    frame = ROWS.set_index(pd.Index(["r", "s", "t"]))
    found = with_columns(frame, {"score": pa.array([0.1, 0.2, 0.3])})
    pd.testing.assert_frame_equal(found.drop(columns="score"), frame)
    assert found.loc["s", "score"] == 0.2


@pytest.mark.parametrize("library", LIBRARIES)
def test_tables_come_out_as_asked(library: Any) -> None:
    table = pa.table({"a": [1, 2]})
    found = as_kind(table, library)
    assert type(found) is TYPES[library]
    assert pa.table(found)["a"].to_pylist() == [1, 2]
