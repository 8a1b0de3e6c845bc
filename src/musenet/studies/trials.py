"""Trials of tuning: which points a row is tried at, and one trial from its folder's point of view."""

import json
import math
import shutil
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from musenet.config.experiment import Experiment
from musenet.config.loading import with_values
from musenet.config.search_space import ATTEMPTS, Choices, Point, Range, TuningOptions, distinct_points
from musenet.dataset.dataset import Dataset
from musenet.errors import TrainingDivergedError
from musenet.evaluation.ranking import larger_is_better
from musenet.files import write_json
from musenet.options import Options, can_vary, value_at
from musenet.studies.plans import PlannedRun, row_of
from musenet.training.loop import Log
from musenet.training.train_run import decisive, train_run
from musenet.training.warm_start import differences

TRIAL_FILE = "trial.json"
SMALLEST_BATCH = 64
"""Of a trial on a share of the requests, in candidates."""


@dataclass(frozen=True)
class Trial:
    """A point that a row is tried at."""

    number: int
    values: Point
    experiment: Experiment
    """The row's, with these values."""
    same_as: int | None
    """An earlier trial of the row that comes out alike and stands for this one."""

    def planned(self, label: str, requests: float, seed: int, folder: Path) -> PlannedRun:
        """Its training on a share of the requests, at `<folder>/trials/…`.

        Batches are smaller by the same share, so that it takes as many steps as on all requests: in fewer steps what
        learns fast looks best, and item ids look worthless.
        """
        batch = max(SMALLEST_BATCH, round(self.experiment.training.batch_size * requests))
        values = {"training.requests": requests, "training.batch_size": min(batch, self.experiment.training.batch_size)}
        experiment = with_values(self.experiment, values).model_copy(update={"seed": seed})
        place = f"trial-{self.number}-on-{requests:.0%}-seed-{seed}".replace("%", "-percent")
        name = f"{label}, trial {self.number} on {requests:.0%}, seed {seed}"
        return PlannedRun(name, experiment, folder / "trials" / place, splits=())


@dataclass(frozen=True)
class Outcome:
    """How a trial ended, by validation."""

    auc: float | None = None
    logloss: float | None = None
    step: int | None = None
    """Of the best validation."""
    seconds: float | None = None
    failed: str | None = None
    """Why there is no result."""
    monitored: float | None = None
    """What training watched, if that is neither AUC nor logloss."""

    def score(self, monitor: str) -> float:
        """What the trial is judged by, larger is better; -inf without a result."""
        value = {"auc": self.auc, "logloss": self.logloss}.get(monitor, self.monitored)
        if value is None or not math.isfinite(value):
            return -math.inf
        return value if larger_is_better(monitor) else -value


def shared_points(experiment: Experiment) -> list[Point]:
    """The points that every row is tried at beside its configured values, from the first again where they run out.

    What a row is configured as is tried anyway and not drawn, unless there is nothing else.
    """
    options = experiment.compare.tuning
    assert options is not None
    rows = [row_of(experiment, label) for label in experiment.compare.models]
    configured = [
        configured_values(row, options.shared) for row in rows if all(_has(row, key) for key in options.shared)
    ]
    count = options.trials - 1
    points = distinct_points(options.shared, count, experiment.seed, taken=configured)
    points = points or distinct_points(options.shared, count, experiment.seed) or [{}]
    return list(islice(cycle(points), count))


def plan_trials(experiment: Experiment, label: str, shared: Sequence[Point]) -> list[Trial]:
    """The trials of a row: its configured values, then the shared points with its own keys drawn beside them.

    Raises:
        ConfigError: if the row does not take a point.
    """
    options = experiment.compare.tuning
    assert options is not None
    row = row_of(experiment, label)
    own = options.own.get(label, {})
    points = [configured_values(row, space_of(row, options, label))]
    for place, point in enumerate(shared):
        known = {key: value for key, value in point.items() if _has(row, key)}
        points.append(known | _own_values(own, known, points, experiment.seed + place + zlib.crc32(label.encode())))
    trials: list[Trial] = []
    for number, values in enumerate(points):
        tried = with_values(row, values)
        same = [trial.number for trial in trials if decisive(trial.experiment) == decisive(tried)]
        trials.append(Trial(number, values, tried, same[0] if same else None))
    return trials


def space_of(row: Experiment, options: TuningOptions, label: str) -> dict[str, Choices | Range]:
    """What is tuned of a row: the shared keys that it has, and its own."""
    return {key: space for key, space in options.shared.items() if _has(row, key)} | options.own.get(label, {})


def configured_values(row: Experiment, keys: Iterable[str]) -> Point:
    """The values of these keys as they are configured."""
    return {key: value_at(_part(row, key), key.partition(".")[2]) for key in keys}


def values_taken_over(point: Point, row: Experiment, other: Experiment) -> Point:
    """What a row takes over of another row's values: all but keys that it lacks or that the two configure apart."""
    return {
        key: value
        for key, value in point.items()
        if _has(row, key) and configured_values(row, [key]) == configured_values(other, [key])
    }


def run_trial(planned: PlannedRun, dataset: Dataset, log: Log | None) -> Outcome:
    """Train a trial and keep how it ended, not its weights; one that has ended before is not trained again."""
    file = planned.path / TRIAL_FILE
    before = _ended_before(file, planned.experiment, dataset)
    if before is not None:
        return before
    try:
        result = train_run(
            planned.experiment, dataset, planned.path, resume=True, replace=True, splits=planned.splits, log=log
        )
        best, monitor = result.best, planned.experiment.training.monitor
        outcome = Outcome(best["auc"], best["logloss"], int(best["step"]), result.seconds, monitored=best.get(monitor))
    except TrainingDivergedError as error:
        outcome = Outcome(failed=str(error))
    fingerprint = dataset.manifest.fingerprint
    content = {"dataset": fingerprint, "decisive": decisive(planned.experiment), "outcome": asdict(outcome)}
    write_json(file, content)
    _lighten(planned.path)
    return outcome


def _own_values(
    space: Mapping[str, Choices | Range], known: Point, points: Sequence[Point], seed: int
) -> dict[str, Any]:
    """Values of a row's own keys such that the whole point is a new one, if the space holds one."""
    drawn = distinct_points(space, ATTEMPTS, seed)
    new = [values for values in drawn if known | values not in points]
    return next(iter(new or drawn), {})


def _part(row: Experiment, key: str) -> Options:
    return row.training if key.startswith("training.") else row.model


def _has(row: Experiment, key: str) -> bool:
    part, _, name = key.partition(".")
    heeded = row.model.heeded_training
    return can_vary(_part(row, key), name) and (part == "model" or heeded is None or name in heeded)


def _ended_before(file: Path, experiment: Experiment, dataset: Dataset) -> Outcome | None:
    """The outcome in the file if it is this experiment's, whatever options have been added with defaults since."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        found = content["decisive"]
        parts = {name: type(getattr(experiment, name)).model_validate(found[name]) for name in ("model", "training")}
        then = experiment.model_copy(update={**parts, "seed": found["seed"]})
        alike = content["dataset"] == dataset.manifest.fingerprint
        return (
            Outcome(**content["outcome"]) if alike and not differences(decisive(then), decisive(experiment)) else None
        )
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None


def _lighten(folder: Path) -> None:
    """Remove what only a run that goes on or is measured needs."""
    for file in folder.glob("*.safetensors"):
        file.unlink()
    shutil.rmtree(folder.with_name(f"{folder.name}.forms"), ignore_errors=True)
