"""One run from its folder's point of view: begin, go on, reuse, and what every run leaves behind."""

import multiprocessing
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from musenet.config import Experiment
from musenet.data.dataset import Dataset, Split
from musenet.errors import ConfigError, RunError
from musenet.evaluation.predictions import predictions_of
from musenet.models.musenet.model import MusenetOptions
from musenet.progress import Listener
from musenet.run_folder import RunFolder
from musenet.training.loop import Log, TrainingResult, train

SPLITS_KEPT: tuple[Split, ...] = ("valid", "test")
FORMS = ("log", "probability", "score", "plain")
NO_INFLUENCE = {"threads", "device", "checkpoint_every"}
"""Training options that do not change what is learned (beyond rounding), so a run may be reused under others."""


def train_run(
    experiment: Experiment,
    dataset: Dataset,
    path: Path,
    *,
    resume: bool = False,
    replace: bool = False,
    log: Log | None = None,
) -> TrainingResult:
    """Train the experiment into a folder, predictions of validation and test included.

    A finished run of the same model, training, seed and dataset is not trained again: its result would be the same.

    Args:
        experiment: the resolved experiment.
        dataset: prepared by its recipe.
        path: the run folder.
        resume: go on from the folder's checkpoint, if it has one.
        replace: a finished run of another configuration in this folder gives way instead of being refused.
        log: told of every report of the loop.

    Raises:
        RunError: if the folder holds something else, or `resume` is asked of a run with another configuration.
    """
    if isinstance(experiment.model, MusenetOptions) and experiment.model.form == "auto":
        return _train_best_form(experiment, dataset, path, resume=resume, replace=replace, log=log)
    before = _run_in(path)
    same = before is not None and is_run_of(before, experiment, dataset)
    if before is not None and same and before.finished:
        _keep_predictions(before)
        return TrainingResult(**before.read_json("training.json") | {"run": str(path)})
    if before is not None and not same:
        _refuse(before, experiment, dataset, resume=resume, replace=replace)
    if before is not None and not (resume and same):
        _clear(before)
    run = RunFolder.create(path, experiment, dataset)
    result = train(experiment, dataset, run, resume=resume and run.checkpoint_file.is_file(), log=log)
    _keep_predictions(run)
    return result


@dataclass(frozen=True)
class PlannedRun:
    """A run to be: what to train, and where."""

    name: str
    experiment: Experiment
    path: Path


def plan_runs(
    experiment: Experiment, folder: Path, models: Sequence[str] | None, seeds: int | None
) -> dict[str, list[PlannedRun]]:
    """The runs of a comparison by label: `<folder>/<label>/seed-<s>`, the s-th seed being the experiment's plus s.

    Args:
        experiment: whose `compare` part names the models.
        folder: of the comparison.
        models: labels to compare, in this order; all if None.
        seeds: how many; as configured if None.

    Raises:
        ConfigError: for a label that does not exist or would share another's folder, or if there are none.
    """
    planned: dict[str, list[PlannedRun]] = {}
    for label in _chosen_models(experiment, models):
        planned[label] = []
        for seed in range(experiment.seed, experiment.seed + (seeds or experiment.compare.seeds)):
            changed = experiment.model_copy(update={"model": experiment.compare.models[label], "seed": seed})
            path = folder / _folder_name(label) / f"seed-{seed}"
            planned[label].append(PlannedRun(f"{label}, seed {seed}", changed, path))
    return planned


def _chosen_models(experiment: Experiment, models: Sequence[str] | None) -> list[str]:
    """The labels to compare, in the order asked for."""
    known = list(experiment.compare.models)
    unknown = [label for label in models or () if label not in known]
    if unknown:
        raise ConfigError(f"compare.models has no '{unknown[0]}'; there are {', '.join(known) or 'none'}")
    if not known:
        raise ConfigError(f"{experiment.name}: compare.models is empty: name the models to put side by side")
    folders = [_folder_name(label) for label in known]
    for label, folder in zip(known, folders, strict=True):
        if folders.count(folder) > 1:
            raise ConfigError(
                f"compare.models: '{label}' and another label would share the folder {folder}: rename one"
            )
    return list(models or known)


def _folder_name(label: str) -> str:
    """A label as a folder's name: letters, digits, points and dashes."""
    return "-".join("".join(c if c.isalnum() or c in ".-_" else " " for c in label).split()) or "model"


def train_all(planned: Sequence[PlannedRun], dataset: Dataset, jobs: int, listener: Listener) -> None:
    """Train several runs on one dataset, resuming and reusing what an earlier call left.

    Args:
        planned: the runs.
        dataset: what all of them are trained on.
        jobs: how many at once, each in its own process with its part of the cores.
        listener: told of each run that ended and, unless there are several jobs, of the loop's reports.
    """

    def tell(run: PlannedRun, result: TrainingResult) -> None:
        listener.say(f"{run.name}: validation AUC {result.best['auc']:.4f} at step {result.best['step']:,}")

    if jobs <= 1:
        for run in planned:
            log = listener.training(run.name)
            tell(run, train_run(run.experiment, dataset, run.path, resume=True, replace=True, log=log))
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")  # a fork would share torch's threads, which do not survive it
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = [pool.submit(_train_apart, run, dataset.folder, threads) for run in planned]
        try:
            for run, future in zip(planned, futures, strict=True):
                tell(run, future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _train_apart(run: PlannedRun, dataset: Path, threads: int) -> TrainingResult:
    torch.set_num_threads(threads)
    training = run.experiment.training.model_copy(update={"threads": threads})
    experiment = run.experiment.model_copy(update={"training": training})
    return train_run(experiment, Dataset(dataset), run.path, resume=True, replace=True)


def _train_best_form(
    experiment: Experiment, dataset: Dataset, path: Path, *, resume: bool, replace: bool, log: Log | None
) -> TrainingResult:
    """`form: auto`: train every reading of Eq 5 and 9 beside the run, and keep the best on validation as the run."""
    options, monitor = experiment.model, experiment.training.monitor
    forms = FORMS if dataset.manifest.has_repeats else FORMS[-1:]
    results: dict[str, TrainingResult] = {}
    for form in forms:
        tried = experiment.model_copy(update={"model": options.model_copy(update={"form": form})})
        beside = path.with_name(f"{path.name}.forms") / form
        results[form] = train_run(tried, dataset, beside, resume=resume, replace=True, log=log)
    sign = 1 if monitor == "auc" else -1
    best = max(results, key=lambda form: sign * results[form].best[monitor])
    chosen = experiment.model_copy(update={"model": options.model_copy(update={"form": best})})
    before = _run_in(path)
    if before is not None and not is_run_of(before, chosen, dataset):
        _refuse(before, chosen, dataset, resume=resume, replace=replace)
    shutil.copytree(results[best].run, path, dirs_exist_ok=True)
    run = RunFolder.create(path, chosen, dataset)
    result = TrainingResult(**run.read_json("training.json") | {"run": str(path)})
    run.write_json("training.json", asdict(result))
    return result


def is_run_of(run: RunFolder, experiment: Experiment, dataset: Dataset) -> bool:
    """Whether the run was made with the same seed, model, training and dataset."""
    if run.dataset_fingerprint != dataset.manifest.fingerprint:
        return False
    try:
        return not _differences(decisive(run.experiment), decisive(experiment))
    except RunError:
        return False


def decisive(experiment: Experiment) -> dict[str, Any]:
    """What decides a run's weights on a given dataset."""
    content = experiment.model_dump(mode="json", include={"seed", "model", "training"})
    content["training"] = {key: value for key, value in content["training"].items() if key not in NO_INFLUENCE}
    return content


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
        difference = "another " + ", ".join(_differences(decisive(run.experiment), decisive(experiment)))
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


def _keep_predictions(run: RunFolder) -> None:
    for split in SPLITS_KEPT:
        if run.dataset.manifest.splits[split].impressions:
            predictions_of(run, split)


def _differences(first: Any, second: Any, key: str = "") -> list[str]:
    """The keys whose values differ, as dotted paths."""
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return [] if first == second else [key]
    names = list(dict.fromkeys([*first, *second]))
    return [
        difference
        for name in names
        for difference in _differences(first.get(name), second.get(name), f"{key}.{name}" if key else name)
    ]
