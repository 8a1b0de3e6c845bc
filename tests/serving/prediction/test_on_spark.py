"""Spark's executors score as one machine does, wherever the rows of a request lie; mistakes are one sentence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import musenet
from musenet.cli.main import run as run_command
from musenet.errors import DataError, UserError
from musenet.serving.scorer.messages import Event
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.store.history import UserEvent
from musenet.serving.store.opening import open_store
from serving.exports import RELATIVE, SOFT, Exported, events_of, export_log, rows_of_test
from serving.prediction.test_predict import frame

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def parts(spark: Any) -> Iterator[None]:
    """Requests are spread over several partitions, which few rows would not be else."""
    from pyspark.sql import SparkSession

    changed = {"spark.sql.shuffle.partitions": "3", "spark.sql.adaptive.coalescePartitions.enabled": "false"}
    # An engine that was closed took its session along: the one to change is that which comes next.
    session = SparkSession.builder.config(map={**changed, "spark.master": "local[1]"}).getOrCreate()
    yield
    SparkSession.builder.config(map={"spark.sql.shuffle.partitions": "1"})
    session.conf.set("spark.sql.shuffle.partitions", "1")


@pytest.fixture(scope="module")
def relative(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Of a model that compares a request's candidates with each other."""
    return export_log(tmp_path_factory.mktemp("relative"), SOFT, features=RELATIVE)


def rows_of(exported: Exported) -> pl.DataFrame:
    """The test period, each row with a number of its own."""
    shown = frame(exported, rows_of_test(exported.dataset)[:40]).drop("label")
    return shown.with_row_index("row").with_columns(pl.col("row").cast(pl.UInt64), score=pl.lit("mine"))


def spread(shown: pl.DataFrame, folder: Path) -> None:
    """Rows in any order in several files, so that those of a request lie apart."""
    folder.mkdir()
    mixed = shown.sample(fraction=1, shuffle=True, seed=4)
    for part in range(3):
        mixed[part::3].write_parquet(folder / f"{part}.parquet")


def scored(path: Path) -> pl.DataFrame:
    return (
        pl.read_parquet(path / "*.parquet" if path.is_dir() else path)
        .with_columns(pl.col("row").cast(pl.UInt64))
        .sort("row")
    )


@pytest.mark.parametrize("without", [(), ("request",)])
def test_rows_that_lie_apart_get_the_scores_of_their_request(
    relative: Exported, tmp_path: Path, without: tuple[str, ...]
) -> None:
    """With all their columns; what they bring of their past is read, too."""
    shown = rows_of(relative).drop(*without)
    shown.write_parquet(tmp_path / "in.parquet")
    musenet.predict(relative.folder, tmp_path / "in.parquet", tmp_path / "one.parquet", explain=True)
    spread(shown, tmp_path / "in")
    rows = musenet.predict(relative.folder, tmp_path / "in", tmp_path / "out", explain=True, engine="spark")
    expected, found = pl.read_parquet(tmp_path / "one.parquet"), scored(tmp_path / "out")
    assert rows == len(shown) == len(found)
    assert len(list((tmp_path / "out").glob("*.parquet"))) > 1
    assert found.columns == expected.columns == [*shown.columns, "musenet_score", *expected.columns[-6:]]
    assert found.select(shown.columns).equals(shown)
    for name in ("musenet_score", "confidence", "probability_0", "probability_1", "probability_2"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
    for name in ("scenario", "scenario_name"):
        assert found[name].to_list() == expected[name].to_list()


def test_histories_are_read_by_the_executors(exported: Exported, tmp_path: Path) -> None:
    """From files of events and from a store; CSV, too."""
    scorer, shown = Scorer(exported.folder), rows_of(exported).drop("history", "score")
    shown.write_parquet(tmp_path / "in.parquet")
    shown.write_csv(tmp_path / "in.csv")
    assert exported.log.events is not None
    names = {"_user": "user_id", "_item": "item_id", "_time": "time", "_kind": "kind"}
    clicks = exported.log.events.rename(names).with_columns(time=pl.from_epoch("time", "us"))
    clicks.write_parquet(tmp_path / "clicks.parquet")
    with open_store(str(tmp_path / "history.sqlite"), scorer.rules) as store:
        for user in shown["user_id"].unique():
            events = (scorer.past_event(Event.model_validate(one)) for one in events_of(exported.log, user))
            store.append([UserEvent(user, event) for event in events])
    clicked, stored = {"events": tmp_path / "clicks.parquet"}, {"store": str(tmp_path / "history.sqlite")}
    ways: list[tuple[str, dict[str, Any]]] = [("in.parquet", stored), ("in.parquet", clicked), ("in.csv", clicked)]
    for name, where in ways:
        one, out = tmp_path / "one.parquet", tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        musenet.predict(exported.folder, tmp_path / name, one, **where)
        musenet.predict(exported.folder, tmp_path / name, out, engine="spark", **where)
        found, expected = scored(out), scored(one)
        np.testing.assert_allclose(found["score"], expected["score"], atol=1e-6)
    musenet.predict(exported.folder, tmp_path / "in.parquet", one)
    assert np.abs(scored(one)["score"] - expected["score"]).max() > 0.01


def test_a_mistake_is_one_sentence_that_names_the_row(
    exported: Exported, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = rows_of(exported)
    wrong = shown.with_columns(item_id=pl.when(pl.col("row") == 7).then(pl.lit("")).otherwise("item_id"))
    spread(wrong, tmp_path / "in")
    command = ["predict", str(exported.folder), str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--engine"]
    assert run_command([*command, "spark"]) == 2
    said = capfd.readouterr().err.strip()
    user, request = shown.row(7, named=True)["user_id"], shown.row(7, named=True)["request"]
    assert f"the requests: the row of user_id {user}, request {request}, time" in said
    assert "column 'item_id' takes an id" in said
    assert "\n" not in said
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_cannot_be_right_is_refused(exported: Exported, tmp_path: Path) -> None:
    shown, asked = rows_of(exported), tmp_path / "in.parquet"
    shown.write_parquet(asked)

    def predict(requests: Path = asked, out: str = "out", **changes: Any) -> None:
        musenet.predict(exported.folder, requests, tmp_path / out, engine="spark", **changes)

    with pytest.raises(UserError, match="executors read histories themselves"):
        predict(events=shown.to_arrow())
    with pytest.raises(UserError, match="from --events or from --store, not from both"):
        predict(events=asked, store="a.sqlite")
    with pytest.raises(UserError, match=r"in\.parquet exists already"):
        predict(out="in.parquet")
    with pytest.raises(DataError, match=r"nowhere\.sqlite does not exist"):
        predict(store=str(tmp_path / "nowhere.sqlite"))
    shown.drop("device").write_parquet(tmp_path / "narrow.parquet")
    with pytest.raises(DataError, match="lacks the column device"):
        predict(tmp_path / "narrow.parquet")
    shown.with_columns(time=pl.from_epoch("time").cast(pl.Datetime("ns"))).write_parquet(tmp_path / "nanos.parquet")
    with pytest.raises(DataError, match=r"Spark cannot score .*nanos\.parquet"):
        predict(tmp_path / "nanos.parquet")
    assert {path.name for path in tmp_path.iterdir()} == {"in.parquet", "narrow.parquet", "nanos.parquet"}
