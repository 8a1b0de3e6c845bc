"""One run from its folder's point of view: begin, go on, reuse, and what every run leaves behind."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.distributed import workers
from musenet.errors import RunError
from musenet.evaluation.ranking import larger_is_better
from musenet.evaluation.recalibration import FIT_ON
from musenet.models.baselines.options import LightGbmOptions
from musenet.runs.folder import VERSIONS, RunFolder
from musenet.runs.run import Run
from musenet.runs.there import holds_run
from musenet.runs.training_result import TrainingResult
from musenet.storage.addresses import is_copy
from musenet.storage.copies import fetched, send, training_in
from musenet.training.boosting import boost
from musenet.training.loop import Log, train
from musenet.training.warm_start import check_replay, check_start, differences, going_on_from

SPLITS_KEPT: tuple[Split, ...] = ("valid", "test")
NO_INFLUENCE = {"embeddings", "threads", "device", "checkpoint_every"}
"""Training options that do not change what is learned (beyond rounding), so a run may be reused under others."""


def train_run(
    experiment: Experiment,
    dataset: Dataset,
    path: Path,
    *,
    resume: bool = False,
    replace: bool = False,
    splits: Sequence[Split] = SPLITS_KEPT,
    start: RunFolder | None = None,
    log: Log | None = None,
) -> TrainingResult:
    """Train the experiment into a folder, predictions included; no other training may be at work there.

    A finished run of the same model, training, seed and dataset is not trained again, unless `replace` is asked alone:
    its result would be the same.

    Args:
        experiment: the resolved experiment.
        dataset: prepared by its recipe.
        path: the run folder.
        resume: go on from the folder's checkpoint, if it has one.
        replace: what cannot be gone on with gives way instead of being refused.
        splits: whose predictions are kept; others' impressions are not scored.
        start: the run whose weights training begins with, see `check_start`; fresh ones if None.
        log: told of every report of the loop.

    Raises:
        RunError: if the folder holds something else, another training is at work in it, or it holds a run of another
            configuration or an unfinished one, and neither `resume` nor `replace` says what becomes of that.
    """
    if not dataset.manifest.splits["valid"].impressions:
        if experiment.calibration != "none":
            raise RunError(f"calibration: {experiment.calibration} is fitted on validation, which is empty: {FIT_ON}")
        raise RunError("the weights to keep are chosen on validation, which is empty: give split.valid a longer period")
    check_replay(experiment, start)
    if start is not None:
        experiment = going_on_from(start, experiment, dataset)
        check_start(start, experiment, dataset)
        if path.resolve() == start.path.resolve():
            raise RunError(f"--from {start.path}: a run cannot begin with its own weights: give another --out")
    with _alone_in(path, goes_on=resume or replace):
        if experiment.model.left_open(dataset.manifest.has_repeats):
            return _train_best_form(experiment, dataset, path, resume=resume, replace=replace, splits=splits, log=log)
        is_finished = workers.first_does(
            lambda: _begin(experiment, dataset, path, start, resume=resume, replace=replace)
        )
        _show_everywhere(path)
        run = RunFolder.open(path)
        if is_finished:
            result = run.training.model_copy(update={"run": str(path)})
        else:
            result = _train(experiment, dataset, run, start, log)
            _show_everywhere(path)
        _keep_predictions(run, splits)
        return result


def _train(
    experiment: Experiment, dataset: Dataset, run: RunFolder, start: RunFolder | None, log: Log | None
) -> TrainingResult:
    """Train what is not finished, from the checkpoint if there is one."""
    resumed = run.checkpoint_file.is_file()
    if log is not None and workers.is_first():
        log({"run": str(run.path), "resumed": resumed})
    if isinstance(experiment.model, LightGbmOptions):
        return boost(experiment, experiment.model, dataset, run, log)
    return train(experiment, dataset, run, resume=resumed, start=start, log=log)


@contextmanager
def _alone_in(path: Path, *, goes_on: bool) -> Iterator[None]:
    """Keep other trainings out of the folder, and send what is written to one in a bucket; the first worker does."""
    with ExitStack() as held:

        def enter() -> None:
            held.enter_context(training_in(path, goes_on=goes_on))
            held.callback(os.close, RunFolder(path).lock())

        workers.first_does(enter)
        yield


def _show_everywhere(path: Path) -> None:
    """Let the workers of other machines see a run in a bucket as the first one's machine does."""
    if is_copy(path):
        workers.first_does(lambda: send(path))
        workers.other_machines_do(lambda: fetched(path, whole=True))


def _begin(
    experiment: Experiment, dataset: Dataset, path: Path, start: RunFolder | None, *, resume: bool, replace: bool
) -> bool:
    """Make the folder that of this run, with a checkpoint only if it is to be resumed; whether it is finished."""
    before = _run_in(path, replace=replace)
    same = before is not None and is_run_of(before, experiment, dataset, start)
    restart = replace and not resume
    if before is not None and same and before.finished and not restart:
        return True
    if before is not None and not replace:
        _refuse(before, experiment, dataset, same=same, resume=resume)
    if before is not None and not (resume and same):
        _clear(before)
    RunFolder.create(path, experiment, dataset, start)
    return False


def _train_best_form(
    experiment: Experiment,
    dataset: Dataset,
    path: Path,
    *,
    resume: bool,
    replace: bool,
    splits: Sequence[Split],
    log: Log | None,
) -> TrainingResult:
    """`form: auto`: train every reading of Eq 5 and 9 beside the run, and keep the best on validation as the run."""
    monitor, restart = experiment.training.monitor, replace and not resume
    models = experiment.model.left_open(dataset.manifest.has_repeats)
    tried = {form: experiment.model_copy(update={"model": model}) for form, model in models.items()}
    places = {form: path.with_name(f"{path.name}.forms") / form for form in models}

    def look() -> None:
        for place in places.values():
            fetched(place, whole=True)
        before = _run_in(path, replace=replace)
        if replace:
            return
        if before is not None and not any(is_run_of(before, one, dataset) for one in tried.values()):
            _refuse(before, next(iter(tried.values())), dataset, same=False, resume=resume)
        if not resume and any(RunFolder(place).half_finished for place in places.values()):
            raise _asks_how_to_go_on(path)

    workers.first_does(look)
    results = {
        form: train_run(one, dataset, places[form], resume=not restart, replace=True, splits=splits, log=log)
        for form, one in tried.items()
    }
    sign = 1 if larger_is_better(monitor) else -1
    best = max(results, key=lambda form: sign * results[form].best[monitor])

    def copy_best() -> TrainingResult:
        before = _run_in(path, replace=replace)
        if before is None or restart or not (before.finished and is_run_of(before, tried[best], dataset)):
            if before is not None:
                _clear(before)
            # Last comes what says that the run is finished.
            unfinished = shutil.ignore_patterns(RunFolder(path).training_file.name)
            shutil.copytree(results[best].run, path, dirs_exist_ok=True, ignore=unfinished)
            RunFolder.create(path, tried[best], dataset).write_json(
                VERSIONS, RunFolder(Path(results[best].run)).versions
            )
        run = RunFolder.open(path)
        result = results[best].model_copy(update={"run": str(path)})
        result.write(run.training_file)
        return result

    return workers.first_does(copy_best)


def is_finished_run(path: Path, experiment: Experiment, dataset: Dataset) -> bool:
    """Whether the folder holds this very run, trained to its end."""
    run = RunFolder(path)
    return holds_run(path) and run.finished and is_run_of(run, experiment, dataset)


def is_run_of(run: RunFolder, experiment: Experiment, dataset: Dataset, start: RunFolder | None = None) -> bool:
    """Whether the run was made with the same seed, model, training, dataset and weights to begin with."""
    try:
        weights = None if start is None else start.model_checksum
        return (run.dataset_fingerprint, run.weights_before) == (
            dataset.manifest.fingerprint,
            weights,
        ) and not differences(decisive(run.experiment), decisive(experiment))
    except RunError:
        return False


def decisive(experiment: Experiment) -> dict[str, Any]:
    """What decides a run's weights on a given dataset, and what it makes of them."""
    content = experiment.model_dump(mode="json", include={"seed", "model", "training", "calibration"})
    heeded = set(content["training"]) if experiment.model.heeded_training is None else experiment.model.heeded_training
    content["training"] = {
        key: value for key, value in content["training"].items() if key in heeded and key not in NO_INFLUENCE
    }
    return content


def _run_in(path: Path, *, replace: bool) -> RunFolder | None:
    """The run in the folder; one that cannot be read counts if it is to be replaced."""
    if holds_run(path):
        return RunFolder(path) if replace else RunFolder.open(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(f"{path} exists and is not a run: give --out a folder that does not exist yet")
    return None


def _refuse(run: RunFolder, experiment: Experiment, dataset: Dataset, *, same: bool, resume: bool) -> None:
    """Raise unless training may begin, or go on, over this run without losing anything."""
    if same:
        if run.half_finished and not resume:
            raise _asks_how_to_go_on(run.path)
        return
    if run.dataset_fingerprint != dataset.manifest.fingerprint:
        difference = "another dataset"
    else:
        keys = differences(decisive(run.experiment), decisive(experiment))
        difference = "another " + (", ".join(keys) or "run, or none, to begin from (--from)")
    if resume:
        raise RunError(f"{run.path} cannot be resumed: it was started with {difference}; give --restart to start again")
    if run.finished or run.half_finished:
        kind = "a finished" if run.finished else "an unfinished"
        raise RunError(f"{run.path} holds {kind} run with {difference}: give another --out, or --restart to replace it")


def _asks_how_to_go_on(path: Path) -> RunError:
    return RunError(f"{path} holds an unfinished run: give --resume to continue it, or --restart to start again")


def _clear(run: RunFolder) -> None:
    """Remove what an earlier run left, so that nothing of it is taken for the new one's."""
    files = [run.training_file, run.model_file, run.checkpoint_file, run.metrics_file]
    files += [run.calibration_file, run.start_file]
    for folder in ("predictions", "assignments", "evaluation"):
        files += (run.path / folder).glob("*")
    for file in files:
        file.unlink(missing_ok=True)


def _keep_predictions(run: RunFolder, splits: Sequence[Split]) -> None:
    opened = Run(run)
    for split in splits:
        if run.dataset.manifest.splits[split].impressions:
            opened.predictions(split)
