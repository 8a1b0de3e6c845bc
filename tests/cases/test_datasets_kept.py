"""A dataset stays what it was: another training seed prepares nothing anew, and nothing is replaced unasked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import musenet
from musenet.config.experiment import Experiment
from musenet.config.loading import validate_experiment
from musenet.dataset.column_files import column_file
from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import relation_folder
from musenet.dataset.manifest import RUNS, note_run
from musenet.errors import DatasetError, RunError
from musenet.runs.folder import RunFolder
from musenet.workspace import MANIFEST
from tiny_runs import write_dataset

NEGATIVES = {"per_request": 2, "from": "catalogue"}


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """Positives alone, so that preparation draws negatives."""
    random = np.random.default_rng(3)
    rows = 150
    log = pd.DataFrame(
        {
            "user": random.integers(0, 12, rows),
            "item": random.integers(0, 25, rows),
            "time": 1_700_000_000 + 9_000 * np.arange(rows),
            "label": 1,
            "device": random.integers(0, 2, rows),
        }
    )
    log.to_csv(tmp_path / "log.csv", index=False)
    roles = {name: name for name in ("user", "item", "time", "label")}
    content: dict[str, Any] = {
        "name": "positives",
        "data": {"source": "own_files", "impressions": {"path": str(tmp_path / "log.csv"), **roles}},
        "features": {"context": ["device"]},
        "negatives": NEGATIVES,
        "split": {"parts": 5},
        "model": {"name": "base_model", "hidden": [4], "embedding": 2},
        "training": {"epochs": 1, "batch_size": 64, "validations_per_epoch": 1, "threads": 1},
    }
    return validate_experiment(content, "positives")


def drawn(dataset: Dataset) -> list[list[int]]:
    """The items of every request, as the log names them."""
    item = dataset.keys("items")["_item"].to_pylist()
    offset = dataset.requests.candidate_offset
    return [[item[row] for row in dataset.candidates.item[offset[r] : offset[r + 1]]] for r in range(len(offset) - 1)]


def test_another_training_seed_is_trained_on_the_same_dataset(experiment: Experiment, tmp_path: Path) -> None:
    """So that the runs before stay comparable."""
    dataset = tmp_path / "dataset"
    first = musenet.train(experiment, tmp_path / "one", dataset=dataset)
    before = (dataset / MANIFEST).read_bytes()
    second = musenet.train(experiment, tmp_path / "two", dataset=dataset, overrides=["seed=2"])
    assert (dataset / MANIFEST).read_bytes() == before
    assert first.training.weights != second.training.weights
    table = musenet.compare_runs([tmp_path / "one", tmp_path / "two"], resamples=10)
    assert table.seeds == [1, 2]


def test_what_preparation_draws_follows_the_datas_seed(experiment: Experiment, tmp_path: Path) -> None:
    first, other, again = (
        musenet.prepare(experiment, tmp_path / name, overrides=[change]).dataset
        for name, change in (("first", "seed=5"), ("other", "data.seed=2"), ("again", "data.seed=1"))
    )
    assert drawn(first) == drawn(again) != drawn(other)
    assert first.manifest.fingerprint == again.manifest.fingerprint != other.manifest.fingerprint


def test_a_dataset_gives_way_only_if_asked_and_its_runs_are_named(
    experiment: Experiment, tmp_path: Path, heard: Any
) -> None:
    dataset = tmp_path / "dataset"
    for name in ("one", "two"):
        musenet.train(experiment, tmp_path / name, dataset=dataset)
    before = sorted((file.name, file.read_bytes()) for file in dataset.rglob("*") if file.is_file())
    for change in ("data.seed=2", "history.length=3"):
        for work in (musenet.prepare, lambda *a, **o: musenet.train(a[0], tmp_path / "three", dataset=a[1], **o)):
            with pytest.raises(DatasetError) as refused:
                work(experiment, dataset, overrides=[change])
            sentence = str(refused.value)
            assert f"{tmp_path / 'one'}, {tmp_path / 'two'} depends: name another folder, or replace it" in sentence
            assert "`musenet prepare CONFIG --replace`" in sentence
    assert sorted((file.name, file.read_bytes()) for file in dataset.rglob("*") if file.is_file()) == before
    musenet.evaluate(tmp_path / "one", resamples=10)
    musenet.prepare(experiment, dataset, replace=True, overrides=["data.seed=2"], listener=heard)
    assert any("have lost their dataset" in told and str(tmp_path / "two") in told for told in heard.said)
    with pytest.raises(RunError, match="prepared in another way since"):
        musenet.evaluate(tmp_path / "one")


def test_a_run_that_is_gone_or_of_another_dataset_now_does_not_depend(experiment: Experiment, tmp_path: Path) -> None:
    dataset, run = tmp_path / "dataset", tmp_path / "run"
    musenet.train(experiment, run, dataset=dataset)
    musenet.train(experiment, run, dataset=tmp_path / "other", restart=True, overrides=["data.seed=2"])
    note_run(dataset, tmp_path / "never-there")
    with pytest.raises(DatasetError, match="on which no run that is known depends"):
        musenet.prepare(experiment, dataset, overrides=["data.seed=3"])


def test_a_damaged_file_of_the_same_dataset_is_mended_without_being_asked(
    experiment: Experiment, tmp_path: Path
) -> None:
    dataset = tmp_path / "dataset"
    musenet.train(experiment, tmp_path / "run", dataset=dataset)
    expected = musenet.evaluate(tmp_path / "run", resamples=10).auc
    label = column_file(relation_folder(dataset, "candidate"), "label")
    content = label.read_bytes()
    label.write_bytes(content[:-1])
    assert not musenet.prepare(experiment, dataset).reused
    assert label.read_bytes() == content
    assert musenet.evaluate(tmp_path / "run", resamples=10).auc == expected


def test_a_manifest_that_says_nothing_is_not_taken_for_the_same_dataset(experiment: Experiment, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    musenet.prepare(experiment, dataset)
    for content in ("{", "[]", json.dumps({"format": 1})):
        (dataset / MANIFEST).write_text(content)
        with pytest.raises(DatasetError, match="name another folder, or replace it"):
            musenet.prepare(experiment, dataset)
    musenet.prepare(experiment, dataset, replace=True)


def test_a_dataset_of_arrays_is_replaced_only_if_asked(
    make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "dataset")
    RunFolder.create(tmp_path / "run", make_experiment(), dataset)
    assert (dataset.folder / RUNS).read_text() == f"{tmp_path / 'run'}\n"
    write_dataset(tmp_path / "dataset")  # the same
    with pytest.raises(DatasetError, match=f"{tmp_path / 'run'} depends: name another folder, or give replace=True"):
        write_dataset(tmp_path / "dataset", "other")
