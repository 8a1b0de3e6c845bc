"""Exports of untrained models on prepared random logs, and the log's own requests as a caller would write them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from musenet.config.experiment import Experiment
from musenet.config.loading import validate_experiment
from musenet.dataset.batch import schema_of
from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import Relation, keys_file
from musenet.dataset.roles import MICROSECONDS
from musenet.models.registry import build_model
from musenet.preparation.prepare import prepare
from musenet.runs.folder import RunFolder
from musenet.runs.run import Run
from musenet.serving.export.export import export_run
from preparation.logs import Log, MemorySource, random_log, recipe

SMALL = {"embedding": 4, "hidden": [12]}
SOFT = SMALL | {"name": "musenet", "scenarios": 3, "metric_space": {"hidden": [8], "dimension": 4}}
RELATIVE = {
    "item": [{"stars": {"numeric": "quantiles", "buckets": 2}}],
    "context": ["device", "party"],
    "candidate": [{"price": {"numeric": "log"}}, {"place": "position"}],
    "relative": True,
}
"""Features of a model that compares a request's candidates with each other."""
COLUMNS = {"context": ["device", "party"], "candidate": ["price", "place"]}


@dataclass(frozen=True)
class Exported:
    """A log, its dataset, a run on it, and the run's export."""

    log: Log
    dataset: Dataset
    run: Run
    folder: Path


def export_log(folder: Path, model: dict[str, Any] = SOFT, log: Log | None = None, **changes: Any) -> Exported:
    """Prepare a random log, make a run of a model with random weights, and export it."""
    log = random_log(requests=240) if log is None else log
    dataset = prepare(MemorySource(log), recipe(**changes), folder / "dataset").dataset
    run = new_run(folder / "run", dataset, model, **changes)
    export_run(run, folder / "export")
    return Exported(log, dataset, run, folder / "export")


def new_run(folder: Path, dataset: Dataset, model: dict[str, Any], **changes: Any) -> Run:
    """A run folder of a model with random weights on one of the random logs."""
    content = recipe(**changes).model_dump(mode="json", by_alias=True)
    experiment = validate_experiment(
        content | {"name": "random", "data": {"source": "complete_journey"}, "model": model}, "random"
    )
    return untrained_run(folder, dataset, experiment)


def untrained_run(folder: Path, dataset: Dataset, experiment: Experiment) -> Run:
    """A run folder of a model with random weights and statistics, all parameters far enough from zero to count."""
    torch.manual_seed(1)
    built = build_model(experiment.model, schema_of(dataset))
    with torch.no_grad():
        for name, value in built.state_dict().items():
            if value.is_floating_point() and "dropped_at" not in name and "scale" not in name:
                noise = torch.randn_like(value) * 0.3
                value.add_(noise.abs() if "var" in name else noise)
            if name.endswith("requests_seen"):
                value.fill_(1)
        built.table.weight[0] = 0
    run = RunFolder.create(folder, experiment, dataset)
    run.save_model(built.state_dict())
    return Run(run)


def request_of(exported: Exported, row: int, *, history: bool = True) -> dict[str, Any]:
    """A request of the dataset, from the log's own columns."""
    log, dataset = exported.log, exported.dataset
    key = keys_of(dataset.folder, "requests").row(row, named=True)
    shown = log.impressions.filter(pl.col("_request") == key["_request"])
    items = keys_of(dataset.folder, "items")["_item"]
    offset = dataset.requests.candidate_offset
    order = [items[int(one)] for one in dataset.candidates.item[offset[row] : offset[row + 1]]]
    by_item = {one["_item"]: one for one in shown.to_dicts()}
    first = shown.row(0, named=True)
    request = {
        "user": key["_user"],
        "time": key["_time"] / MICROSECONDS,
        "context": {name: first[name] for name in COLUMNS["context"]},
        "candidates": [{"item": item} | {name: by_item[item][name] for name in COLUMNS["candidate"]} for item in order],
    }
    return request | ({"history": events_of(log, key["_user"])} if history else {})


@cache
def keys_of(dataset: Path, name: Relation) -> pl.DataFrame:
    return pl.read_parquet(keys_file(dataset, name))


def events_of(log: Log, user: str) -> list[dict[str, Any]]:
    """All events of a user, later ones included, as a request brings them."""
    assert log.events is not None
    own = log.events.unique().filter(pl.col("_user") == user)
    return [{"item": one["_item"], "kind": one["_kind"], "time": one["_time"] / MICROSECONDS} for one in own.to_dicts()]


def rows_of_test(dataset: Dataset) -> range:
    period = dataset.manifest.splits["test"]
    return range(period.begin, period.end)


def numpy_of(value: Any) -> np.ndarray:
    return np.asarray(value.numpy())
