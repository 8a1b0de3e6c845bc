"""`sweep`: one option at a time around the configured values (the paper's Fig 4), measured on one split."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import computed_field

from musenet.dataset.manifest import Split
from musenet.errors import RunError
from musenet.evaluation.draws import RESAMPLES, UserDraws
from musenet.evaluation.evaluation import protocol_line
from musenet.evaluation.intervals import (
    NO_DIFFERENCE,
    Difference,
    Resampled,
    difference,
    resample_model,
)
from musenet.results import Result
from musenet.runs.run import Run
from musenet.studies.comparison.results import Measured, measured_of
from musenet.studies.pool import TrainingPool, train_planned
from musenet.studies.sweep.plan import PlannedLine

METRICS = ("auc", "gauc", "logloss")


class SweepPoint(Result):
    """One value, over its seeds."""

    value: Any
    auc: Measured
    gauc: Measured
    logloss: Measured
    difference_to_configured: Difference
    """AUC minus that of the configured value, paired."""
    runs: list[str]


class SweepLine(Result):
    """One model along one parameter."""

    parameter: str
    model: str
    configured: Any
    points: list[SweepPoint]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def best(self) -> Any:
        """The value with the highest mean AUC."""
        return max(self.points, key=lambda point: point.auc.mean).value


class Sweep(Result):
    """All lines, and what they were measured on."""

    data: str
    split: Split
    seeds: list[int]
    protocol: str
    impressions: int
    users: int
    lines: list[SweepLine]

    def rows(self) -> list[dict[str, Any]]:
        """A row per value of each line."""
        return [
            {"model": line.model, "parameter": line.parameter, "value": str(point.value)}
            | {name: getattr(point, name).mean for name in METRICS}
            for line in self.lines
            for point in line.points
        ]


def run_sweep(lines: Sequence[PlannedLine], split: Split, pool: TrainingPool, resamples: int = RESAMPLES) -> Sweep:
    """Train what is planned and measure it on a split.

    Raises:
        RunError: if the split is empty.
    """
    dataset = pool.dataset
    if dataset.manifest.splits[split].impressions == 0:
        raise RunError(f"the {split} split of {dataset.folder} is empty: there is nothing to measure on")
    every = {run.path: run for line in lines for _, runs in line.runs for run in runs}
    for run, result in pool.each(train_planned, list(every.values())):
        pool.listener.say(f"{run.name}: validation AUC {result.best['auc']:.4f} at step {result.best['step']:,}")
    first = Run.open(next(iter(every)))
    draws = UserDraws(first.predictions(split).user, resamples)
    measured: dict[Path, Resampled] = {}
    for line in lines:
        for _, runs in line.runs:
            if runs[0].path not in measured:
                samples = [Run.open(run.path).predictions(split).sample() for run in runs]
                measured[runs[0].path] = resample_model(samples, draws, METRICS)
    return Sweep(
        data=first.experiment.name,
        split=split,
        seeds=sorted({run.experiment.seed for run in every.values()}),
        protocol=protocol_line(dataset, split),
        impressions=dataset.manifest.splits[split].impressions,
        users=draws.users,
        lines=[_measured_line(line, measured) for line in lines],
    )


def _measured_line(line: PlannedLine, measured: Mapping[Path, Resampled]) -> SweepLine:
    reference = next(measured[runs[0].path] for value, runs in line.runs if value == line.configured)
    points = []
    for value, runs in line.runs:
        own = measured[runs[0].path]
        same = own is reference  # which differs from itself by nothing, surely
        points.append(
            SweepPoint(
                value=value,
                **{name: measured_of(own, name) for name in METRICS},
                difference_to_configured=NO_DIFFERENCE if same else difference(own, reference),
                runs=[str(run.path) for run in runs],
            )
        )
    return SweepLine(parameter=line.parameter, model=line.model, configured=line.configured, points=points)
