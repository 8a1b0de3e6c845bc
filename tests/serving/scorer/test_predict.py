"""Parquet to Parquet: the scores of the scorer, in order, whatever the rows' requests; mistakes by row and column."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import musenet
from musenet.cli.main import run as run_command
from musenet.errors import DataError
from musenet.serving.scorer import predict
from musenet.serving.scorer.scorer import Scorer
from serving.exports import Exported, request_of, rows_of_test


def frame(exported: Exported, rows: Any) -> pl.DataFrame:
    """A row per candidate of these requests, beside columns that nobody asks for."""
    flat = []
    for row in rows:
        request = request_of(exported, row)
        shared = {"request": row, "user_id": request["user"], "time": request["time"], "history": request["history"]}
        flat += [
            shared | request["context"] | {"item_id": c["item"], "price": c["price"], "label": 1}
            for c in request["candidates"]
        ]
    return pl.DataFrame(flat)


@pytest.fixture(scope="module")
def shown(exported: Exported) -> pl.DataFrame:
    return frame(exported, rows_of_test(exported.dataset)[:20])


@pytest.fixture(scope="module")
def expected(exported: Exported) -> list[float]:
    scorer = Scorer(exported.folder)
    rows = rows_of_test(exported.dataset)[:20]
    return [score for row in rows for score in scorer.score(request_of(exported, row))["scores"]]


@pytest.mark.parametrize("at_once", [1, 3, 7, 10_000])
def test_scores_are_the_scorers_in_the_order_of_the_rows(
    at_once: int,
    exported: Exported,
    shown: pl.DataFrame,
    expected: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many rows are read at once: a request that is cut by a chunk's end is put together again."""
    monkeypatch.setattr(predict, "ROWS_AT_ONCE", at_once)
    shown.write_parquet(tmp_path / "in.parquet")
    told: list[tuple[int, int]] = []
    rows = musenet.predict(
        exported.folder, tmp_path / "in.parquet", tmp_path / "out.parquet", progress=lambda *done: told.append(done)
    )
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found.columns == ["request", "time", "user_id", "item_id", "score"]
    assert found.drop("score").equals(shown.select("request", "time", "user_id", "item_id"))
    np.testing.assert_allclose(found["score"], expected, atol=1e-7)
    assert rows == len(shown)
    assert told[-1] == (rows, rows)


def test_without_a_request_column_rows_of_one_user_and_time_belong_together(
    exported: Exported, shown: pl.DataFrame, expected: list[float], tmp_path: Path
) -> None:
    times = [datetime.fromtimestamp(time, UTC) for time in shown["time"]]
    shown.drop("request", "label").with_columns(time=pl.Series(times)).write_parquet(tmp_path / "in.parquet")
    musenet.predict(exported.folder, tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found.columns == ["time", "user_id", "item_id", "score"]
    assert found["time"].to_list() == times
    np.testing.assert_allclose(found["score"], expected, atol=1e-7)


Change = Callable[[pl.DataFrame], pl.DataFrame]
MISTAKES: dict[str, tuple[Change, str]] = {
    "missing columns": (lambda f: f.drop("device", "item_id"), r"lacks the columns item_id, device; it has request"),
    "empty": (lambda f: f.head(0), r"holds no rows: give a row for every candidate"),
    "text in a number": (
        lambda f: f.with_columns(price=pl.lit("cheap")),
        r"column 'price' takes numbers, but holds (large_)?string",
    ),
    "no item": (lambda f: f.with_columns(item_id=pl.lit(None, pl.String)), r"row 1: column 'item_id' takes an id"),
    "an item later on": (
        lambda f: f.with_columns(item_id=pl.when(pl.int_range(pl.len()) == 4).then(pl.lit("")).otherwise("item_id")),
        r"row 5: column 'item_id' takes an id",
    ),
    "a context that varies": (
        lambda f: f.with_columns(request=1, party=pl.int_range(pl.len())),
        r"rows 1 and \d+ belong to one request, but differ in '(device|party|user_id)'",
    ),
    "an event's column": (
        lambda f: f.with_columns(history=pl.lit([{"item": "i1", "town": "x"}])),
        r"row 1: column 'history\.0\.town' is no column of events",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_file_row_and_column(
    mistake: str, exported: Exported, shown: pl.DataFrame, tmp_path: Path
) -> None:
    change, sentence = MISTAKES[mistake]
    change(shown).write_parquet(tmp_path / "in.parquet")
    with pytest.raises(DataError, match=rf"in\.parquet:? {sentence}"):
        musenet.predict(exported.folder, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_a_request_without_end_is_refused(
    exported: Exported, shown: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "MOST_CANDIDATES", 50)
    monkeypatch.setattr(predict, "ROWS_AT_ONCE", 20)
    one = pl.concat([shown.head(1)] * 60)
    one.write_parquet(tmp_path / "in.parquet")
    with pytest.raises(DataError, match="a request has more than 50 rows"):
        musenet.predict(exported.folder, tmp_path / "in.parquet", tmp_path / "out.parquet")


def test_the_command_refuses_what_is_no_parquet(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text("user_id,item_id\n1,2\n")
    out = tmp_path / "out.parquet"
    assert run_command(["predict", str(exported.folder), str(tmp_path / "in.csv"), "--out", str(out)]) == 2
    assert "is no Parquet file that can be read" in capsys.readouterr().err
    assert run_command(["predict", str(exported.folder), str(tmp_path / "nothing"), "--out", str(out)]) == 2
    assert "there is no file" in capsys.readouterr().err
    assert run_command(["predict", str(tmp_path), str(tmp_path / "in.csv"), "--out", str(out)]) == 2
    assert "holds no export" in capsys.readouterr().err


def test_memory_does_not_grow_with_the_file(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than a chunk and what is left of the one before is held."""
    monkeypatch.setattr(predict, "ROWS_AT_ONCE", 10)
    columns = {"user_id": "u1", "item_id": "i1", "device": "phone", "party": 1, "price": 2.0}
    rows = pa.Table.from_pylist([columns | {"time": float(time // 3)} for time in range(60)])
    pq.write_table(rows, tmp_path / "in.parquet")
    layout = predict._Layout(Scorer(exported.folder), tmp_path / "in.parquet")
    sizes = [len(chunk) for chunk, _ in layout.chunks()]
    assert sum(sizes) == 60
    assert max(sizes) <= 12
