"""Files that would be scored wrongly, overwritten or counted twice without a word."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import musenet
from musenet.errors import DataError
from serving.exports import SOFT, Exported, export_log, rows_of_test
from serving.prediction.test_predict import frame

DAY = 86_400.0


@pytest.fixture(scope="module")
def shown(exported: Exported) -> pl.DataFrame:
    return frame(exported, rows_of_test(exported.dataset)[:8])


@pytest.fixture
def asked(shown: pl.DataFrame, tmp_path: Path) -> Path:
    shown.write_parquet(tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


def test_what_was_scored_before_is_scored_again(exported: Exported, asked: Path) -> None:
    """Every column stays; the new one's name is free."""
    for name in ("one", "two", "three"):
        asked = Path(shutil.copy(asked, asked.with_name(f"{name}-in.parquet")))
        musenet.predict(exported.folder, asked, asked.with_name(f"{name}.parquet"))
        asked = asked.with_name(f"{name}.parquet")
    found = pl.read_parquet(asked)
    assert found.columns[-3:] == ["score", "musenet_score", "musenet_musenet_score"]
    np.testing.assert_array_equal(found["score"], found["musenet_musenet_score"])


@pytest.mark.parametrize("out", ["in.parquet", "link.parquet", "folder/in.parquet/../../in.parquet"])
def test_a_file_is_not_written_over_what_it_is_read_from(exported: Exported, asked: Path, out: str) -> None:
    (asked.parent / "link.parquet").symlink_to(asked)
    (asked.parent / "folder" / "in.parquet").mkdir(parents=True)
    before = asked.read_bytes()
    with pytest.raises(DataError, match=r"--out .*\.parquet is where the requests are read"):
        musenet.predict(exported.folder, asked, asked.parent / out)
    assert asked.read_bytes() == before


def test_scores_do_not_become_requests_of_their_own_folder(exported: Exported, asked: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(asked, folder / "a.parquet")
    for out in (folder, folder / "scored"):
        with pytest.raises(DataError, match=r"is where the requests are read"):
            musenet.predict(exported.folder, folder, out)
    assert [path.name for path in folder.rglob("*")] == ["a.parquet"]


def test_events_are_not_written_over(exported: Exported, asked: Path, tmp_path: Path) -> None:
    events = tmp_path / "clicks.parquet"
    assert exported.log.events is not None
    exported.log.events.write_parquet(events)
    before = events.read_bytes()
    with pytest.raises(DataError, match=r"--out .*clicks\.parquet is where the events are read"):
        musenet.predict(exported.folder, asked, events, events=events)
    assert events.read_bytes() == before


def test_a_folder_is_no_file_to_write(exported: Exported, asked: Path, tmp_path: Path) -> None:
    (tmp_path / "out.parquet").mkdir()
    with pytest.raises(DataError, match=r"--out .*out\.parquet is a folder: name a file"):
        musenet.predict(exported.folder, asked, tmp_path / "out.parquet")


def test_files_without_rows_pass_among_others(exported: Exported, shown: pl.DataFrame, tmp_path: Path) -> None:
    """As Spark writes them for partitions without rows."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, rows in {"a": shown.head(0), "b": shown, "c": shown.head(0)}.items():
        rows.write_parquet(folder / f"{name}.parquet")
    assert musenet.predict(exported.folder, folder, tmp_path / "out") == len(shown)
    assert [len(pl.read_parquet(tmp_path / "out" / f"{name}.parquet")) for name in "abc"] == [0, len(shown), 0]
    (folder / "b.parquet").unlink()
    with pytest.raises(DataError, match="in holds no rows"):
        musenet.predict(exported.folder, folder, tmp_path / "none")


ODD: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "no id": (
        lambda rows: rows.with_columns(request=pl.when(pl.int_range(pl.len()) != 2).then("request")),
        r"in\.parquet: row 3 lacks its request in 'request': fill it in",
    ),
    "ids that begin anew": (
        lambda rows: pl.concat([rows.head(1), rows.head(1).with_columns(time=pl.col("time") + 3 * DAY)]),
        r"in\.parquet: request \d+, from row 1 on, lasts longer than 3,600 seconds: ids that begin anew",
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_an_id_names_one_request(case: str, exported: Exported, shown: pl.DataFrame, tmp_path: Path) -> None:
    """Preparation refuses these rows, too."""
    change, sentence = ODD[case]
    change(shown).write_parquet(tmp_path / "in.parquet")
    with pytest.raises(DataError, match=sentence):
        musenet.predict(exported.folder, tmp_path / "in.parquet", tmp_path / "out.parquet")


def test_a_request_lasts_as_long_as_in_preparation(shown: pl.DataFrame, tmp_path: Path) -> None:
    exported = export_log(tmp_path / "log", SOFT, requests={"longest": 7200.0})
    long = pl.concat([shown.head(1), shown.head(1).with_columns(time=pl.col("time") + 7000)]).with_columns(
        item_id=pl.Series(["i1", "i2"])
    )
    long.write_parquet(tmp_path / "in.parquet")
    assert musenet.predict(exported.folder, tmp_path / "in.parquet", tmp_path / "out.parquet") == 2
