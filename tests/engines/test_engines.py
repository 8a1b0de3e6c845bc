"""DuckDB and Spark make the same dataset, to the byte; what they need is asked for in one sentence."""

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ibis
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cases import value_logs
from musenet.config.loading import load_experiment
from musenet.engines.engine import ROWS_PER_CHUNK, Engine
from musenet.engines.registry import bytes_of, open_engine
from musenet.errors import ConfigError, DataError, UserError
from musenet.preparation.prepare import prepare
from musenet.recipe.recipe import Recipe
from musenet.sources.ali_ads import AliAds, AliAdsOptions
from musenet.sources.own_files import OwnFiles, OwnFilesOptions
from musenet.sources.registry import open_source
from musenet.sources.tables import LogSize, Source, Tables
from odd_logs import write_three_files
from places import CONFIGS
from preparation.logs import Log, random_log, recipe
from sources.ads_files import write_ads
from vector_logs import FEATURES, vector_log

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class ParquetSource:
    """A random log in files, as every engine reads them."""

    log: Log
    folder: Path

    def tables(self, engine: Engine) -> Tables:
        tables: dict[str, Any] = {}
        for name in ("impressions", "events", "users", "items"):
            frame: pl.DataFrame | None = getattr(self.log, name)
            if frame is not None:
                frame.write_parquet(self.folder / f"{name}.parquet")
            tables[name] = None if frame is None else engine.read_parquet([self.folder / f"{name}.parquet"])
        return replace(self.log.tables(), **tables)

    def fingerprint(self) -> str:
        return "parquet"

    def size(self) -> LogSize:
        return LogSize(len(self.log.impressions), 0)


def with_negatives(folder: Path) -> tuple[Source, Recipe]:
    """Drawn candidates, own positives as events, a delay, a window, an optional key, a pattern as separator."""
    log = random_log(3)
    assert log.items is not None
    positives = log.impressions.filter(pl.col("_label") == 1).drop("price", "place", "chance")
    items = log.items.with_columns(pl.col("tags").str.replace_all(";", "|", literal=True))
    features = {
        "user": ["home"],
        "item": ["city", "brand", {"tags": {"multi_valued": "|"}}],
        "context": ["device", "party"],
    }
    chosen = recipe(
        features=features,
        history={"columns": ["item_id", "brand"], "length": 5, "delay": 60},
        repeat={"key": ["brand", "city"], "optional": ["city"], "window": "2 days"},
        negatives={"per_request": 3},
        predefined_scenario=[],
        true_probability=None,
        true_scenario=None,
    )
    return ParquetSource(log.but(impressions=positives, events=None, items=items), folder), chosen


def own_files(folder: Path) -> tuple[Source, Recipe]:
    """Text and numbers of every odd kind, refused rows among them."""
    views, actions, catalogue = (path.name for path in write_three_files(folder))
    options = {
        "source": "own_files",
        "impressions": {
            "path": views,
            "user": "visitor",
            "item": "article",
            "time": "served_ms",
            "label": "taken",
            "request": "page_view",
        },
        "events": {"path": actions, "user": "visitor", "item": "article", "time": "at_ms", "kind": "verb"},
        "items": {"path": catalogue, "item": "article"},
        "timezone": "Europe/Berlin",
    }
    chosen = Recipe.model_validate(
        {
            "features": {
                "item": ["brand", {"weight_kg": {"numeric": "quantiles"}}],
                "context": ["device", "hour", "weekday"],
                "candidate": [{"slot": "position"}, {"shelf_price": {"numeric": "log"}}],
            },
            "history": {"columns": ["article", "brand"]},
            "repeat": {"key": ["article"], "kinds": ["buy", "open"]},
            "split": {"test": "7 days", "valid": "7 days"},
        }
    )
    return OwnFiles(OwnFilesOptions.model_validate(options), chosen, folder), chosen


def with_vectors(folder: Path) -> tuple[Source, Recipe]:
    """Lists of every side, of fixed size and of text among them, some of which are no vectors."""
    log, users = vector_log(5), {"path": "users.parquet", "user": "_user"}
    assert log.users is not None
    assert log.items is not None
    bad = pl.Series([[1.0, 2.0], [1.0] * 5 + [float("inf")], None, []], dtype=pl.List(pl.Float64))
    vectors = pl.concat([log.items["title_vector"].cast(pl.List(pl.Float64))[:-4], bad])
    log.items.with_columns(title_vector=vectors.cast(pl.List(pl.String))).write_parquet(folder / "items.parquet")
    log.users.write_parquet(folder / "users.parquet")
    log.impressions.with_columns(pl.col("query_vector").cast(pl.Array(pl.Float32, 2))).write_parquet(
        folder / "log.parquet"
    )
    shown = {"path": "log.parquet", "user": "_user", "item": "_item", "time": "_time", "label": "_label"}
    data = {
        "impressions": shown | {"request": "_request"},
        "users": users,
        "items": {"path": "items.parquet", "item": "_item"},
    }
    chosen = recipe(
        features=FEATURES,
        history={"columns": ["city"]},
        repeat={"key": ["city"]},
        true_scenario=None,
        true_probability=None,
        predefined_scenario=[],
    )
    return OwnFiles(OwnFilesOptions.model_validate({"source": "own_files"} | data), chosen, folder), chosen


def ads(folder: Path) -> tuple[Source, Recipe]:
    chosen = load_experiment(CONFIGS / "ads.yaml").recipe
    options = AliAdsOptions(source="ali_ads", folder=str(write_ads(folder, impressions=2000, events=8000)))
    return AliAds(options, chosen), chosen


LOGS: dict[str, Callable[[Path], tuple[Source, Recipe]]] = {
    "negatives": with_negatives,
    "own files": own_files,
    "vectors": with_vectors,
    "ads": ads,
}


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("log", LOGS)
def test_both_engines_make_the_same_dataset(tmp_path: Path, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the driver is never given the log's rows: vocabularies are the largest tables that it asks for."""
    files = tmp_path / "log"
    files.mkdir()
    source, chosen = LOGS[log](files)
    duckdb = prepare(source, chosen, tmp_path / "duckdb").dataset.manifest
    given = rows_given_to_the_driver(monkeypatch)
    spark = prepare(source, chosen, tmp_path / "spark", engine="spark").dataset.manifest
    assert spark.checksums == duckdb.checksums
    assert spark == duckdb
    largest = max(*duckdb.vocabularies.values(), duckdb.users, duckdb.items)
    assert 0 < max(given) <= largest < duckdb.events + duckdb.candidates


def rows_given_to_the_driver(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each query of Spark brings into this process, from now on."""
    from pyspark.sql.classic.dataframe import DataFrame

    given: list[int] = []

    def counted(bring: Callable[..., Any]) -> Callable[..., Any]:
        def count(frame: Any, *args: Any) -> Any:
            rows = bring(frame, *args)
            given.append(len(rows))
            return rows

        return count

    for name in ("collect", "toArrow", "toPandas", "head", "take"):
        monkeypatch.setattr(DataFrame, name, counted(getattr(DataFrame, name)))
    for name in ("toLocalIterator", "rdd"):
        monkeypatch.setattr(DataFrame, name, property(lambda _: pytest.fail("rows are brought one by one")))
    return given


@pytest.mark.usefixtures("spark")
def test_an_interrupted_preparation_goes_on_with_an_executor_that_is_killed_to_the_same_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it change anything that a user has most of the events, all of whom one executor meets."""
    from musenet.engines.spark import SparkEngine

    files, killed = tmp_path / "log", tmp_path / "killed"
    files.mkdir()
    log, made = random_log(6), SparkEngine._made
    assert log.events is not None
    first = pl.when(pl.int_range(pl.len()) % 3 < 2).then(pl.lit("u0")).otherwise("_user")
    source = ParquetSource(log.but(events=log.events.with_columns(_user=first)), files)

    def interrupt(step: str) -> None:
        if step == "encoding candidates":
            raise KeyboardInterrupt

    def made_with_a_kill(engine: SparkEngine, table: Any, order: Any, become: Any, *others: Any) -> Any:
        def kill_once(chunks: Iterator[pa.Table]) -> Iterator[pa.Table]:
            for rows in become(chunks):
                if type(become).__name__ == "EventCoding" and not killed.exists():
                    killed.touch()
                    daemon = Path(f"/proc/{os.getppid()}/stat").read_text()
                    os.kill(int(daemon.rpartition(")")[2].split()[1]), signal.SIGKILL)
                yield rows

        return made(engine, table, order, kill_once, *others)

    with pytest.raises(KeyboardInterrupt):
        prepare(source, recipe(), tmp_path / "spark", engine="spark", progress=interrupt)
    monkeypatch.setattr(SparkEngine, "_write", lambda _, place, __: pytest.fail(f"{place} is computed again"))
    monkeypatch.setattr(SparkEngine, "_made", made_with_a_kill)
    spark = prepare(source, recipe(), tmp_path / "spark", engine="spark").dataset.manifest
    assert killed.exists()
    assert spark == prepare(source, recipe(), tmp_path / "duckdb").dataset.manifest


@pytest.mark.usefixtures("spark")
def test_what_an_executor_refuses_is_told_as_its_own_sentence(tmp_path: Path) -> None:
    engine = open_engine("spark", tmp_path, None)
    pq.write_table(pa.table({"number": [3, 1, 2]}), tmp_path / "numbers.parquet")

    def lack(_: Iterator[pa.Table]) -> Iterator[pa.Table]:
        from importlib import import_module

        yield import_module("musenet.of_another_machine").rows

    def refuse(chunks: Iterator[pa.Table]) -> Iterator[pa.Table]:
        from musenet.errors import DataError

        raise DataError(f"{sum(chunk.num_rows for chunk in chunks)} rows are too many: give fewer")

    numbers, schema = engine.read_parquet([tmp_path / "numbers.parquet"]), pa.schema([("number", pa.int64())])
    with pytest.raises(DataError, match=r"^\d rows are too many: give fewer$"):
        list(engine.through(numbers, ["number"], refuse, schema))
    with pytest.raises(
        UserError, match=r"executors .* \(No module named 'musenet.of_.*'\): install 'musenet\[spark\]'"
    ):
        list(engine.through(numbers, ["number"], lack, schema))


def test_spark_without_java_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyspark")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(UserError, match="needs a Java runtime, 17 or newer: install one"):
        open_engine("spark", tmp_path, None)


def test_a_memory_limit_is_a_size() -> None:
    assert bytes_of("4GB") == 4_000_000_000
    assert bytes_of("1.5 gib") == 3 << 29
    for wrong in ("much", "4 apples", "0GB", "1.2.3GB", "-4GB"):
        with pytest.raises(ConfigError, match=r"--memory-limit: .* is no size: write it as 4GB or 512MiB"):
            bytes_of(wrong)
    with pytest.raises(ConfigError, match="give at least 256MiB"):
        bytes_of("12MB")


def test_an_engine_can_be_let_go_while_rows_are_left(tmp_path: Path) -> None:
    """As after Ctrl-C or a refused row: a thread reads ahead, and nobody wants its rows any more."""
    rows = 3 * ROWS_PER_CHUNK
    engine = open_engine("duckdb", tmp_path, None)
    table = engine.store("numbers", ibis.memtable(pl.DataFrame({"number": range(rows)}).to_arrow()))
    chunks = engine.chunks(table.order_by(table.number.desc()))
    assert next(chunks)["number"][0].as_py() == rows - 1
    engine.close()
    again = open_engine("duckdb", tmp_path, None)
    assert again.count(again.store("numbers", table)) == rows
    again.close()


def test_rows_that_were_kept_are_not_asked_for_again(tmp_path: Path) -> None:
    schema = pa.schema([("number", pa.int64())])
    for _ in range(2):
        engine = open_engine("duckdb", tmp_path, None)
        made = [pa.table({"number": [1, 2]}, schema)] if not list(tmp_path.glob("rows/*")) else None
        kept = engine.store_rows("numbers", lambda made=made: iter(made), schema)  # type: ignore[misc]
        assert engine.read(kept)["number"].to_pylist() == [1, 2]
        engine.close()


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("line", ["{},more", "1,2", '"{}'])
def test_broken_lines_of_a_csv_are_told_by_spark_as_well(tmp_path: Path, line: str) -> None:
    experiment = value_logs.write(tmp_path, value_logs.tables(), "csv")
    lines = (tmp_path / "shown.csv").read_text().splitlines()
    lines[20] = line.format(lines[20])
    (tmp_path / "shown.csv").write_text("\n".join(lines) + "\n")
    source = open_source(experiment.data, experiment.recipe)
    beginning = re.escape(lines[20][:15])
    with pytest.raises(
        DataError, match=f"{tmp_path}/shown.csv cannot be read at the line '{beginning}.* correct that line"
    ):
        prepare(source, experiment.recipe, tmp_path / "dataset", engine="spark")
