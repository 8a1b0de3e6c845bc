"""Several workers learn what one process learns, to rounding, and one goes on where several were killed."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.evaluation.predictions import Predictions
from musenet.runs.folder import RunFolder
from musenet.runs.tensor_files import load_tensors
from musenet.training.train_run import train_run
from places import TESTS
from planted import SMALL_MUSENET, planted_experiment, write_planted
from training.trained_runs import progress_of, validations_of

pytestmark = pytest.mark.slow

TRAINING: dict[str, Any] = {
    "patience": 99,
    "unseen_rate": 0.1,
    "learning_rate": 0.002,
    "precision": "float64",
    "validations_per_epoch": 1,
}
USUAL = TRAINING | {"epochs": 4, "batch_size": 36}
"""Four epochs of five steps."""
TINY = TRAINING | {"epochs": 1, "batch_size": 8}
"""One epoch of more than twenty steps, of two to four requests each, so that one worker of four often gets none."""

SMALL = {"embedding": 4, "hidden": [8]}
PRUNING = {"start": 4, "begin": 0.1, "end": 0.7, "least_use": 0.5}
EVERYTHING = {"scale": "auto", "confidence": 0.02, "confidence_from": 0.2, "history_encoder": "attention"}
EXPERIMENTS: dict[str, Experiment] = {
    "soft": planted_experiment(SMALL_MUSENET | EVERYTHING, **TINY),
    "auto": planted_experiment(
        SMALL_MUSENET | {"scenarios": "auto", "pruning": PRUNING, "prototypes": "posterior"},
        **USUAL,
        checkpoint_every=4,
    ),
    "hard": planted_experiment(SMALL_MUSENET | {"assignment": "hard", "harden_from": 0.4}, **TINY),
    "paper": planted_experiment(SMALL_MUSENET | {"objective": "paper", "assignment": "hard"}, **USUAL),
    "din": planted_experiment(SMALL | {"name": "din", "activation": "dice"}, **TINY),
    "star": planted_experiment(SMALL | {"name": "star", "auxiliary": [4]}, **TINY),
    "ple": planted_experiment({"name": "ple", "embedding": 4, "hidden": [8, 4], "tower": [4]}, **TINY),
    "repeatnet": planted_experiment(SMALL | {"name": "repeatnet", "encoder": 4}, **TINY),
}
KILLED = "auto-killed"
RUNS = [*((name, 2) for name in EXPERIMENTS), *((name, 4) for name in ("auto", "hard", "din", "star"))]
"""Experiments by several workers; four of them are told apart from two by what few batches hold."""
FOLDERS = ("predictions", "assignments")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every experiment, trained by one, two and four workers."""
    folder = tmp_path_factory.mktemp("workers")
    dataset = write_planted(folder / "dataset", weighted=True)
    experiments = EXPERIMENTS | {KILLED: EXPERIMENTS["auto"]}
    files = [folder / f"{name}.json" for name in experiments]
    for file, experiment in zip(files, experiments.values(), strict=True):
        file.write_text(experiment.model_dump_json(by_alias=True))
    alone = [(name, 1) for name in EXPERIMENTS]
    train_all(dataset, folder / "runs", [*alone, *RUNS, (KILLED, 2, 9)], files)
    return folder / "runs"


def train_all(dataset: Dataset, runs: Path, cases: Sequence[tuple[str, int] | tuple[str, int, int]], files: list[Path]):
    """As `worker_runs.py` says, of which all cases are forks: what they import is imported once."""
    script = Path(__file__).parent / "worker_runs.py"
    command = [sys.executable, script, dataset.folder, runs, json.dumps(cases), *files]
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr


def assert_same_state(found: Path, expected: Path) -> None:
    """Weights, moments and all that is not learned by gradient, to 1e-8."""
    several, one = (load_tensors(RunFolder(path).checkpoint_file)[0] for path in (found, expected))
    assert sorted(several) == sorted(one)
    for name, value in one.items():
        torch.testing.assert_close(several[name], value, rtol=0, atol=1e-8, msg=f"{name} differs")


@pytest.mark.parametrize(("name", "count"), RUNS)
def test_workers_learn_what_one_process_learns(name: str, count: int, runs: Path):
    assert_same_state(runs / name / str(count), runs / name / "1")
    assert progress_of(runs / name / str(count))["step"] == progress_of(runs / name / "1")["step"] >= 20


def test_the_experiments_go_through_what_they_are_about(runs: Path):
    """Else the test above would prove less than it says."""
    state = load_tensors(RunFolder(runs / "auto" / "1").checkpoint_file)[0]
    assert 0 < int((state["model.pruning.dropped_at"] >= 0).sum()) < 4
    assert progress_of(runs / "hard" / "1")["best"]["step"] > 8


@pytest.mark.parametrize("count", [2, 4])
def test_workers_keep_report_and_score_the_same(count: int, runs: Path):
    several, one = (runs / "auto" / str(number) for number in (count, 1))
    scores, expected = (validations_of(path) for path in (several, one))
    for found, other in zip(scores, expected, strict=True):
        assert found["valid"] == pytest.approx(other["valid"], abs=1e-8)
        assert found["health"] == pytest.approx(other["health"], abs=1e-6)
    assert progress_of(several)["impressions"] == progress_of(one)["impressions"]
    assert progress_of(several)["best"]["step"] == progress_of(one)["best"]["step"]
    predictions = [Predictions.from_parquet(*(p / f / "test.parquet" for f in FOLDERS)) for p in (several, one)]
    for name in ("logit", "assignment", "repeat_probability"):
        found, other = (getattr(each, name) for each in predictions)
        np.testing.assert_allclose(found, other, rtol=0, atol=1e-8)


def test_one_of_two_is_killed_and_one_alone_goes_on_to_the_same_weights(runs: Path):
    path = runs / KILLED / "2"
    assert progress_of(path)["step"] == 8
    train_run(EXPERIMENTS["auto"], Dataset(runs.parent / "dataset"), path, resume=True)
    assert_same_state(path, runs / "auto" / "1")
