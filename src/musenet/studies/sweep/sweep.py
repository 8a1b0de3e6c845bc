"""`sweep`: one option at a time around the configured values (the paper's Fig 4), measured on one split."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from musenet.dataset.manifest import Split
from musenet.errors import RunError
from musenet.evaluation.draws import RESAMPLES, UserDraws
from musenet.evaluation.evaluation import protocol_line
from musenet.evaluation.intervals import (
    Difference,
    Interval,
    Resampled,
    difference,
    resample_model,
    seed_and_user_interval,
)
from musenet.runs.folder import RunFolder
from musenet.runs.run import predictions_of
from musenet.studies.pool import TrainingPool, train_planned
from musenet.studies.sweep.plan import PlannedLine

METRICS = ("auc", "gauc", "logloss")


@dataclass(frozen=True)
class SweepPoint:
    """One value, over its seeds."""

    value: Any
    metrics: dict[str, Interval]
    """Means over seeds, with intervals over users and seeds."""
    per_seed: dict[str, list[float]]
    difference_to_configured: Difference
    """AUC minus that of the configured value, paired."""
    runs: list[str]

    def to_json(self) -> dict[str, Any]:
        """With the keys of docs/commands.md."""
        measured = {
            name: {"mean": of.value, "low": of.low, "high": of.high, "per_seed": self.per_seed[name]}
            for name, of in self.metrics.items()
        }
        return {
            "value": self.value,
            **measured,
            "difference_to_configured": asdict(self.difference_to_configured),
            "runs": self.runs,
        }


@dataclass(frozen=True)
class SweepLine:
    """One model along one parameter."""

    parameter: str
    model: str
    configured: Any
    points: list[SweepPoint]

    @property
    def best(self) -> Any:
        """The value with the highest mean AUC."""
        return max(self.points, key=lambda point: point.metrics["auc"].value).value

    def to_json(self) -> dict[str, Any]:
        """With the keys of docs/commands.md."""
        points = [point.to_json() for point in self.points]
        return {
            "parameter": self.parameter,
            "model": self.model,
            "configured": self.configured,
            "best": self.best,
            "points": points,
        }


@dataclass(frozen=True)
class Sweep:
    """All lines, and what they were measured on."""

    data: str
    split: Split
    seeds: list[int]
    protocol: str
    impressions: int
    users: int
    lines: list[SweepLine]

    def to_json(self) -> dict[str, Any]:
        """One object with the keys of docs/commands.md."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**content, "lines": [line.to_json() for line in self.lines]}


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
    first = RunFolder.open(next(iter(every)))
    draws = UserDraws(predictions_of(first, split).user, resamples)
    measured: dict[Path, Resampled] = {}
    for line in lines:
        for _, runs in line.runs:
            if runs[0].path not in measured:
                samples = [predictions_of(RunFolder.open(run.path), split).sample() for run in runs]
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
                metrics={name: seed_and_user_interval(own, name) for name in METRICS},
                per_seed={name: own.whole[name].tolist() for name in METRICS},
                difference_to_configured=Difference(0.0, 0.0, 0.0, 1.0) if same else difference(own, reference),
                runs=[str(run.path) for run in runs],
            )
        )
    return SweepLine(line.parameter, line.model, line.configured, points)
