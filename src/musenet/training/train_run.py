"""One run from its folder's point of view: begin, go on, reuse, and what every run leaves behind."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.distributed import workers
from musenet.errors import RunError
from musenet.runs.folder import RunFolder
from musenet.runs.run import Run
from musenet.runs.training_result import TrainingResult
from musenet.training.loop import Log, train

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
    log: Log | None = None,
) -> TrainingResult:
    """Train the experiment into a folder, predictions included.

    A finished run of the same model, training, seed and dataset is not trained again: its result would be the same.

    Args:
        experiment: the resolved experiment.
        dataset: prepared by its recipe.
        path: the run folder.
        resume: go on from the folder's checkpoint, if it has one.
        replace: a finished run of another configuration in this folder gives way instead of being refused.
        splits: whose predictions are kept; others' impressions are not scored.
        log: told of every report of the loop.

    Raises:
        RunError: if the folder holds something else, or `resume` is asked of a run with another configuration.
    """
    if experiment.model.left_open(dataset.manifest.has_repeats):
        return _train_best_form(experiment, dataset, path, resume=resume, replace=replace, splits=splits, log=log)
    is_finished = workers.first_does(lambda: _begin(experiment, dataset, path, resume=resume, replace=replace))
    run = RunFolder.open(path)
    if is_finished:
        result = run.training.model_copy(update={"run": str(path)})
    else:
        result = train(experiment, dataset, run, resume=run.checkpoint_file.is_file(), log=log)
    _keep_predictions(run, splits)
    return result


def _begin(experiment: Experiment, dataset: Dataset, path: Path, *, resume: bool, replace: bool) -> bool:
    """Make the folder that of this run, with a checkpoint only if it is to be resumed; whether it is finished."""
    before = _run_in(path)
    same = before is not None and is_run_of(before, experiment, dataset)
    if before is not None and same and before.finished:
        return True
    if before is not None and not same:
        _refuse(before, experiment, dataset, resume=resume, replace=replace)
    if before is not None and not (resume and same):
        _clear(before)
    RunFolder.create(path, experiment, dataset)
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
    monitor = experiment.training.monitor
    models = experiment.model.left_open(dataset.manifest.has_repeats)
    results: dict[str, TrainingResult] = {}
    for form, model in models.items():
        tried = experiment.model_copy(update={"model": model})
        beside = path.with_name(f"{path.name}.forms") / form
        results[form] = train_run(tried, dataset, beside, resume=resume, replace=True, splits=splits, log=log)
    sign = 1 if monitor == "auc" else -1
    best = max(results, key=lambda form: sign * results[form].best[monitor])
    chosen = experiment.model_copy(update={"model": models[best]})

    def copy_best() -> TrainingResult:
        before = _run_in(path)
        if before is not None and not is_run_of(before, chosen, dataset):
            _refuse(before, chosen, dataset, resume=resume, replace=replace)
        shutil.copytree(results[best].run, path, dirs_exist_ok=True)
        run = RunFolder.create(path, chosen, dataset)
        result = run.training.model_copy(update={"run": str(path)})
        result.write(run.training_file)
        return result

    return workers.first_does(copy_best)


def is_finished_run(path: Path, experiment: Experiment, dataset: Dataset) -> bool:
    """Whether the folder holds this very run, trained to its end."""
    run = RunFolder(path)
    return (path / "run.json").is_file() and run.finished and is_run_of(run, experiment, dataset)


def is_run_of(run: RunFolder, experiment: Experiment, dataset: Dataset) -> bool:
    """Whether the run was made with the same seed, model, training and dataset."""
    if run.dataset_fingerprint != dataset.manifest.fingerprint:
        return False
    try:
        return not differences(decisive(run.experiment), decisive(experiment))
    except RunError:
        return False


def decisive(experiment: Experiment) -> dict[str, Any]:
    """What decides a run's weights on a given dataset."""
    content = experiment.model_dump(mode="json", include={"seed", "model", "training"})
    content["training"] = {key: value for key, value in content["training"].items() if key not in NO_INFLUENCE}
    return content


def differences(first: Any, second: Any, key: str = "") -> list[str]:
    """The keys whose values differ, as dotted paths.

    >>> differences({"model": {"scenarios": 4, "form": "log"}}, {"model": {"scenarios": 6, "form": "log"}})
    ['model.scenarios']
    """
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return [] if first == second else [key]
    names = list(dict.fromkeys([*first, *second]))
    return [
        difference
        for name in names
        for difference in differences(first.get(name), second.get(name), f"{key}.{name}" if key else name)
    ]


def _run_in(path: Path) -> RunFolder | None:
    if (path / "run.json").is_file():
        return RunFolder.open(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(f"{path} exists and is no run: give --out a folder that does not exist yet")
    return None


def _refuse(run: RunFolder, experiment: Experiment, dataset: Dataset, *, resume: bool, replace: bool) -> None:
    """Raise unless a run of another configuration may be overwritten."""
    if run.dataset_fingerprint != dataset.manifest.fingerprint:
        difference = "another dataset"
    else:
        difference = "another " + ", ".join(differences(decisive(run.experiment), decisive(experiment)))
    if resume and not replace:
        raise RunError(f"{run.path} cannot be resumed: it was begun with {difference}; train without --resume")
    if run.finished and not replace:
        raise RunError(f"{run.path} holds a finished run with {difference}: give another --out, or delete it")


def _clear(run: RunFolder) -> None:
    """Remove what an earlier run left, so that nothing of it is taken for the new one's."""
    files = [run.training_file, run.model_file, run.checkpoint_file, run.metrics_file]
    for folder in ("predictions", "assignments", "evaluation"):
        files += (run.path / folder).glob("*")
    for file in files:
        file.unlink(missing_ok=True)


def _keep_predictions(run: RunFolder, splits: Sequence[Split]) -> None:
    opened = Run(run)
    for split in splits:
        if run.dataset.manifest.splits[split].impressions:
            opened.predictions(split)
