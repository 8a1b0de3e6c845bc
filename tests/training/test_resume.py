"""Interrupted and resumed, a training ends as if nothing had happened."""

import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from musenet.dataset.dataset import Dataset
from musenet.errors import RunError
from musenet.runs.folder import RunFolder
from musenet.runs.tensor_files import load_tensors
from musenet.training.loop import Trainer
from planted import SMALL_BASE, SMALL_MUSENET, planted_experiment
from signals import handled
from training.trained_runs import assert_same_run, progress_of, train_into, validations_of

pytestmark = pytest.mark.slow

SOFT = planted_experiment(
    SMALL_MUSENET | {"scale": "auto"},
    epochs=2,
    validations_per_epoch=2,
    patience=3,
    checkpoint_every=2,
    unseen_rate=0.1,
    learning_rate=0.02,
    final_learning_rate=0.3,
)
HARD = SOFT.model_copy(update={"model": SOFT.model.model_copy(update={"assignment": "hard", "harden_from": 0.4})})
IMPATIENT = planted_experiment(
    SMALL_BASE, epochs=2, validations_per_epoch=2, patience=1, checkpoint_every=2, learning_rate=1e-12
)
"""Learns nothing, so that the second validation, after the first epoch, is no better than the first."""

PLANNED = 12
EXPERIMENTS = {"soft": SOFT, "hard": HARD, "impatient": IMPATIENT}
KILLS: list[tuple[str, int]] = [
    *(("step", step) for step in random.Random(3).sample(range(1, PLANNED + 1), 4)),
    ("best", 1),
    ("half a file", 1),
    ("half a file", 3),
    ("end", 1),
]


@pytest.fixture(scope="module")
def killed(planted_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Per experiment a folder of killed trainings, beside the uninterrupted one."""
    runs = tmp_path_factory.mktemp("killed")
    files = [runs / f"{name}.json" for name in EXPERIMENTS]
    for file, experiment in zip(files, EXPERIMENTS.values(), strict=True):
        file.write_text(experiment.model_dump_json(by_alias=True))
    arguments = [planted_dataset.folder, runs, json.dumps(KILLS), *files]
    script = [sys.executable, str(Path(__file__).parent / "killed_runs.py"), *map(str, arguments)]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    (runs / "log.txt").write_text(done.stdout)
    return runs


def is_reached(experiment: str, point: str, call: int) -> bool:
    """The impatient run gives up before the planned steps are done."""
    return not (experiment == "impatient" and point == "step" and call > PLANNED / 2)


@pytest.mark.parametrize(
    ("experiment", "point", "call"),
    [(name, *kill) for name in EXPERIMENTS for kill in KILLS if is_reached(name, *kill)],
)
def test_sigkill_and_resume_equal_an_uninterrupted_run(
    experiment: str, point: str, call: int, killed: Path, planted_dataset: Dataset
):
    path = killed / experiment / f"{point} {call}"
    assert f"{experiment} {point} {call} killed" in (killed / "log.txt").read_text().splitlines()
    resume = RunFolder(path).checkpoint_file.is_file()
    train_into(path, EXPERIMENTS[experiment], planted_dataset, resume=resume)
    assert_same_run(path, killed / experiment / "uninterrupted")


def test_the_killed_experiments_end_in_different_ways(killed: Path):
    """Else the suite above would prove less than it says."""
    stopped = {name: RunFolder(killed / name / "uninterrupted").read_json("training.json") for name in EXPERIMENTS}
    assert stopped["soft"]["stopped"] == "planned steps"
    assert progress_of(killed / "soft" / "uninterrupted")["step"] == PLANNED
    assert stopped["impatient"]["stopped"] == "no better auc in 1 validations"
    assert progress_of(killed / "impatient" / "uninterrupted")["step"] == PLANNED / 2
    assert stopped["hard"]["best"]["step"] > 0.4 * PLANNED


@pytest.mark.parametrize("at", [1, 6, 8])
def test_ctrl_c_finishes_the_step_and_leaves_a_checkpoint(
    at: int, killed: Path, planted_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    step = Trainer.step

    def interrupted_step(self: Trainer, *args: Any) -> Any:
        if self.state.step + 1 == at:
            signal.raise_signal(signal.SIGINT)
        return step(self, *args)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted_step)
        with pytest.raises(KeyboardInterrupt):
            train_into(tmp_path / "run", SOFT, planted_dataset)
    assert signal.getsignal(signal.SIGINT) is before
    assert progress_of(tmp_path / "run")["step"] == at
    train_into(tmp_path / "run", SOFT, planted_dataset, resume=True)
    assert_same_run(tmp_path / "run", killed / "soft" / "uninterrupted")


@handled(signal.SIGINT, signal.default_int_handler)
def test_a_second_ctrl_c_interrupts_at_once(planted_dataset: Dataset, run_path: Path, monkeypatch: pytest.MonkeyPatch):
    finished = []

    def interrupted_step(self: Trainer, *_: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        finished.append("first")
        signal.raise_signal(signal.SIGINT)
        finished.append("second")

    monkeypatch.setattr(Trainer, "step", interrupted_step)
    with pytest.raises(KeyboardInterrupt):
        train_into(run_path, SOFT, planted_dataset)
    assert finished == ["first"]


@pytest.fixture
def finished(killed: Path, run_path: Path) -> Path:
    """A copy of the uninterrupted run."""
    return Path(shutil.copytree(killed / "soft" / "uninterrupted", run_path))


def test_resuming_a_finished_run_changes_nothing(finished: Path, killed: Path, planted_dataset: Dataset):
    train_into(finished, SOFT, planted_dataset, resume=True)
    assert_same_run(finished, killed / "soft" / "uninterrupted")


def test_training_anew_forgets_the_reports_of_the_run_before(finished: Path, planted_dataset: Dataset):
    first = validations_of(finished)
    train_into(finished, SOFT, planted_dataset)
    assert validations_of(finished) == first


def test_resume_without_a_checkpoint_is_refused(planted_dataset: Dataset, run_path: Path):
    RunFolder.create(run_path, SOFT, planted_dataset)
    with pytest.raises(RunError, match="no checkpoint to resume from"):
        train_into(run_path, SOFT, planted_dataset, resume=True)


@pytest.mark.parametrize("damage", ["cut short", "noise", "empty"])
def test_a_damaged_checkpoint_is_refused(damage: str, finished: Path, planted_dataset: Dataset):
    file = RunFolder(finished).checkpoint_file
    content = file.read_bytes()
    file.write_bytes({"cut short": content[: len(content) // 2], "noise": b"\xff" * 200, "empty": b""}[damage])
    with pytest.raises(RunError, match=r"checkpoint\.safetensors is missing or damaged"):
        train_into(finished, SOFT, planted_dataset, resume=True)


def test_a_checkpoint_of_another_model_is_refused(finished: Path, planted_dataset: Dataset):
    with pytest.raises(RunError, match="does not fit this experiment"):
        train_into(finished, planted_experiment(SMALL_BASE), planted_dataset, resume=True)


def test_a_checkpoint_holds_weights_and_moments(killed: Path):
    tensors, _ = load_tensors(RunFolder(killed / "soft" / "uninterrupted").checkpoint_file)
    assert {"model.assigner.centres", "model.assigner.scale", "model.scale_is_fitted"} <= set(tensors)
    assert {"optimizer.lazy.mean", "optimizer.lazy.square", "optimizer.dense.0.exp_avg"} <= set(tensors)
