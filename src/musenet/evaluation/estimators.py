"""Every metric as a function of how often each user was drawn, so that no resample copies a row.

Shapes: B resamples, U users.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from musenet.evaluation.draws import Sample, UserDraws
from musenet.metrics import (
    CALIBRATION_BINS,
    FloatArray,
    IntArray,
    auc_by_group,
    equal_count_bins,
    ndcg_by_group,
    probability_of_logit,
    row_losses,
)

NDCG_AT = 5
"""k of NDCG@k."""

Estimator = Callable[[FloatArray], FloatArray]
"""Counts (B, U) of how often each user was drawn → the metric in each resample (B)."""


def estimators(sample: Sample, draws: UserDraws, metrics: Sequence[str] | None = None) -> dict[str, Estimator]:
    """An estimator for each metric by name, all of `METRICS` unless named; raises `ValueError` for one there is not."""
    unknown = [metric for metric in metrics or () if metric not in _BUILDERS]
    if unknown:
        raise ValueError(f"no such metric: {', '.join(unknown)}; there are {', '.join(_BUILDERS)}")
    user = draws.index(sample.user)
    return {metric: _BUILDERS[metric](sample, user, draws.users) for metric in metrics or METRICS}


def _auc(sample: Sample, user: IntArray, users: int) -> Estimator:
    """Weighted AUC by one cumulative sum over the negatives, which were sorted once; ties exactly, by mid-ranks."""
    del users
    positive = np.flatnonzero(sample.label == 1)
    negative = np.flatnonzero(sample.label == 0)
    positive = positive[np.argsort(sample.logit[positive])]
    negative = negative[np.argsort(sample.logit[negative])]
    negative_logits, positive_logits = sample.logit[negative], sample.logit[positive]
    strictly_below = np.searchsorted(negative_logits, positive_logits, "left")
    at_or_below = np.searchsorted(negative_logits, positive_logits, "right")
    positive_user, negative_user = user[positive], user[negative]
    positive_weight, negative_weight = sample.weights[positive], sample.weights[negative]
    below = np.zeros(len(negative) + 1)

    def one(counts: FloatArray) -> float:
        np.cumsum(counts[negative_user] * negative_weight, out=below[1:])
        weights = counts[positive_user] * positive_weight
        wins = weights @ (below[strictly_below] + below[at_or_below]) / 2
        pairs = weights.sum() * below[-1]
        return float(wins / pairs) if pairs > 0 else float("nan")

    return lambda counts: np.array([one(row) for row in counts])


def _gauc(group: IntArray, user_of_group: IntArray, sample: Sample, users: int) -> Estimator:
    """A group belongs to one user, so its AUC is the same in every resample: only how often it counts changes."""
    by_group = auc_by_group(sample.label, sample.logit, group, sample.weights)
    used = ~np.isnan(by_group.auc)
    owner, weight = user_of_group[used], by_group.weight[used]
    return _ratio_of_sums(_sum_per(owner, by_group.auc[used] * weight, users), _sum_per(owner, weight, users))


def _gauc_by_request(sample: Sample, user: IntArray, users: int) -> Estimator:
    _, first_row, request = np.unique(sample.request, return_index=True, return_inverse=True)
    user_of_request = user[first_row]
    shared = np.unique(request[user_of_request[request] != user])
    if len(shared):
        raise ValueError(f"{len(shared)} requests hold several users; a request is what one user was shown together")
    return _gauc(request, user_of_request, sample, users)


def _ndcg(sample: Sample, user: IntArray, users: int) -> Estimator:
    """A request belongs to one user, so its NDCG is the same in every resample; every request counts alike."""
    _, ndcg = ndcg_by_group(sample.label, sample.logit, sample.request, NDCG_AT)
    _, first_row = np.unique(sample.request, return_index=True)
    used = ~np.isnan(ndcg)
    owner = user[first_row][used]
    return _ratio_of_sums(_sum_per(owner, ndcg[used], users), _sum_per(owner, np.ones(int(used.sum())), users))


def _gauc_by_user(sample: Sample, user: IntArray, users: int) -> Estimator:
    return _gauc(user, np.arange(users), sample, users)


def _logloss(sample: Sample, user: IntArray, users: int) -> Estimator:
    losses = sample.weights * row_losses(sample.label, sample.logit)
    return _ratio_of_sums(_sum_per(user, losses, users), _sum_per(user, sample.weights, users))


def _calibration_ratio(sample: Sample, user: IntArray, users: int) -> Estimator:
    predicted = sample.weights * probability_of_logit(sample.logit)
    observed = sample.weights * sample.label
    return _ratio_of_sums(_sum_per(user, predicted, users), _sum_per(user, observed, users))


def _calibration_error(sample: Sample, user: IntArray, users: int) -> Estimator:
    """The bins are those of the whole sample; a (bin × user) matrix, sparse, holds what each user adds to each gap."""
    probability = probability_of_logit(sample.logit)
    bin_of_row = equal_count_bins(probability, sample.weights)
    residual = sample.weights * (probability - sample.label)
    gaps = sparse.csr_array((residual, (bin_of_row, user)), shape=(CALIBRATION_BINS, users))
    gaps.sum_duplicates()
    weight = _sum_per(user, sample.weights, users)
    return lambda counts: _divide(np.asarray(np.abs(gaps @ counts.T).sum(axis=0)), counts @ weight)


def _sum_per(user: IntArray, values: FloatArray, users: int) -> FloatArray:
    return np.bincount(user, weights=values, minlength=users).astype(np.float64)


def _ratio_of_sums(numerator: FloatArray, denominator: FloatArray) -> Estimator:
    """Σ_u n_u numerator_u / Σ_u n_u denominator_u, from the two sums of each user."""
    return lambda counts: _divide(counts @ numerator, counts @ denominator)


def _divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    quotient = np.full(len(denominator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


_BUILDERS: dict[str, Callable[[Sample, IntArray, int], Estimator]] = {
    "auc": _auc,
    "gauc": _gauc_by_request,
    "gauc_by_user": _gauc_by_user,
    "ndcg": _ndcg,
    "logloss": _logloss,
    "calibration_ratio": _calibration_ratio,
    "calibration_error": _calibration_error,
}
METRICS = tuple(_BUILDERS)
