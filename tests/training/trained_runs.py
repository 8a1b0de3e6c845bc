"""What two trainings of one experiment must agree in."""

import json
from pathlib import Path
from typing import Any

import torch

from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.runs.folder import RunFolder
from musenet.runs.tensor_files import load_tensors
from musenet.runs.training_result import TrainingResult
from musenet.training.loop import Log, train

OF_THE_CLOCK = {"seconds", "samples_per_second", "seconds_to_go"}


def train_into(
    path: Path, experiment: Experiment, dataset: Dataset, *, resume: bool = False, log: Log | None = None
) -> TrainingResult:
    run = RunFolder(path) if resume else RunFolder.create(path, experiment, dataset)
    return train(experiment, dataset, run, resume=resume, log=log)


def progress_of(path: Path) -> dict[str, Any]:
    """Where the checkpoint says training stands, without times."""
    progress: dict[str, Any] = json.loads(load_tensors(RunFolder(path).checkpoint_file)[1]["progress"])
    return _timeless(progress)


def metrics_of(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without times."""
    return [_timeless(entry) for entry in RunFolder(path).metrics()[0]]


def validations_of(path: Path) -> list[dict[str, Any]]:
    return [entry for entry in metrics_of(path) if "valid" in entry]


def assert_same_run(found: Path, expected: Path) -> None:
    """Kept weights to the byte; checkpoint, metrics and result apart from times; the same files."""
    first, second = RunFolder(found), RunFolder(expected)
    assert first.model_file.read_bytes() == second.model_file.read_bytes()
    tensors, others = (load_tensors(run.checkpoint_file)[0] for run in (first, second))
    assert sorted(tensors) == sorted(others)
    assert [name for name, value in tensors.items() if not torch.equal(value, others[name])] == []
    assert progress_of(found) == progress_of(expected)
    assert metrics_of(found) == metrics_of(expected)
    results = [_timeless(run.read_json("training.json")) | {"run": ""} for run in (first, second)]
    assert results[0] == results[1]
    assert sorted(p.name for p in found.iterdir()) == sorted(p.name for p in expected.iterdir())


def _timeless(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in OF_THE_CLOCK}
