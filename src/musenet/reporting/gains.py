"""Where a run gains over the base model: by the scenario that the run finds likeliest."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musenet.errors import RunError
from musenet.evaluation.draws import Sample, UserDraws
from musenet.evaluation.intervals import Difference, difference, resample_model
from musenet.evaluation.predictions import Predictions
from musenet.runs.run import Run
from musenet.studies.comparison.results import Comparison

METRICS = ("auc", "logloss")


@dataclass(frozen=True)
class Gain:
    """This run minus the base model on some of the impressions; bounds are paired over users."""

    scenario: int | None
    """None for all impressions."""
    impressions: int
    auc: Difference
    logloss: Difference
    """Below zero where the run is better."""


@dataclass(frozen=True)
class Gains:
    """Against which row, and by how much: everywhere, then in each scenario that can be measured."""

    base: str
    rows: list[Gain]


def base_run_of(comparison: Comparison | None, run: Run) -> Run | None:
    """The base row's run of this run's seed, or its first; None without one that can be read and set beside this."""
    row = None if comparison is None else comparison.row(comparison.base)
    if comparison is None or row is None or comparison.row_of(run.path) is row:
        return None
    # A comparison that was moved keeps its folders beside one another.
    places = [Path(path) for path in row.runs]
    places += [run.path.resolve().parent.parent / place.parent.name / place.name for place in places]
    found = [other for place in places if (other := _readable(place, run)) is not None]
    same_seed = [other for other in found if other.experiment.seed == run.experiment.seed]
    return next(iter([*same_seed, *found]), None)


def gains_over(base: Predictions, own: Predictions, name: str, resamples: int) -> Gains:
    """The run's predictions against those of the base model on the same split.

    Args:
        base: the base model's.
        own: the run's, with an assignment if scenarios are to be told apart.
        name: of the base model's row.
        resamples: of users.
    """
    everything = np.arange(len(own.label))
    slices: list[tuple[int | None, np.ndarray]] = [(None, everything)]
    if own.assignment is not None and own.assignment.shape[1] > 1:
        likeliest = own.assignment.argmax(axis=1)[own.place]
        slices += [(k, np.flatnonzero(likeliest == k)) for k in range(own.assignment.shape[1])]
    rows = [
        _gain(scenario, own.sample().part(rows), base.sample().part(rows), resamples)
        for scenario, rows in slices
        if len(np.unique(own.label[rows])) == 2
    ]
    return Gains(name, rows)


def _gain(scenario: int | None, own: Sample, base: Sample, resamples: int) -> Gain:
    draws = UserDraws(own.user, resamples)
    ours, theirs = (resample_model(sample, draws, METRICS) for sample in (own, base))
    auc, logloss = (difference(ours, theirs, metric) for metric in METRICS)
    return Gain(scenario, len(own.label), auc, logloss)


def _readable(place: Path, run: Run) -> Run | None:
    """The trained run at this place if it is one on the same dataset."""
    try:
        found = Run.open(place)
        alike = found.folder.dataset_fingerprint == run.folder.dataset_fingerprint
        return found if alike and found.folder.finished and found.experiment else None
    except RunError:
        return None
