"""A run's folder: one training at a time, nothing lost without being asked, and weights that are those it speaks of."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import musenet
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.errors import ConfigError, RunError
from musenet.runs.folder import RunFolder
from musenet.runs.run import Run
from musenet.training.loop import Trainer
from musenet.training.train_run import train_run

MakeExperiment = Callable[..., Experiment]

SMALL = {"name": "musenet", "scenarios": 2, "hidden": [4], "embedding": 2}
LOCKED = "another training is running in .*: wait for it, or give another --out"
ASKED = "holds an unfinished run: give --resume to continue it, or --restart to start again"


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have trainings interrupted after so many steps, as Ctrl-C does; never, for 0."""
    step, limit = Trainer.step, [0]

    def interrupted(self: Trainer, *args: object) -> object:
        done = step(self, *args)  # type: ignore[arg-type]
        if self.state.step == limit[0]:
            self.checkpoint()
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(Trainer, "step", interrupted)

    def stop(step: int) -> None:
        limit[0] = step

    return stop


def test_two_trainings_in_one_folder_are_refused(
    tiny_dataset: Dataset, make_experiment: MakeExperiment, run_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that holds the folder, and one that comes while this one trains."""
    imports = "from pathlib import Path; from musenet.runs.folder import RunFolder"
    other = f"{imports}; RunFolder(Path({str(run_path)!r})).lock(); print('locked', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", other], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(RunError, match=LOCKED):
            train_run(make_experiment(), tiny_dataset, run_path)
        assert list(run_path.iterdir()) == [], "nothing was written over the other's run"
        process.kill()
    seen = []
    validate = Trainer.validate

    def second_training(self: Trainer, epoch: int) -> None:
        with pytest.raises(RunError, match=LOCKED):
            train_run(make_experiment(seed=2), tiny_dataset, run_path, replace=True)
        seen.append(epoch)
        validate(self, epoch)

    monkeypatch.setattr(Trainer, "validate", second_training)
    train_run(make_experiment(), tiny_dataset, run_path)
    assert seen
    assert Run.open(run_path).experiment.seed == 1
    os.close(RunFolder(run_path).lock())  # and let go of at the end


def test_a_training_that_fails_lets_go_of_the_folder(
    tiny_dataset: Dataset, make_experiment: MakeExperiment, run_path: Path, stop_at: Callable[[int], None]
) -> None:
    stop_at(1)
    with pytest.raises(KeyboardInterrupt):
        train_run(make_experiment(), tiny_dataset, run_path)
    os.close(RunFolder(run_path).lock())


def test_a_half_finished_run_is_gone_on_with_or_begun_anew_as_asked(
    tiny_dataset: Dataset, make_experiment: MakeExperiment, tmp_path: Path, stop_at: Callable[[int], None]
) -> None:
    experiment = make_experiment()
    whole = train_run(experiment, tiny_dataset, tmp_path / "whole")
    for resume in (True, False):
        path = tmp_path / f"resume {resume}"
        stop_at(2)
        with pytest.raises(KeyboardInterrupt):
            train_run(experiment, tiny_dataset, path)
        stop_at(0)
        before = RunFolder(path).checkpoint_file.read_bytes()
        with pytest.raises(RunError, match=ASKED):
            train_run(experiment, tiny_dataset, path)
        assert RunFolder(path).checkpoint_file.read_bytes() == before
        assert train_run(experiment, tiny_dataset, path, resume=resume, replace=not resume).weights == whole.weights
    assert whole.weights == sha256(RunFolder(tmp_path / "whole").model_file.read_bytes()).hexdigest()


def test_going_on_says_how_many_lines_it_cannot_read(
    tiny_dataset: Dataset, make_experiment: MakeExperiment, run_path: Path, stop_at: Callable[[int], None]
) -> None:
    stop_at(2)
    with pytest.raises(KeyboardInterrupt):
        train_run(make_experiment(), tiny_dataset, run_path)
    stop_at(0)
    with RunFolder(run_path).metrics_file.open("a") as file:
        file.write('{"step": 2, "los\n\n[]')
    told: list[dict[str, Any]] = []
    train_run(make_experiment(), tiny_dataset, run_path, resume=True, log=told.append)
    assert told[0] == {"run": str(run_path), "resumed": True}
    assert told[1]["step"] == 2
    assert told[1]["warnings"][-1] == f"2 lines of {run_path / 'metrics.jsonl'} could not be read and are dropped"
    assert RunFolder(run_path).metrics()[1] == 0


def test_a_half_finished_run_of_another_configuration_is_kept_too(
    tiny_dataset: Dataset, make_experiment: MakeExperiment, run_path: Path, stop_at: Callable[[int], None]
) -> None:
    stop_at(2)
    with pytest.raises(KeyboardInterrupt):
        train_run(make_experiment(), tiny_dataset, run_path)
    stop_at(0)
    other = make_experiment(seed=2)
    with pytest.raises(RunError, match="holds an unfinished run with another seed: give another --out, or --restart"):
        train_run(other, tiny_dataset, run_path)
    with pytest.raises(RunError, match="cannot be resumed: it was started with another seed; give --restart"):
        train_run(other, tiny_dataset, run_path, resume=True)
    train_run(other, tiny_dataset, run_path, replace=True)
    assert Run.open(run_path).experiment.seed == 2


def test_restart_trains_a_finished_run_anew(
    tiny_dataset: Dataset, make_experiment: MakeExperiment, run_path: Path
) -> None:
    """A damaged one as well, that nothing else can go on with."""
    first = train_run(make_experiment(), tiny_dataset, run_path)
    Run.open(run_path).evaluate("test", 20)
    with pytest.raises(RunError, match="holds a finished run with another seed: give another --out, or --restart"):
        train_run(make_experiment(seed=2), tiny_dataset, run_path)
    assert train_run(make_experiment(seed=2), tiny_dataset, run_path, replace=True).weights != first.weights
    assert not RunFolder(run_path).evaluation_file("test").exists()
    for damage in ("{", '{"format": 99}'):
        (run_path / "run.json").write_text(damage)
        with pytest.raises(RunError, match="train again with --restart"):
            train_run(make_experiment(), tiny_dataset, run_path)
        assert train_run(make_experiment(), tiny_dataset, run_path, replace=True).weights == first.weights
    with pytest.raises(ConfigError, match="give one of them"):
        musenet.train(make_experiment(), run_path, resume=True, restart=True)


def test_readings_of_an_open_form_are_asked_about_as_well(
    tiny_dataset: Dataset, make_experiment: MakeExperiment, run_path: Path, stop_at: Callable[[int], None]
) -> None:
    experiment = make_experiment(model=SMALL | {"form": "auto"})
    stop_at(2)
    with pytest.raises(KeyboardInterrupt):
        train_run(experiment, tiny_dataset, run_path)
    stop_at(0)
    with pytest.raises(RunError, match=ASKED):
        train_run(experiment, tiny_dataset, run_path)
    result = train_run(experiment, tiny_dataset, run_path, resume=True)
    kept = RunFolder.open(run_path)
    assert result.weights == kept.model_checksum
    Run(kept).evaluate("test", 20)
    # A run of another seed takes its place: what was measured of the old weights goes with them.
    again = train_run(experiment.model_copy(update={"seed": 2}), tiny_dataset, run_path, replace=True)
    assert again.weights == RunFolder.open(run_path).model_checksum != result.weights
    assert not kept.evaluation_file("test").exists()


def test_a_file_in_the_way_of_a_run_is_said(
    tiny_dataset: Dataset, make_experiment: MakeExperiment, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match="a file is in its way: give another --out"):
            train_run(make_experiment(), tiny_dataset, path)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture(scope="module")
def two_runs(
    tiny_dataset: Dataset, make_experiment: MakeExperiment, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    runs = [tmp_path_factory.mktemp("runs") / f"seed-{seed}" for seed in (1, 2)]
    for seed, run in enumerate(runs, start=1):
        train_run(make_experiment(seed=seed), tiny_dataset, run)
    return runs


def test_another_runs_weights_are_refused(two_runs: list[Path], tmp_path: Path) -> None:
    """By whoever reads them, whether predictions lie there already or not."""
    mixed = Path(shutil.copytree(two_runs[0], tmp_path / "mixed"))
    shutil.copy2(two_runs[1] / "model.safetensors", mixed / "model.safetensors")
    for work in (
        lambda: musenet.evaluate(mixed),
        lambda: musenet.compare_runs([mixed], resamples=10),
        lambda: musenet.scenarios(mixed, tmp_path / "scenarios.csv"),
        lambda: RunFolder.open(mixed).load_state(),
    ):
        with pytest.raises(RunError, match=r"has other weights than those in training\.json"):
            work()
    shutil.rmtree(mixed / "predictions")
    with pytest.raises(RunError, match="has other weights"):
        musenet.evaluate(mixed)


def test_another_runs_evaluation_is_not_taken_for_the_runs_own(two_runs: list[Path], tmp_path: Path) -> None:
    own, other = (musenet.evaluate(run, resamples=20) for run in two_runs)
    assert own.auc != other.auc
    mixed = Path(shutil.copytree(two_runs[0], tmp_path / "mixed"))
    shutil.copy(two_runs[1] / "evaluation" / "test.json", mixed / "evaluation" / "test.json")
    assert Run.open(mixed).evaluation("test").auc.value == own.auc.value


def test_a_run_of_an_earlier_version_says_nothing_of_its_weights_and_is_read(
    two_runs: list[Path], tmp_path: Path
) -> None:
    old = Path(shutil.copytree(two_runs[0], tmp_path / "old"))
    content = json.loads((old / "training.json").read_text())
    del content["weights"]
    (old / "training.json").write_text(json.dumps(content))
    assert musenet.evaluate(old, resamples=20).auc == musenet.evaluate(two_runs[0], resamples=20).auc
