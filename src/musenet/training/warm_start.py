"""A training that begins where another run ended: what both datasets know is kept, what is new begins fresh."""

from typing import Any

import torch

from musenet.config.experiment import Experiment
from musenet.dataset.batch import schema_of
from musenet.dataset.batches import later_than
from musenet.dataset.compatibility import check_continuable, rows_before
from musenet.dataset.dataset import Dataset
from musenet.distributed.row_shards import sharded_tables
from musenet.errors import RunError, one_line
from musenet.models.interface import ClickModel
from musenet.models.registry import build_model
from musenet.runs.folder import RunFolder

MAY_DIFFER = {"split", "seed"}
"""Keys of the recipe that do not change what a column means."""


def first_model(experiment: Experiment, dataset: Dataset, start: RunFolder | None) -> ClickModel:
    """The model that a training begins with, on the CPU, the same every time.

    Args:
        experiment: whose model it is, and whose seed decides what is fresh.
        dataset: that it shall be trained on.
        start: the run whose weights it has as far as both datasets know a value; fresh ones if None.

    Raises:
        RunError: if that run's weights do not fit, or there are none.
    """
    torch.manual_seed(experiment.seed)
    with sharded_tables(experiment.training.embeddings == "sharded"):
        model = build_model(experiment.model, schema_of(dataset))
    if start is None:
        return model
    rows = torch.from_numpy(rows_before(start.dataset, dataset))
    if model.table.shards is not None:
        rows = rows[model.table.shards.own.start : model.table.shards.own.stop]
    state, weight, known = start.load_state(), model.table.weight.detach(), rows >= 0
    weight[known] = state["table.weight"][rows[known]].to(weight)
    try:
        model.load_state_dict(state | {"table.weight": weight})
    except RuntimeError as error:
        raise RunError(
            f"--from {start.path}: its weights do not fit the log ({one_line(error)}): train without --from"
        ) from error
    return model


def learned_until(start: RunFolder) -> int:
    """The time of the last request that the run could train on, in microseconds."""
    time = start.dataset.manifest.splits["train"].last_time
    assert time is not None, "a trained run has seen requests"
    return time


def going_on_from(start: RunFolder, experiment: Experiment, dataset: Dataset) -> Experiment:
    """The experiment; what its model leaves open is as the run that it goes on from found it best."""
    found = start.experiment.model
    is_left_open = found in experiment.model.left_open(dataset.manifest.has_repeats).values()
    return experiment.model_copy(update={"model": found}) if is_left_open else experiment


def check_replay(experiment: Experiment, start: RunFolder | None) -> None:
    """Raise `RunError` if a share of an earlier run's requests is asked for without one."""
    if experiment.training.replay < 1 and start is None:
        raise RunError("training.replay is a share of what an earlier run has trained on: name that run with --from")


def check_start(start: RunFolder, experiment: Experiment, dataset: Dataset) -> None:
    """Raise unless the experiment's training on the dataset can begin with the weights of a run.

    Raises:
        RunError: if there are none, or the run is of another model or recipe.
        DatasetError: if the run's dataset has other fields, or a number was measured otherwise there.
    """
    start.check_trained()
    if not experiment.model.by_gradient:
        raise RunError(
            f"--from {start.path}: {experiment.model.name} does not learn step by step and has no weights to go on "
            "from: train without --from"
        )
    if differing := differences(_decisive(start.experiment), _decisive(experiment)):
        raise RunError(
            f"--from {start.path}: that run has another {', '.join(differing)}: make the configuration the same, or "
            "train without --from"
        )
    try:
        before = start.dataset
    except RunError as error:
        raise RunError(
            f"--from {start.path}: the meaning of its weights is in its own dataset, and {one_line(error)}; "
            "leave that dataset where it is, and name another folder for the new one with --dataset"
        ) from error
    check_continuable(before, dataset)
    time, period = learned_until(start), dataset.manifest.splits["train"]
    if experiment.training.replay == 0 and later_than(dataset, "train", time) == period.end:
        raise RunError(
            f"--from {start.path}: {dataset.folder} has no training request later than that run's, and "
            "training.replay is 0: give a later log, or a larger training.replay"
        )


def _decisive(experiment: Experiment) -> dict[str, Any]:
    """What decides what weights mean: the model and the recipe."""
    recipe = experiment.recipe.model_dump(mode="json", exclude=MAY_DIFFER)
    return {"model": experiment.model.model_dump(mode="json"), **recipe}


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
