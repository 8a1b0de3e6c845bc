"""How the scenarios' shares move over the days, and over the hours of the day.

Shapes: R requests, T spans of time, U users, K scenarios.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from musenet.dataset.dataset import Dataset
from musenet.evaluation.draws import UserDraws
from musenet.evaluation.intervals import Interval
from musenet.evaluation.predictions import Floats, Predictions
from musenet.evaluation.ratios import ratio_intervals, sums_by_user

LONGEST_IN_DAYS = 60
"""Longer periods are shown by week."""
FEWEST_REQUESTS = 20
FEWEST_HOURS = 4

Unit = Literal["day", "week", "hour"]


@dataclass(frozen=True)
class Span:
    """A day, a week (by its Monday) or an hour of the day."""

    label: str
    requests: int
    shares: list[Interval]
    """Mean assignment of its requests, for each of K scenarios."""


@dataclass(frozen=True)
class SharesOverTime:
    """The spans in order; those with few requests are left out."""

    unit: Unit
    spans: list[Span]
    test_begins: str | None = None
    """Label of the span in which the test period begins, if validation is shown before it."""


def shares_by_date(dataset: Dataset, splits: Sequence[Predictions], draws: UserDraws) -> SharesOverTime:
    """Shares per day, or per week if there are many days.

    Args:
        dataset: that the predictions are of.
        splits: consecutive periods with assignments, the test period last.
        draws: resamples of the users of all of them.
    """
    days = [_local(dataset, one).dt.date() for one in splits]
    together = pl.concat(days)
    unit: Unit = "day" if together.n_unique() <= LONGEST_IN_DAYS else "week"
    labels = (together if unit == "day" else together.dt.truncate("1w")).cast(pl.String)
    begins = labels[sum(len(part) for part in days[:-1])] if len(days) > 1 else None
    return SharesOverTime(unit, _spans(labels, dataset, splits, draws), begins)


def shares_by_hour(dataset: Dataset, splits: Sequence[Predictions], draws: UserDraws) -> SharesOverTime | None:
    """Shares per hour of the day in the log's timezone; None for a log that knows only a few hours, or just dates."""
    hours = pl.concat([_local(dataset, one).dt.strftime("%H") for one in splits])
    spans = _spans(hours, dataset, splits, draws)
    return SharesOverTime("hour", spans) if len(spans) >= FEWEST_HOURS else None


def _local(dataset: Dataset, predictions: Predictions) -> pl.Series:
    """(R) the requests' times in the log's timezone."""
    time = dataset.requests.time[predictions.requests]
    return pl.Series(time).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(dataset.manifest.timezone)


def _spans(labels: pl.Series, dataset: Dataset, splits: Sequence[Predictions], draws: UserDraws) -> list[Span]:
    assignment = np.concatenate([one.assignment for one in splits if one.assignment is not None])
    users = dataset.requests.user[np.concatenate([one.requests for one in splits])]
    place = draws.index(users)
    names, of_request = np.unique(labels.to_numpy().astype(str), return_inverse=True)
    found = []
    for span, name in enumerate(names):
        rows = np.flatnonzero(of_request == span)
        if len(rows) >= FEWEST_REQUESTS:
            found.append(Span(str(name), len(rows), _shares(assignment[rows], place[rows], draws)))
    return found


def _shares(assignment: Floats, user: NDArray[np.int64], draws: UserDraws) -> list[Interval]:
    """(K) mean assignment with bounds from the bootstrap over users."""
    requests = np.bincount(user, minlength=draws.users).astype(np.float64)[:, None]  # (U, 1)
    return ratio_intervals(sums_by_user(assignment, user, draws.users), requests, draws)
