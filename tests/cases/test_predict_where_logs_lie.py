"""`predict` and `drift` read what `prepare` reads, and give the scores of the same rows in one typed Parquet file."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import musenet
from cases import value_logs
from cases.test_shapes_of_input import write_lines, write_text
from musenet.cli.main import run as run_command
from musenet.errors import DataError

KEY = ["search_id", "item_id"]
NOTHING = "__HIVE_DEFAULT_PARTITION__"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables as typed Parquet, beside an export of a model on them and the scores of the last requests."""
    folder = tmp_path_factory.mktemp("log")
    tables = value_logs.tables()
    value_logs.exported(folder, value_logs.write(folder, tables))
    tables["shown"].tail(120).to_parquet(folder / "asked.parquet", index=False)
    musenet.predict(
        folder / "export", folder / "asked.parquet", folder / "all.parquet", events=folder / "events.parquet"
    )
    return folder


@pytest.fixture
def asked(log: Path) -> pd.DataFrame:
    return pd.read_parquet(log / "asked.parquet")


def expected(log: Path) -> "pd.Series[float]":
    return pd.read_parquet(log / "all.parquet").set_index(KEY).score


def check(log: Path, out: Path) -> pl.DataFrame:
    """The rows written, all of which have the score that they shall have."""
    found = pl.read_parquet(out / "**/*.parquet" if out.is_dir() else out, hive_partitioning=True)
    scores = found.select(*(pl.col(name).cast(pl.Int64) for name in KEY), "score").to_pandas().set_index(KEY).score
    told = expected(log)
    assert len(scores) == len(told)
    np.testing.assert_allclose(scores.loc[told.index], told, atol=1e-7)
    return found


def as_tree(rows: pd.DataFrame, root: Path, by: list[str], write: Callable[[pd.DataFrame, Path], None]) -> None:
    """A folder per value of these columns, which the files do not hold."""
    for values, part in rows.groupby(by, dropna=False):
        told = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
        parts = [f"{name}={NOTHING if text == 'nan' else text}" for name, text in zip(by, told, strict=True)]
        folder = root.joinpath(*parts)
        folder.mkdir(parents=True)
        write(part.drop(columns=by), folder)


def as_parquet(rows: pd.DataFrame, folder: Path) -> None:
    rows.to_parquet(folder / "part-0.parquet", index=False)


def test_partitions_are_columns_and_stay_partitions(log: Path, asked: pd.DataFrame, tmp_path: Path) -> None:
    as_tree(asked, tmp_path / "tree", ["device", "code"], as_parquet)
    (tmp_path / "tree" / "_SUCCESS").touch()
    musenet.predict(log / "export", tmp_path / "tree", tmp_path / "out", events=log / "events.parquet")
    found = check(log, tmp_path / "out")
    assert set(found.columns) == {*asked.columns, "score"}
    files = sorted(path.relative_to(tmp_path / "tree") for path in (tmp_path / "tree").rglob("*.parquet"))
    assert sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.parquet")) == files
    written = pl.read_parquet_schema(tmp_path / "out" / files[0])
    assert {"device", "code"}.isdisjoint(written), "the folders say it"

    # Of a pattern that ends below a folder, this is no part of the result's path: its value is a column.
    musenet.predict(
        log / "export", f"{tmp_path}/tree/device=tv/code=1/*.parquet", tmp_path / "one", events=log / "events.parquet"
    )
    one = pl.read_parquet(tmp_path / "one" / "part-0.parquet")
    assert one.select("device", "code").unique().rows() == [("tv", "1")]
    same = asked[(asked.device == "tv") & (asked.code == 1)].set_index(KEY).index
    np.testing.assert_allclose(one["score"], expected(log).loc[same], atol=1e-7)


def write_jsonl(rows: pd.DataFrame, folder: Path) -> None:
    write_lines(folder / "part.jsonl.gz", rows.assign(shown_at=rows.shown_at.astype(str)))


def test_trees_of_json_lines_come_out_as_parquet(log: Path, asked: pd.DataFrame, tmp_path: Path) -> None:
    as_tree(asked, tmp_path / "tree", ["device", "code"], write_jsonl)
    out = tmp_path / "out"
    assert (
        run_command(
            [
                "predict",
                str(log / "export"),
                str(tmp_path / "tree"),
                "--events",
                str(log / "events.parquet"),
                "--out",
                str(out),
            ]
        )
        == 0
    )
    check(log, out)
    assert {path.name for path in out.rglob("*.*")} == {"part.jsonl.gz.parquet"}


@pytest.mark.parametrize("name", ["asked.csv.zst", "asked.tsv", "asked.ndjson", "asked.json.zst"])
def test_texts_of_every_kind_give_the_scores_of_typed_columns(
    name: str, log: Path, asked: pd.DataFrame, tmp_path: Path
) -> None:
    """Numbers among blanks, with signs, and missing in the words that preparation knows."""
    price = asked.price.map(" +{} ".format).where(asked.index % 2 == 0, asked.price.map("{:e}".format))
    rows = asked.assign(
        price=price, shown_at=asked.shown_at.astype(str), flag=asked.flag.map({True: "TRUE", False: "False "})
    )
    if "json" in name:
        write_lines(tmp_path / name, rows)
    else:
        write_text(
            tmp_path / name, rows.to_csv(index=False, sep="\t" if "tsv" in name else ",").replace("price", " price")
        )
    musenet.predict(log / "export", tmp_path / name, tmp_path / "out.parquet", events=log / "events.parquet")
    found = check(log, tmp_path / "out.parquet")
    assert found["price"].to_list() == rows.price.tolist(), "as they were written"


@pytest.mark.parametrize("missing", ["", "NA", "n/a", "NULL", "nan"])
def test_a_number_that_is_missing_is_missing_however_that_is_written(
    missing: str, log: Path, asked: pd.DataFrame, tmp_path: Path
) -> None:
    asked.assign(price=np.nan).to_parquet(tmp_path / "typed.parquet", index=False)
    asked.assign(price=missing).to_csv(tmp_path / "text.csv", index=False)
    scores = []
    for name in ("typed.parquet", "text.csv"):
        musenet.predict(log / "export", tmp_path / name, tmp_path / "out.parquet", events=log / "events.parquet")
        scores.append(pl.read_parquet(tmp_path / "out.parquet")["score"])
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-7)
    asked.assign(price="cheap").to_csv(tmp_path / "text.csv", index=False)
    with pytest.raises(DataError, match=r"text\.csv: row 1: column 'price' holds 'cheap', which is no number"):
        musenet.predict(log / "export", tmp_path / "text.csv", tmp_path / "out.parquet", events=log / "events.parquet")


def test_events_lie_as_requests_do(log: Path, tmp_path: Path) -> None:
    """In partitions, JSON lines and packed files; parts whose types differ are one table."""
    events = pd.read_parquet(log / "events.parquet")
    texts = events.assign(at=events["at"].astype(str))
    tree = tmp_path / "tree"
    as_tree(events.astype({"user_id": str}), tree, ["user_id"], as_parquet)
    write_lines(tmp_path / "events.jsonl.zst", texts)
    write_text(tmp_path / "events.csv.zst", texts.to_csv(index=False))
    (tmp_path / "mixed").mkdir()
    half = len(events) // 2
    events[:half].to_parquet(tmp_path / "mixed" / "1.parquet")
    events[half:].assign(item_id=events.item_id.astype(str)).to_parquet(tmp_path / "mixed" / "2.parquet")
    for name in ("tree", "events.jsonl.zst", "events.csv.zst", "mixed", "mixed/*.parquet"):
        musenet.predict(log / "export", log / "asked.parquet", tmp_path / "out.parquet", events=str(tmp_path / name))
        check(log, tmp_path / "out.parquet")


def test_a_column_that_a_part_lacks_is_missing_and_said_so(log: Path, asked: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "grown").mkdir()
    asked[:60].drop(columns="price").to_parquet(tmp_path / "grown" / "1.parquet", index=False)
    asked[60:].to_parquet(tmp_path / "grown" / "2.parquet", index=False)
    asked.assign(price=asked.price.where(asked.index >= asked.index[60])).to_parquet(tmp_path / "whole.parquet")
    events = log / "events.parquet"
    with pytest.warns(UserWarning, match=r"1\.parquet lacks the column 'price' of other files: it is missing there"):
        musenet.predict(log / "export", tmp_path / "grown", tmp_path / "out", events=events)
    musenet.predict(log / "export", tmp_path / "whole.parquet", tmp_path / "out.parquet", events=events)
    found = pl.read_parquet(tmp_path / "out" / "*.parquet")["score"]
    np.testing.assert_allclose(found, pl.read_parquet(tmp_path / "out.parquet")["score"], atol=1e-7)


def test_a_bucket_holds_requests_events_and_the_log_of_drift(
    log: Path, asked: pd.DataFrame, tmp_path: Path, bucket: Any
) -> None:
    as_tree(asked, tmp_path / "tree", ["device", "code"], as_parquet)
    for path in (tmp_path / "tree").rglob("*.parquet"):
        bucket.upload_file(str(path), "logs", f"asked/{path.relative_to(tmp_path / 'tree')}")
    events = pd.read_parquet(log / "events.parquet")
    write_lines(tmp_path / "events.jsonl.zst", events.assign(at=events["at"].astype(str)))
    bucket.upload_file(str(tmp_path / "events.jsonl.zst"), "logs", "events.jsonl.zst")
    write_text(tmp_path / "asked.csv.zst", asked.to_csv(index=False))
    bucket.upload_file(str(tmp_path / "asked.csv.zst"), "logs", "asked.csv.zst")
    past = ["--events", "s3://logs/events.jsonl.zst"]
    for name, out in (("asked", tmp_path / "out"), ("asked.csv.zst", tmp_path / "out.parquet")):
        command = ["predict", str(log / "export"), f"s3://logs/{name}", *past, "--out", str(out)]
        assert run_command(command) == 0
        check(log, out)
    musenet.predict(
        log / "export", "s3://logs/asked/*/*/*.parquet", tmp_path / "again", events="s3://logs/events.jsonl.zst"
    )
    check(log, tmp_path / "again")
    told = musenet.drift(log / "export", "s3://logs/asked", events="s3://logs/events.jsonl.zst")
    local = musenet.drift(log / "export", log / "asked.parquet", events=log / "events.parquet")
    assert told.whole["logloss"].value == pytest.approx(local.whole["logloss"].value, abs=1e-7)
    assert (told.impressions, told.log) == (120, "s3://logs/asked")
    with pytest.raises(DataError, match=r"^requests: there is no file s3://logs/none\.parquet"):
        musenet.predict(log / "export", "s3://logs/none.parquet", tmp_path / "out.parquet")
    bucket.put_object(Bucket="logs", Key="bad.parquet", Body=b"PAR1 and nothing more")
    with pytest.raises(DataError, match=r"^s3://logs/bad\.parquet is not a readable Parquet file"):
        musenet.predict(log / "export", "s3://logs/bad.parquet", tmp_path / "out.parquet")
    for place in ("s3://logs/out.parquet", tmp_path / "here.parquet"):
        musenet.predict(log / "export", log / "asked.parquet", place, events=log / "events.parquet")
    assert pd.read_parquet("s3://logs/out.parquet").equals(pd.read_parquet(tmp_path / "here.parquet"))


def test_files_of_the_past_are_not_scored(log: Path, asked: pd.DataFrame, tmp_path: Path) -> None:
    """Of a Delta table, those that its log removed still lie there; named one by one or by a pattern, too."""
    lake = tmp_path / "lake"
    as_tree(asked, lake, ["device", "code"], as_parquet)
    (lake / "_delta_log").mkdir()
    (lake / "_delta_log" / f"{0:020}.json").write_text('{"remove": {"path": "device=tv/code=1/part-0.parquet"}}')
    for name in ("lake", "lake/*/*/*.parquet", "lake/device=tv", "lake/device=tv/code=1/part-0.parquet"):
        with pytest.raises(DataError, match=r"requests: .*lake is a Delta table, some of whose files are of its past"):
            musenet.predict(log / "export", tmp_path / name, tmp_path / "out", events=log / "events.parquet")
    shutil.rmtree(lake / "_delta_log")
    musenet.predict(log / "export", lake, tmp_path / "out", events=log / "events.parquet")
    check(log, tmp_path / "out")


def test_the_runs_own_predict_reads_what_the_call_reads(log: Path, asked: pd.DataFrame, tmp_path: Path) -> None:
    as_tree(asked, tmp_path / "tree", ["device", "code"], write_jsonl)
    run = musenet.Run(log / "run")
    run.predict(tmp_path / "tree", tmp_path / "out", events=log / "events.parquet")
    check(log, tmp_path / "out")
