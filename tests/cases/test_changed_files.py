"""What was changed after it was made is refused by whoever opens it, and looking costs next to nothing."""

import json
import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import musenet
from musenet.config.experiment import Experiment
from musenet.dataset import dataset as opened
from musenet.dataset.column_files import column_file
from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import relation_folder
from musenet.errors import DatasetError
from musenet.training.train_run import train_run
from musenet.workspace import MANIFEST
from tiny_runs import write_dataset

CHANGED = "was changed after preparation: prepare the dataset again"


@pytest.fixture
def run(make_experiment: Callable[..., Experiment], tmp_path: Path) -> Path:
    train_run(make_experiment(), write_dataset(tmp_path / "dataset"), tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose checksums were computed to open a dataset, growing."""
    names: list[str] = []
    compute = opened.checksum  # type: ignore[attr-defined]

    def checksum(file: Path) -> str:
        names.append(file.name)
        return str(compute(file))

    monkeypatch.setattr(opened, "checksum", checksum)
    return names


def label_file(run: Path) -> Path:
    return column_file(relation_folder(run.parent / "dataset", "candidate"), "label")


def flip(file: Path) -> None:
    """Every label of the column, its size unchanged."""
    np.save(file, 1 - np.load(file))


def test_flipped_labels_are_refused(run: Path, make_experiment: Callable[..., Experiment], tmp_path: Path) -> None:
    """By evaluating, whether predictions are kept or not, by comparing and by training on."""
    before = musenet.evaluate(run, resamples=10)
    flip(label_file(run))
    for work in (
        lambda: musenet.evaluate(run, resamples=10),
        lambda: musenet.compare_runs([run], resamples=10),
        lambda: musenet.describe_scenarios(run),
        lambda: train_run(make_experiment(), Dataset(tmp_path / "dataset"), tmp_path / "other"),
    ):
        with pytest.raises(DatasetError, match=rf"label\.npy is missing or {CHANGED}"):
            work()
    flip(label_file(run))  # back again: the checksum is what counts, not the time
    assert musenet.evaluate(run, resamples=10).auc == before.auc


def test_a_flip_that_keeps_the_files_time_is_found_on_request(run: Path) -> None:
    before = label_file(run).stat()
    flip(label_file(run))
    os.utime(label_file(run), ns=(before.st_atime_ns, before.st_mtime_ns))
    musenet.evaluate(run, resamples=10)
    with pytest.raises(DatasetError, match=CHANGED):
        musenet.evaluate(run, resamples=10, verify=True)


@pytest.mark.parametrize(
    "edit",
    [
        {"negative_sampling_rate": 0.1},
        {"protocol": "all impressions as logged"},
        {"splits": {"train": [0, 60], "valid": [60, 75], "test": [60, 100]}},
        {"checksums": "those of the flipped labels"},
        {"fingerprint": "another"},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_an_edited_manifest_is_refused(run: Path, edit: dict[str, Any]) -> None:
    """Also one that was made to fit an edited file."""
    file = run.parent / "dataset" / MANIFEST
    content = json.loads(file.read_text())
    if "checksums" in edit:
        flip(label_file(run))
        name = label_file(run).relative_to(file.parent).as_posix()
        edit = {"checksums": content["checksums"] | {name: sha256(label_file(run).read_bytes()).hexdigest()}}
    if "splits" in edit:
        spans = {split: dict(zip(("begin", "end"), span, strict=True)) for split, span in edit["splits"].items()}
        edit = {"splits": {split: content["splits"][split] | span for split, span in spans.items()}}
    file.write_text(json.dumps(content | edit))
    with pytest.raises(DatasetError, match=rf"manifest\.json {CHANGED}"):
        musenet.evaluate(run, resamples=10)


def test_opening_hashes_what_changed_in_time_and_nothing_else(run: Path, hashed: list[str], tmp_path: Path) -> None:
    folder = run.parent / "dataset"
    Dataset(folder)
    assert hashed == []
    os.utime(label_file(run))
    Dataset(folder)
    assert hashed == ["label.npy"]
    Dataset(folder)  # it was found to be as it was, and is not looked into again
    assert hashed == ["label.npy"]
    kept, plain = tmp_path / "kept", tmp_path / "plain"
    shutil.copytree(folder, kept)
    Dataset(kept)
    assert hashed == ["label.npy"], "a copy that keeps times is as good as the original"
    shutil.copytree(folder, plain, copy_function=shutil.copyfile)
    files = len(Dataset(plain).manifest.checksums)
    assert len(hashed) == 1 + files
    Dataset(plain)
    assert len(hashed) == 1 + files
    Dataset(plain).verify()
    assert len(hashed) == 1 + 2 * files


def test_a_dataset_of_an_earlier_version_is_checked_once(run: Path, hashed: list[str]) -> None:
    """Its manifest bears no checksum and its files have times of their own."""
    folder = run.parent / "dataset"
    content = json.loads((folder / MANIFEST).read_text())
    del content["checksum"]
    (folder / MANIFEST).write_text(json.dumps(content))
    assert musenet.evaluate(run, resamples=10).impressions == 100
    assert sorted(hashed) == sorted(Path(name).name for name in content["checksums"])
    Dataset(folder)
    assert len(hashed) == len(content["checksums"])
