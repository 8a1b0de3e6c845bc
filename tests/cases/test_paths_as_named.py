"""A path is opened as it is named: no letter of a name that exists is a pattern, no folder's name overwrites data."""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from musenet.errors import DataError
from musenet.recipe.recipe import Recipe
from musenet.sources.files.paths import find_files
from musenet.sources.own_files import OwnFiles, OwnFilesOptions
from sources.reading import read, recipe_of, rows, values

DEVICE = recipe_of(features={"context": ["device"]})


def write(path: Path, first: int, **more: Any) -> None:
    """Ten impressions whose items count from `first`, in the format that the name ends with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(rows() | {"item": range(first, first + 10)} | more)
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path, index=False)


def items(folder: Path, path: str | list[str], recipe: Recipe | None = None) -> list[int]:
    return sorted(map(int, values(read(folder, path, recipe).impressions, "_item")))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("name", "matched"), [("imps[1]", "imps1"), ("a*", "ab"), ("q?", "qq"), ("x{1,2}", "x1"), ("back\\", "back")]
)
def test_letters_that_mean_a_pattern_elsewhere_are_letters_in_a_name(
    tmp_path: Path, name: str, matched: str, ending: str
) -> None:
    write(tmp_path / f"{name}.{ending}", 0)
    write(tmp_path / f"{matched}.{ending}", 100)
    assert items(tmp_path, f"{name}.{ending}") == list(range(10))


def test_folders_above_a_pattern_are_taken_by_their_letters(tmp_path: Path) -> None:
    for folder, first in (("log[1]", 0), ("log1", 100)):
        write(tmp_path / folder / "a.parquet", first)
        write(tmp_path / folder / "b.parquet", first + 10)
    assert items(tmp_path, "log[1]/*.parquet") == list(range(20))
    assert items(tmp_path / "log[1]", "*.parquet") == list(range(20))
    part = {"path": "*.parquet", "user": "user", "item": "item", "time": "time", "label": "label"}
    options = OwnFilesOptions.model_validate({"source": "own_files", "impressions": part})
    whole = options.starting_from(tmp_path / "log[1]")
    assert len(find_files("data.impressions", whole.impressions.path or "", Path())) == 2
    assert items(tmp_path, "log[01]/*.parquet") == list(range(100, 120))  # no such folder: a pattern


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_column_of_the_files_is_never_that_of_a_folder(tmp_path: Path, ending: str) -> None:
    place = tmp_path / "user=nobody" / "label=7" / "device=tv" / "time=0"
    write(place / f"log.{ending}", 0, device=["phone", "desktop"] * 5)
    tables = read(place, f"log.{ending}", DEVICE)
    assert pd.Series(values(tables.impressions, "device")).value_counts().to_dict() == {"phone": 5, "desktop": 5}
    assert pd.Series(values(tables.impressions, "_user")).value_counts().to_dict() == {"u0": 5, "u1": 5}
    assert pd.Series(values(tables.impressions, "_label")).sum() == 5
    said = [rule for rule in tables.cleaning if "device is a column of the files" in rule.reason]
    assert [(rule.rows, rule.dropped) for rule in said] == [(10, False)]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_folders_column_is_used_if_it_is_named_and_the_files_lack_it(tmp_path: Path, ending: str) -> None:
    write(tmp_path / "day=1" / "device=old%20tv" / f"a.{ending}", 0)
    write(tmp_path / "day=2" / "device=phone" / f"a.{ending}", 10)
    write(tmp_path / "day=3" / "device=__HIVE_DEFAULT_PARTITION__" / f"a.{ending}", 20)
    tables = read(tmp_path, f"*/*/a.{ending}", DEVICE)
    found = pd.Series(values(tables.impressions, "device")).value_counts(dropna=False)
    assert {name: count for name, count in found.items() if name} == {"old tv": 10, "phone": 10}
    assert found.sum() == 30
    assert "day" not in tables.impressions.columns
    with pytest.raises(DataError, match=r"there is no column 'month' \(features.context\)"):
        read(tmp_path, f"*/*/a.{ending}", recipe_of(features={"context": ["month"]}))


def test_a_folders_column_that_some_files_have_too_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "device=tv" / "a.parquet", 0, device=["phone"] * 10)
    write(tmp_path / "device=tv" / "b.parquet", 10)
    with pytest.raises(DataError, match=r"a.parquet has a column 'device' of its own, .*b.parquet at most a folder"):
        read(tmp_path, "device=*/*.parquet", DEVICE)


def test_the_fingerprint_knows_what_folders_say(tmp_path: Path) -> None:
    part = {"path": "*/a.parquet", "user": "user", "item": "item", "time": "time", "label": "label"}
    source = OwnFiles(OwnFilesOptions.model_validate({"source": "own_files", "impressions": part}), DEVICE, tmp_path)
    for place, first in (("device=a", 0), ("device=b", 10)):
        write(tmp_path / place / "a.parquet", first)
        os.utime(tmp_path / place / "a.parquet", ns=(10**18, 10**18))
    before = source.fingerprint()
    (tmp_path / "device=b").rename(tmp_path / "device=c")  # neither a file's name, nor its size, nor its time
    assert source.fingerprint() != before
