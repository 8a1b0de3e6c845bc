"""How good a click prediction is: discrimination (AUC, GAUC), likelihood (logloss), calibration.

All of it is on numpy arrays, one row per impression, in float64. A weight says how many impressions a row stands for:
every metric with weights equals the metric without them on rows repeated that often. Malformed input (no rows, unequal
lengths, labels other than 0 and 1, not a number) is a `ValueError` that says which array is wrong.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

CALIBRATION_BINS = 20


@dataclass(frozen=True)
class GroupedAuc:
    """The impression-weighted mean of the groups' AUC, and what could not enter it (groups of one class)."""

    value: float
    groups: int
    left_out_groups: int
    left_out_impressions: int


@dataclass(frozen=True, eq=False)
class AucByGroup:
    """One row per group, ordered by group: its key, AUC (nan where it has one class), total weight and rows."""

    group: NDArray[Any]
    auc: FloatArray
    weight: FloatArray
    rows: IntArray


def auc(label: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Probability that a positive scores above a negative, a tie counting one half.

    AUC = Σ_{i positive, j negative} w_i w_j ([s_i > s_j] + ½ [s_i = s_j]) / (Σ_i w_i · Σ_j w_j), exact with ties, in
    O(n log n). Label, score and weight are (N); any increasing score will do, logit or probability. It is nan where
    one class is missing. Source: Hanley and McNeil (1982), the Mann-Whitney form.

    >>> auc([0, 1, 0, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    positive, values, weights = _checked(label, score, weight, "score")
    negative_order = np.argsort(values[~positive])
    negative_scores = values[~positive][negative_order]
    below = np.concatenate(([0.0], np.cumsum(weights[~positive][negative_order])))
    # Half of what lies strictly below plus half of what lies at or below: the mid-rank.
    wins = below[np.searchsorted(negative_scores, values[positive], "left")]
    wins = (wins + below[np.searchsorted(negative_scores, values[positive], "right")]) / 2
    return _ratio(float(np.sum(weights[positive] * wins)), float(np.sum(weights[positive])) * float(below[-1]))


def auc_by_group(label: ArrayLike, score: ArrayLike, group: ArrayLike, weight: ArrayLike | None = None) -> AucByGroup:
    """AUC within each group (a request, a user), as `auc` defines it, for all groups in one sort.

    Label, score, group and weight are (N), in any order; the result has a row per distinct group, in their order.

    >>> auc_by_group([0, 1, 1], [0.2, 0.1, 0.3], [7, 7, 8]).auc
    array([ 0., nan])
    """
    positive, values, weights = _checked(label, score, weight, "score")
    groups = _group_keys(group, len(values))
    order = np.lexsort((values, groups))
    groups, values = groups[order], values[order]
    new_group = _starts(groups)
    # A block is the rows of one group that share one score.
    block_start = np.flatnonzero(new_group | _starts(values))
    group_start = np.flatnonzero(new_group[block_start])
    positives = np.add.reduceat(np.where(positive, weights, 0.0)[order], block_start)
    negatives = np.add.reduceat(np.where(positive, 0.0, weights)[order], block_start)

    blocks_of_group = np.diff(group_start, append=len(block_start))
    below = np.cumsum(negatives) - negatives
    below -= np.repeat(below[group_start], blocks_of_group)
    wins = np.add.reduceat(positives * (below + negatives / 2), group_start)
    positives_of_group = np.add.reduceat(positives, group_start)
    negatives_of_group = np.add.reduceat(negatives, group_start)
    pairs = positives_of_group * negatives_of_group
    first_row = np.flatnonzero(new_group)
    return AucByGroup(
        group=groups[first_row],
        auc=np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0),
        weight=positives_of_group + negatives_of_group,
        rows=np.diff(first_row, append=len(groups)).astype(np.int64),
    )


def grouped_auc(label: ArrayLike, score: ArrayLike, group: ArrayLike, weight: ArrayLike | None = None) -> GroupedAuc:
    """GAUC: the mean of the groups' AUC, each weighted by its impressions.

    GAUC = Σ_g n_g AUC_g / Σ_g n_g over the groups g that hold both classes; n_g counts impressions (or sums their
    weight). Groups of one class have no AUC: they are left out and counted. Label, score, group and weight are (N);
    the value is nan where no group is left. Source: Zhou et al. (2018), Deep Interest Network, section 5.2.

    >>> grouped_auc([0, 1, 1, 0, 1], [0.1, 0.2, 0.3, 0.4, 0.5], [1, 1, 2, 2, 3])
    GroupedAuc(value=0.5, groups=2, left_out_groups=1, left_out_impressions=1)
    """
    by_group = auc_by_group(label, score, group, weight)
    used = ~np.isnan(by_group.auc)
    return GroupedAuc(
        value=_ratio(float(np.sum((by_group.auc * by_group.weight)[used])), float(np.sum(by_group.weight[used]))),
        groups=int(np.sum(used)),
        left_out_groups=int(np.sum(~used)),
        left_out_impressions=int(np.sum(by_group.rows[~used])),
    )


def ndcg_by_group(label: ArrayLike, score: ArrayLike, group: ArrayLike, k: int) -> tuple[NDArray[Any], FloatArray]:
    """NDCG@k within each group (a request), gains being the labels, 0 or 1; and the groups, in their order.

    A positive at rank r, counted from 1, is worth 1 / log2(1 + r) up to rank k. Rows of one score share the mean worth
    of their ranks, as if their order were drawn. Undefined, nan, without a positive, and where there is one row only.

    >>> ndcg_by_group([0, 1, 1], [0.2, 0.1, 0.3], [7, 7, 8], k=5)[1].round(4)
    array([0.6309,    nan])
    """
    positive, values, _ = _checked(label, score, None, "score")
    groups = _group_keys(group, len(values))
    order = np.lexsort((-values, groups))
    groups, values, positive = groups[order], values[order], positive[order]
    first = np.flatnonzero(_starts(groups))
    sizes = np.diff(first, append=len(groups))
    of = np.repeat(np.arange(len(first)), sizes)
    rank = np.arange(len(groups)) - first[of]  # from 0
    worth = np.where(rank < k, 1 / np.log2(rank + 2), 0.0)
    block = np.cumsum(_starts(groups) | _starts(values)) - 1
    worth_of_block = np.bincount(block, weights=worth) / np.bincount(block)
    gained = np.bincount(of, weights=worth_of_block[block] * positive, minlength=len(first))
    positives = np.bincount(of, weights=positive, minlength=len(first)).astype(np.int64)
    best = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(k) + 2))])[np.minimum(positives, k)]
    defined = (positives > 0) & (sizes > 1)
    return groups[first], np.divide(gained, best, out=np.full(len(first), np.nan), where=defined)


def logloss(label: ArrayLike, probability: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean negative log-likelihood: −Σ_i w_i (y_i log p_i + (1 − y_i) log(1 − p_i)) / Σ_i w_i, in nats.

    Label, probability and weight are (N). Nothing is clipped: a probability of 0 for a positive costs infinity. Where
    logits are at hand, `logloss_from_logit` keeps what rounding to a probability loses.

    >>> round(logloss([1, 0], [0.8, 0.4]), 4)
    0.367
    """
    positive, probabilities, weights = _checked_probability(label, probability, weight)
    with np.errstate(divide="ignore"):
        losses = -np.where(positive, np.log(probabilities), np.log1p(-probabilities))
    return _weighted_mean(losses, weights)


def logloss_from_logit(label: ArrayLike, logit: ArrayLike, weight: ArrayLike | None = None) -> float:
    """The same as `logloss` of the logistic function of the logit, exact at any logit; arrays are (N).

    >>> logloss_from_logit([1, 0], [-1000.0, -1000.0])
    500.0
    """
    positive, logits, weights = _checked(label, logit, weight, "logit")
    return _weighted_mean(row_losses(positive, logits), weights)


def row_losses(label: ArrayLike, logit: ArrayLike) -> FloatArray:
    """Each row's negative log-likelihood, log(1 + exp(−z)) for a positive and log(1 + exp(z)) for a negative: (N).

    >>> row_losses([1, 0], [800.0, 800.0])
    array([  0., 800.])
    """
    positive, logits, _ = _checked(label, logit, None, "logit")
    return np.logaddexp(0.0, np.where(positive, -logits, logits))


def probability_of_logit(logit: ArrayLike) -> FloatArray:
    """The logistic function 1 / (1 + exp(−z)) in float64; same shape as the logit.

    >>> probability_of_logit([0.0, -1000.0])
    array([0.5, 0. ])
    """
    from scipy.special import expit

    return np.asarray(expit(np.asarray(logit, dtype=np.float64)), dtype=np.float64)


def rela_impr(model_auc: float, base_auc: float) -> float:
    """RelaImpr = (AUC_model − ½) / (AUC_base − ½) − 1, a fraction: 0.04 reads "4 % better than the base model".

    It is nan for a base that is no better than chance, against which nothing is relative. Source: Yan et al. (2014),
    Coupled Group Lasso for Web-Scale CTR Prediction; the MUSENET paper's section 4.1.

    >>> round(rela_impr(0.7613, 0.7521), 4)
    0.0365
    """
    if not base_auc > 0.5:
        return float("nan")
    return (model_auc - 0.5) / (base_auc - 0.5) - 1.0


def calibration_ratio(label: ArrayLike, probability: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Predicted over observed positives: Σ_i w_i p_i / Σ_i w_i y_i; 1 is calibrated on the whole, above 1 too bold.

    Label, probability and weight are (N); nan where nothing was observed. Source: He et al. (2014), Practical Lessons
    from Predicting Clicks on Ads at Facebook, section 3.

    >>> calibration_ratio([1, 0, 0, 0], [0.5, 0.25, 0.25, 0.5])
    1.5
    """
    positive, probabilities, weights = _checked_probability(label, probability, weight)
    return _ratio(float(np.sum(weights * probabilities)), float(np.sum(weights[positive])))


def calibration_error(
    label: ArrayLike, probability: ArrayLike, weight: ArrayLike | None = None, bins: int = CALIBRATION_BINS
) -> float:
    """Expected calibration error over bins of equally many impressions (see `equal_count_bins`).

    ECE = Σ_b |Σ_{i in b} w_i (p_i − y_i)| / Σ_i w_i. Label, probability and weight are (N). Source: Naeini et al.
    (2015), Obtaining Well Calibrated Probabilities Using Bayesian Binning; Nixon et al. (2019) for equal counts.

    >>> calibration_error([1, 0, 0, 0], [0.75, 0.25, 0.25, 0.25], bins=2)
    0.25
    """
    positive, probabilities, weights = _checked_probability(label, probability, weight)
    bin_of_row = equal_count_bins(probabilities, weights, bins)
    gaps = np.bincount(bin_of_row, weights=weights * (probabilities - positive), minlength=bins)
    return _ratio(float(np.sum(np.abs(gaps))), float(np.sum(weights)))


def equal_count_bins(score: ArrayLike, weight: ArrayLike | None = None, bins: int = CALIBRATION_BINS) -> IntArray:
    """The bin (0 … bins − 1) of each row, bins of equal weight in the order of the score; equal scores share a bin.

    bin_i = ⌊bins · m_i / Σ w⌋ with m_i the mid-rank of the row's score (the weight below it, plus half of its ties').
    Score and weight are (N), the result too. Many ties leave bins unequal or empty.

    >>> equal_count_bins([0.3, 0.1, 0.2, 0.2], bins=2)
    array([1, 0, 1, 1])
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}; there must be at least one")
    values = _column(score, "score")
    weights = _weights(weight, len(values))
    _, block = np.unique(values, return_inverse=True)
    weight_of_block = np.bincount(block, weights=weights)
    cumulated = np.cumsum(weight_of_block)
    middle = cumulated - weight_of_block / 2
    # A last block of no weight has its middle at the very end, which would open one bin too many.
    bin_of_block = np.minimum((bins * middle / cumulated[-1]).astype(np.int64), bins - 1)
    return np.asarray(bin_of_block[block], dtype=np.int64)


def _checked(
    label: ArrayLike, score: ArrayLike, weight: ArrayLike | None, name: str
) -> tuple[BoolArray, FloatArray, FloatArray]:
    """Label as booleans, score and weight as float64, all (N)."""
    labels, scores = _column(label, "label"), _column(score, name)
    if len(labels) != len(scores):
        raise ValueError(f"label has {len(labels)} rows, {name} has {len(scores)}; they must be the same impressions")
    positive = labels == 1
    strange = labels[~positive & (labels != 0)]
    if len(strange):
        raise ValueError(f"label must be 0 or 1; found {strange[0]:g}, in {len(strange)} rows of other values")
    return positive, scores, _weights(weight, len(labels))


def _checked_probability(
    label: ArrayLike, probability: ArrayLike, weight: ArrayLike | None
) -> tuple[BoolArray, FloatArray, FloatArray]:
    positive, probabilities, weights = _checked(label, probability, weight, "probability")
    if probabilities.min() < 0 or probabilities.max() > 1:
        found = f"{probabilities.min():g} … {probabilities.max():g}"
        raise ValueError(f"probability must lie between 0 and 1; found {found} (are these logits?)")
    return positive, probabilities, weights


def _column(values: ArrayLike, name: str) -> FloatArray:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"{name} must have one dimension, a value per impression; its shape is {column.shape}")
    if len(column) == 0:
        raise ValueError(f"{name} is empty: there are no impressions to measure on")
    if np.isnan(column).any():
        raise ValueError(f"{name} holds nan, in {int(np.isnan(column).sum())} of {len(column)} rows")
    return column


def _weights(weight: ArrayLike | None, rows: int) -> FloatArray:
    if weight is None:
        return np.ones(rows)
    weights = _column(weight, "weight")
    if len(weights) != rows:
        raise ValueError(f"weight has {len(weights)} rows for {rows} impressions")
    if weights.min() < 0 or not 0 < weights.sum() < np.inf:
        raise ValueError("weight must be finite, at least 0, and not 0 everywhere")
    return weights


def _group_keys(group: ArrayLike, rows: int) -> NDArray[Any]:
    groups = np.asarray(group)
    if groups.shape != (rows,):
        raise ValueError(f"group has shape {groups.shape} for {rows} impressions")
    return groups


def _starts(sorted_values: NDArray[Any]) -> BoolArray:
    """True where a value differs from the one before, and on the first row."""
    return np.concatenate(([True], sorted_values[1:] != sorted_values[:-1]))


def _weighted_mean(values: FloatArray, weights: FloatArray) -> float:
    # A row of no weight counts nothing, even where its loss is infinite (0 · ∞ would be nan).
    counted = weights > 0
    return _ratio(float(np.sum(values[counted] * weights[counted])), float(np.sum(weights)))


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else float("nan")
