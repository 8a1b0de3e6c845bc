"""Files to files: the scores of the service, in order, whatever the rows' requests; mistakes by row and column."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import musenet
from musenet.cli.main import run as run_command
from musenet.errors import DataError
from musenet.serving.prediction import layout, scoring
from musenet.serving.scorer.scorer import Scorer
from serving.exports import RELATIVE, SOFT, Exported, export_log, request_of, rows_of_test


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


def test_a_request_whose_rows_lie_apart_is_refused_where_they_are_compared(tmp_path: Path) -> None:
    exported = export_log(tmp_path / "log", SOFT, features=RELATIVE)
    rows = [row for row in rows_of_test(exported.dataset) if len(request_of(exported, row)["candidates"]) > 2][:6]
    together, scorer = frame(exported, rows), Scorer(exported.folder)
    out, apart = tmp_path / "out", tmp_path / "apart"
    apart.mkdir()
    together.write_parquet(tmp_path / "together.parquet")
    musenet.predict(exported.folder, tmp_path / "together.parquet", tmp_path / "out.parquet")
    expected = [score for row in rows for score in scorer.score(request_of(exported, row))["scores"]]
    np.testing.assert_allclose(pl.read_parquet(tmp_path / "out.parquet")["score"], expected, atol=1e-6)
    pl.concat([together[1:], together[:1]]).write_parquet(tmp_path / "turned.parquet")
    with pytest.raises(DataError, match=f"row {len(together)} continues a request whose other rows are elsewhere"):
        musenet.predict(exported.folder, tmp_path / "turned.parquet", tmp_path / "out.parquet")
    for name, part in (("a", together[:-1]), ("b", together[-1:])):
        part.write_parquet(apart / f"{name}.parquet")
    with pytest.raises(DataError, match=r"b.parquet: row 1 continues"):
        musenet.predict(exported.folder, apart, out)


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
    monkeypatch.setattr(scoring, "ROWS_AT_ONCE", at_once)
    shown.write_parquet(tmp_path / "in.parquet")
    told: list[tuple[int, int]] = []
    rows = musenet.predict(
        exported.folder, tmp_path / "in.parquet", tmp_path / "out.parquet", progress=lambda *done: told.append(done)
    )
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found.columns == [*shown.columns, "score"]
    assert found.drop("score").equals(shown)
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
    assert found.columns == [*shown.drop("request", "label").columns, "score"]
    assert found["time"].to_list() == times
    np.testing.assert_allclose(found["score"], expected, atol=1e-7)


Change = Callable[[pl.DataFrame], pl.DataFrame]
MISTAKES: dict[str, tuple[Change, str]] = {
    "missing columns": (lambda f: f.drop("device", "item_id"), r"lacks the columns item_id, device; it has request"),
    "empty": (lambda f: f.head(0), r"holds no rows: give a row for every candidate"),
    "text in a number": (
        lambda f: f.with_columns(price=pl.lit("cheap")),
        r"row 1: column 'price' holds 'cheap', which is no number",
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
        r"column 'history\.town' is no column of events",
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
    monkeypatch.setattr(layout, "MOST_CANDIDATES", 50)
    monkeypatch.setattr(scoring, "ROWS_AT_ONCE", 20)
    one = pl.concat([shown.head(1)] * 60)
    one.write_parquet(tmp_path / "in.parquet")
    with pytest.raises(DataError, match="a request has more than 50 rows"):
        musenet.predict(exported.folder, tmp_path / "in.parquet", tmp_path / "out.parquet")


def test_the_command_refuses_what_it_cannot_read_or_write(
    exported: Exported, shown: pl.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown.write_parquet(tmp_path / "good.parquet")
    (tmp_path / "in.parquet").write_text("user_id,item_id\n1,2\n")
    out = tmp_path / "out.parquet"
    assert run_command(["predict", str(exported.folder), str(tmp_path / "in.parquet"), "--out", str(out)]) == 2
    assert "is not a readable Parquet file" in capsys.readouterr().err
    assert run_command(["predict", str(exported.folder), str(tmp_path / "good.parquet"), "--out", "scores.xlsx"]) == 2
    assert "--out scores.xlsx: give a name of this machine that ends in .parquet, .csv," in capsys.readouterr().err
    assert run_command(["predict", str(exported.folder), str(tmp_path / "nothing"), "--out", str(out)]) == 2
    assert "there is no file" in capsys.readouterr().err
    assert run_command(["predict", str(tmp_path), str(tmp_path / "in.parquet"), "--out", str(out)]) == 2
    assert "holds no export" in capsys.readouterr().err


def test_memory_does_not_grow_with_the_rows(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is read ahead than what the cores compute and one piece that waits."""
    monkeypatch.setattr(scoring, "ROWS_AT_ONCE", 10)
    columns = {"user_id": "u1", "item_id": "i1", "device": "phone", "party": 1, "price": 2.0}
    rows = pa.Table.from_pylist([columns | {"time": float(time // 3)} for time in range(3000)])
    read = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal read
        for batch in rows.to_batches(max_chunksize=10):
            read += len(batch)
            yield batch

    done = 0
    for batch in scoring.score_rows(Scorer(exported.folder), pa.RecordBatchReader.from_batches(rows.schema, batches())):
        done += len(batch)
        assert read - done <= (len(os.sched_getaffinity(0)) + 3) * 12
    assert done == 3000


def test_columns_that_are_there_already_stay(exported: Exported, shown: pl.DataFrame, expected: list[float]) -> None:
    asked = shown.with_columns(score=pl.lit("mine"), price=pl.col("price").cast(pl.Float32)).to_arrow()
    found = scoring.score_rows(Scorer(exported.folder), asked).read_all()
    assert set(found["score"].to_pylist()) == {"mine"}
    assert found.select(asked.column_names).equals(asked)
    np.testing.assert_allclose(found["musenet_score"], expected, atol=1e-6)


def test_explained_rows_tell_the_scenarios_of_their_request(exported: Exported, shown: pl.DataFrame) -> None:
    scorer = Scorer(exported.folder)
    found = pl.from_arrow(scoring.score_rows(scorer, shown.to_arrow(), explain=True).read_all())
    assert isinstance(found, pl.DataFrame)
    asked = [request_of(exported, row) | {"explain": True} for row in rows_of_test(exported.dataset)[:20]]
    shares = [scorer.score(one)["scenarios"] for one in asked for _ in one["candidates"]]
    np.testing.assert_allclose(found.select("probability_0", "probability_1", "probability_2"), shares, atol=1e-6)
    assert found["scenario"].to_list() == np.argmax(shares, axis=1).tolist()
    np.testing.assert_allclose(found["confidence"], np.max(shares, axis=1), atol=1e-6)
    names = scorer.score(asked[0])["scenario_names"]
    assert len(set(names)) == 3
    assert found["scenario_name"].to_list() == [names[k] for k in np.argmax(shares, axis=1)]


def test_csv_comes_out_with_the_same_scores(
    exported: Exported, shown: pl.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders too; without histories that is said before anything is scored."""
    asked = shown.drop("history").with_columns(note=pl.lit("a;b, c"), code=pl.lit("007"))
    (tmp_path / "in" / "week").mkdir(parents=True)
    asked.head(30).write_csv(tmp_path / "in" / "a.csv")
    asked.tail(-30).write_csv(tmp_path / "in" / "week" / "b.csv", separator=";")
    asked.write_parquet(tmp_path / "in.parquet")
    for given in ("in", "in.parquet"):
        out = str(tmp_path / f"scored-{given}")
        assert run_command(["predict", str(exported.folder), str(tmp_path / given), "--out", out]) == 0
        assert "warning: no histories are given" in capsys.readouterr().err
    paths = [tmp_path / "scored-in" / "a.csv", tmp_path / "scored-in" / "week" / "b.csv"]
    found = pl.concat([pl.read_csv(path, schema_overrides={"code": pl.String}) for path in paths])
    assert found.columns == [*asked.columns, "score"]
    assert found["code"].to_list() == ["007"] * len(asked)
    assert found["note"].to_list() == ["a;b, c"] * len(asked)
    whole = pl.read_parquet(tmp_path / "scored-in.parquet")
    # The 30th row may lie inside a request: its halves are scored apart, which this model does not see.
    np.testing.assert_allclose(found["score"], whole["score"], atol=1e-6)


def test_rows_without_times_are_asked_for_them(exported: Exported, shown: pl.DataFrame, tmp_path: Path) -> None:
    shown.drop("time").write_parquet(tmp_path / "in.parquet")
    with pytest.raises(DataError, match=r"lacks the column 'time', which says when .* --now 2026-01-31T12:00:00Z"):
        musenet.predict(exported.folder, tmp_path / "in.parquet", tmp_path / "out.parquet")
    moment = datetime(2024, 1, 9, tzinfo=UTC)
    shown.with_columns(time=pl.lit(moment)).write_parquet(tmp_path / "timed.parquet")
    musenet.predict(exported.folder, tmp_path / "in.parquet", tmp_path / "out.parquet", now="2024-01-09T00:00:00Z")
    musenet.predict(exported.folder, tmp_path / "timed.parquet", tmp_path / "timed-out.parquet")
    now, timed = (pl.read_parquet(tmp_path / name)["score"] for name in ("out.parquet", "timed-out.parquet"))
    np.testing.assert_allclose(now, timed, atol=1e-7)
    shown.with_columns(time=pl.when(pl.int_range(pl.len()) == 4).then(None).otherwise("time")).write_parquet(
        tmp_path / "hole.parquet"
    )
    with pytest.raises(DataError, match=r"hole\.parquet: row 5 lacks its time in 'time'"):
        musenet.predict(exported.folder, tmp_path / "hole.parquet", tmp_path / "out.parquet")
