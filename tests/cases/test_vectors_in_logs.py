"""Vectors in a log's files: good ones are read whatever they lie in, bad ones refused or counted at every door."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from musenet.engines.registry import open_engine
from musenet.errors import DataError
from musenet.preparation.prepare import prepare
from musenet.sources.own_files import OwnFiles, OwnFilesOptions
from musenet.sources.tables import REFUSED, Tables
from sources.reading import ROLES, counts, read, recipe_of, rows, values, write_log

VECTOR = recipe_of(features={"candidate": [{"v": {"vector": 2, "projection": 1}}]})
GOOD = [[float(row), -row / 4] for row in range(10)]


def held(tables: Tables) -> dict[float, list[float] | None]:
    """The vectors by the time of their row, in seconds after the first."""
    pairs = values(tables.impressions, "_time", "v")
    first = min(time for time, _ in pairs)
    return {(time - first) / 1_000_000: vector for time, vector in pairs}


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 2), pa.large_list(pa.float64())])
def test_lists_of_every_kind_are_vectors(kind: pa.DataType, tmp_path: Path) -> None:
    write_log(tmp_path, v=pa.array(GOOD, kind))
    assert held(read(tmp_path, "log.parquet", VECTOR)) == dict(enumerate(GOOD))


def test_vectors_in_json_lines_are_read(tmp_path: Path) -> None:
    lines = [row | {"v": vector} for row, vector in zip(pd.DataFrame(rows()).to_dict("records"), GOOD, strict=True)]
    lines[3]["v"] = None
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert held(read(tmp_path, "log.jsonl", VECTOR)) == dict(enumerate(GOOD)) | {3: None}


@pytest.mark.parametrize(
    "bad", [[1.0], [1.0, 2.0, 3.0], [1.0, None], [1.0, float("nan")], [float("inf"), 1.0], [1e300, 1.0]]
)
def test_a_row_whose_vector_is_none_is_refused_and_counted(bad: list[Any], tmp_path: Path) -> None:
    write_log(tmp_path, v=pa.array([*GOOD[:4], bad, *GOOD[5:]], pa.list_(pa.float64())))
    tables = read(tmp_path, "log.parquet", VECTOR)
    assert held(tables) == {time: vector for time, vector in enumerate(GOOD) if time != 4}
    assert counts(tables) == {("impressions", "v is not a list of 2 numbers"): 1}
    assert tables.rejected is not None
    refused = tables.rejected.select(*REFUSED.names).to_pyarrow().to_pylist()
    assert [row["reason"] for row in refused] == ["v is not a list of 2 numbers"]


def test_text_in_a_list_is_refused_like_any_other_value_that_is_no_number(tmp_path: Path) -> None:
    written = [[str(one) for one in row] for row in GOOD]
    written[2] = ["1.5", "left"]
    write_log(tmp_path, v=written)
    tables = read(tmp_path, "log.parquet", VECTOR)
    assert held(tables) == {time: vector for time, vector in enumerate(GOOD) if time != 2}
    assert counts(tables) == {("impressions", "v is not a list of 2 numbers"): 1}


def test_a_missing_vector_and_an_empty_list_refuse_nothing(tmp_path: Path) -> None:
    write_log(tmp_path, v=pa.array([None, [], *GOOD[2:]], pa.list_(pa.float64())))
    tables = read(tmp_path, "log.parquet", VECTOR)
    assert held(tables) == dict(enumerate(GOOD)) | {0: None, 1: None}
    assert counts(tables) == {}


def test_a_length_that_is_wrong_everywhere_is_the_configurations_mistake(tmp_path: Path) -> None:
    write_log(tmp_path, v=GOOD)
    wrong = recipe_of(features={"candidate": [{"v": {"vector": 384}}]})
    with pytest.raises(DataError, match=r"10 of 10 rows would be refused .* because v is not a list of 384 numbers"):
        read(tmp_path, "log.parquet", wrong)


@pytest.mark.parametrize(("column", "told"), [(["[1, 2]"] * 10, "string"), (list(range(10)), "int64")])
def test_what_is_no_list_is_refused_in_a_sentence(column: Any, told: str, tmp_path: Path) -> None:
    write_log(tmp_path, v=column)
    with pytest.raises(DataError, match=rf"column 'v' \(features.candidate\) holds {told}, not lists of numbers: give"):
        read(tmp_path, "log.parquet", VECTOR)
    pd.DataFrame(rows() | {"v": column}).to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(DataError, match=r"holds string, not lists of numbers"):
        read(tmp_path, "log.csv", VECTOR)


def test_an_item_whose_vector_is_none_is_refused_and_one_that_has_none_kept(tmp_path: Path) -> None:
    write_log(tmp_path)
    items = {"item": list(range(6)), "v": pa.array([[1, 2], None, [3, 4], [5], [], [6, 7]], pa.list_(pa.int64()))}
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    recipe = recipe_of(features={"item": [{"v": {"vector": 2}}]})
    told = {"impressions": ROLES | {"path": "log.parquet"}, "items": {"path": "items.parquet", "item": "item"}}
    options = OwnFilesOptions.model_validate({"source": "own_files"} | told)
    tables = OwnFiles(options, recipe, tmp_path).tables(open_engine("duckdb", tmp_path, None))
    assert values(tables.items, "_item", "v") == [(0, [1, 2]), (1, None), (2, [3, 4]), (4, None), (5, [6, 7])]
    assert counts(tables) == {("items", "v is not a list of 2 numbers"): 1}


def test_a_request_that_holds_two_vectors_of_its_own_is_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(rows(60))
    frame["search"], frame["v"] = frame.index // 2, list(random.normal(size=(60, 2)))
    frame["user"], frame["time"] = "u" + (frame["search"] % 3).astype(str), frame["time"] - frame.index % 2
    frame.to_parquet(tmp_path / "log.parquet", index=False)
    recipe = recipe_of(features={"context": [{"v": {"vector": 2}}]})
    options = {"source": "own_files", "impressions": ROLES | {"path": "log.parquet", "request": "search"}}
    log = OwnFiles(OwnFilesOptions.model_validate(options), recipe, tmp_path)
    with pytest.raises(DataError, match=r"column 'v' differs inside 30 requests .*list it under features.candidate"):
        prepare(log, recipe, tmp_path / "dataset")


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ({"history": {"columns": ["v"]}}, "history.columns"),
        ({"repeat": {"key": ["item", "v"]}}, "repeat.key"),
        ({"predefined_scenario": ["v"]}, "predefined_scenario"),
    ],
)
def test_a_vector_is_neither_history_nor_repeat_key_nor_scenario(part: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError, match=rf"{key}: 'v' is a vector, whose values do not recur: name a column"):
        recipe_of(features={"item": [{"v": {"vector": 2}}]}, **part)


@pytest.mark.parametrize(
    "options", [{"vector": 0}, {"vector": 9000}, {"vector": 2, "projection": 0}, {"projection": 4}]
)
def test_lengths_that_no_vector_has_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        recipe_of(features={"item": [{"v": options}]})
