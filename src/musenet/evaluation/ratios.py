"""Ratios of sums over impressions or requests, with intervals from the bootstrap over users.

Shapes: n rows, U users, K columns.
"""

import numpy as np
from numpy.typing import NDArray

from musenet.evaluation.draws import UserDraws
from musenet.evaluation.intervals import Interval, percentile_interval
from musenet.metrics import FloatArray


def sums_by_user(values: FloatArray, user: NDArray[np.int64], users: int) -> FloatArray:
    """(U, K) what the rows of each user add up to.

    Args:
        values: (n, K).
        user: (n) place of each row's user.
        users: U.
    """
    return np.stack([np.bincount(user, column, users) for column in values.T], axis=1)


def resampled_ratios(top: FloatArray, bottom: FloatArray, draws: UserDraws) -> FloatArray:
    """(1 + resamples, K) sum of the top over sum of the bottom: of all users once, then in each resample.

    Args:
        top: (U, K) what each user adds to the numerators.
        bottom: (U, K) or (U, 1) what each user adds to the denominators.
        draws: how often each user counts in each resample.
    """
    everyone = np.ones((1, draws.users))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.concatenate([(counts @ top) / (counts @ bottom) for counts in (everyone, *draws.blocks())])


def intervals_of(figures: FloatArray, draws: UserDraws) -> list[Interval]:
    """(K) intervals of figures (1 + resamples, K), the first row being that of all users."""
    return [percentile_interval(float(column[0]), column[1:], draws) for column in figures.T]


def ratio_intervals(top: FloatArray, bottom: FloatArray, draws: UserDraws) -> list[Interval]:
    """(K) the ratios of `resampled_ratios` with their bounds."""
    return intervals_of(resampled_ratios(top, bottom, draws), draws)
