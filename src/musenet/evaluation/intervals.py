"""How sure a figure is: a bootstrap over users, and over training seeds beside them.

Impressions of one user resemble each other, so users are what is drawn with replacement, each with all of its
impressions. A resample is a count per user; every metric is computed from those counts without copying a row. Models
that share one `UserDraws` see the same users in the same resample: their differences are paired, and each model is
resampled once, however many others it is compared with.

    draws = UserDraws(user, resamples=400, seed=0)
    models = {name: resample_model(samples, draws) for name, samples in …}      # a Sample per training seed
    seed_and_user_interval(models["musenet"], "auc")
    difference(models["musenet"], models["din"], "auc")
    rela_impr_interval(models["musenet"], models["base"])

Undefined values (AUC of one class) are nan, and so is an interval that cannot be had: of a single user, or where no
resample has the metric. Resamples without it are left out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from musenet.metrics import (
    CALIBRATION_BINS,
    FloatArray,
    IntArray,
    auc_by_group,
    equal_count_bins,
    ndcg_by_group,
    probability_of_logit,
    rela_impr,
    row_losses,
)

RESAMPLES = 400
NDCG_AT = 5
"""k of NDCG@k."""
LEVEL = 0.95
CACHED_BYTES = 2**28
BLOCK_VALUES = 2**21

# Counts (B × U) of how often each user was drawn → the metric in each resample (B).
Estimator = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Interval:
    """A figure on the whole sample, and the bounds that hold it with the level's probability."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """First minus second model, its bounds, and the two-sided bootstrap p-value of no difference."""

    value: float
    low: float
    high: float
    p: float
    standard_error: float = float("nan")
    """Standard deviation of the resampled differences."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One model's predictions: a row per impression, all arrays (N).

    Label is 0 or 1, the logit finite; user and request are ids, a request belonging to one user; weight, if given,
    says how many impressions a row stands for. What cannot be measured on is a `ValueError`.
    """

    label: FloatArray
    logit: FloatArray
    user: NDArray[Any]
    request: NDArray[Any]
    weight: FloatArray | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__  # the way to normalise a frozen dataclass's own fields
        put(self, "label", np.asarray(self.label, dtype=np.float64))
        put(self, "logit", np.asarray(self.logit, dtype=np.float64))
        put(self, "user", np.asarray(self.user))
        put(self, "request", np.asarray(self.request))
        if self.weight is not None:
            put(self, "weight", np.asarray(self.weight, dtype=np.float64))
        self._check()

    def _check(self) -> None:
        if self.label.size == 0:
            raise ValueError("the sample is empty: there are no impressions to resample")
        columns = {"logit": self.logit, "user": self.user, "request": self.request, "weight": self.weight}
        for name, column in columns.items():
            if column is not None and column.shape != (self.label.size,):
                raise ValueError(f"{name} has shape {column.shape}, label {self.label.shape}; all must be (N,) alike")
        if not np.isin(self.label, (0, 1)).all():
            raise ValueError("label must be 0 or 1 in every row")
        if not np.isfinite(self.logit).all():
            raise ValueError(f"logit must be finite; {int((~np.isfinite(self.logit)).sum())} rows are not")
        if self.weight is not None and not (np.isfinite(self.weight).all() and self.weight.min() >= 0):
            raise ValueError("weight must be finite and at least 0 in every row")

    @cached_property
    def weights(self) -> FloatArray:
        """The weight, or ones: (N)."""
        return np.ones(len(self.label)) if self.weight is None else self.weight


class UserDraws:
    """The resamples: how often each user is drawn in each, the same whenever they are asked for again.

    `user` holds ids, repeated or not; `ids` are the distinct ones in order. Every resample draws as many users as
    there are, with replacement. The counts are kept if they fit in 256 MiB and drawn afresh in each pass if not.
    """

    def __init__(self, user: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> None:
        self.ids: NDArray[Any] = np.unique(np.asarray(user))
        if len(self.ids) == 0:
            raise ValueError("there are no users to draw from")
        if resamples < 1:
            raise ValueError(f"resamples is {resamples}; at least one is needed")
        self.resamples = resamples
        self.seed = seed

    @property
    def users(self) -> int:
        """The number of distinct users, U."""
        return len(self.ids)

    def index(self, user: ArrayLike) -> IntArray:
        """The place of each user among the ids; `ValueError` unless the users are exactly those of the draws."""
        asked = np.asarray(user)
        place = np.minimum(np.searchsorted(self.ids, asked), self.users - 1).astype(np.int64)
        strangers = np.unique(asked[self.ids[place] != asked])
        absent = self.users - len(np.unique(place))
        if len(strangers) or absent:
            raise ValueError(
                f"the draws are of other users: {len(strangers)} of the sample's are not among the draws' {self.users},"
                f" {absent} of those are not in the sample; models are compared on the same impressions"
            )
        return place

    def blocks(self) -> Iterator[FloatArray]:
        """All resamples' counts in turn, several at a time: (B × U) each."""
        size = max(1, min(self.resamples, BLOCK_VALUES // self.users))
        if self.resamples * self.users <= CACHED_BYTES:
            for start in range(0, self.resamples, size):
                yield self._counts[start : start + size].astype(np.float64)
            return
        drawn = self._draw()
        for start in range(0, self.resamples, size):
            yield np.stack([next(drawn) for _ in range(min(size, self.resamples - start))]).astype(np.float64)

    def seeds(self, count: int, stream: int = 0) -> IntArray:
        """Which of `count` training seeds each resample draws: (resamples × count). Streams are independent."""
        generator = np.random.default_rng([self.seed, 1, stream, count])
        return generator.integers(count, size=(self.resamples, count))

    @cached_property
    def _counts(self) -> NDArray[np.uint8]:
        # The chance that one of U users is drawn more than 255 times in U draws is below 1e-500.
        return np.stack([counts.astype(np.uint8) for counts in self._draw()])

    def _draw(self) -> Iterator[IntArray]:
        generator = np.random.default_rng([self.seed, 0])
        for _ in range(self.resamples):
            yield np.bincount(generator.integers(self.users, size=self.users), minlength=self.users)


@dataclass(frozen=True, eq=False)
class Resampled:
    """One model's metrics, by name: on the whole sample, (S) over training seeds, and per resample, (S × resamples).

    The size is (impressions, positives): models of one comparison have it in common.
    """

    whole: Mapping[str, FloatArray]
    resampled: Mapping[str, FloatArray]
    draws: UserDraws
    size: tuple[int, int]

    @property
    def seeds(self) -> int:
        """The number of training seeds, S."""
        return len(next(iter(self.whole.values())))

    def value(self, metric: str) -> float:
        """The mean of the metric over the seeds, on the whole sample."""
        return float(np.mean(self._of(self.whole, metric)))

    def seed_means(self, metric: str, stream: int = 0) -> FloatArray:
        """Per resample, the mean over the seeds drawn in it: (resamples)."""
        values = self._of(self.resampled, metric)
        drawn = self.draws.seeds(len(values), stream)
        return np.asarray(values[drawn, np.arange(self.draws.resamples)[:, None]].mean(axis=1))

    def _of(self, values: Mapping[str, FloatArray], metric: str) -> FloatArray:
        if metric not in values:
            raise ValueError(f"metric {metric!r} was not resampled; there are {', '.join(values)}")
        return values[metric]


def resample_metrics(sample: Sample, draws: UserDraws, metrics: Sequence[str] | None = None) -> dict[str, FloatArray]:
    """Each metric in each resample: name → (resamples). All of `METRICS` unless named.

    A resample's metric equals `musenet.metrics` on the rows of the users drawn, repeated as often as they were drawn;
    only the calibration error keeps the bins of the whole sample.
    """
    return _resample(_estimators(sample, draws, metrics), draws.blocks())


def resample_model(
    samples: Sample | Sequence[Sample], draws: UserDraws, metrics: Sequence[str] | None = None
) -> Resampled:
    """One model, trained once or with several seeds (a sample each, of the same users), on shared draws."""
    of_seeds = _per_seed(samples)
    sizes = {_size(sample) for sample in of_seeds}
    if len(sizes) > 1:
        raise ValueError(f"the seeds' samples are of different rows, (impressions, positives): {sorted(sizes)}")
    everyone_once = [np.ones((1, draws.users))]
    whole: list[dict[str, FloatArray]] = []
    resampled: list[dict[str, FloatArray]] = []
    for sample in of_seeds:
        estimators = _estimators(sample, draws, metrics)
        whole.append(_resample(estimators, everyone_once))
        resampled.append(_resample(estimators, draws.blocks()))
    return Resampled(
        whole={name: np.concatenate([values[name] for values in whole]) for name in whole[0]},
        resampled={name: np.stack([values[name] for values in resampled]) for name in whole[0]},
        draws=draws,
        size=sizes.pop(),
    )


def user_bootstrap(
    samples: Sample | Sequence[Sample], resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> dict[str, Interval]:
    """Every metric of one model with its interval over users (and over seeds, given a sample per seed).

    >>> sample = Sample(label=[0, 1, 0, 1], logit=[-1, 1, -2, 2], user=[1, 1, 2, 2], request=[1, 1, 2, 2])
    >>> user_bootstrap(sample)["auc"]
    Interval(value=1.0, low=1.0, high=1.0)
    """
    of_seeds = _per_seed(samples)
    model = resample_model(of_seeds, UserDraws(of_seeds[0].user, resamples, seed))
    return {metric: seed_and_user_interval(model, metric, level) for metric in model.whole}


def seed_and_user_interval(model: Resampled, metric: str = "auc", level: float = LEVEL) -> Interval:
    """The mean metric over the training seeds, with its interval over users and seeds drawn together.

    With few seeds S, the share of the seeds in the variance is understated by (S − 1) / S, as in any bootstrap. The
    bounds are percentiles of the resamples; those of the calibration error are reflected about the value (the "basic"
    interval), since noise adds to absolute values: resamples lie above the value by about as much as it lies above
    the truth.
    """
    value, resampled = model.value(metric), model.seed_means(metric)
    if metric == "calibration_error":
        resampled = np.maximum(0.0, 2 * value - resampled)
    return percentile_interval(value, resampled, model.draws, level)


def difference(first: Resampled, second: Resampled, metric: str = "auc", level: float = LEVEL) -> Difference:
    """The mean metric over seeds of the first model minus that of the second, paired in users and in seeds.

    In each resample both have the same users; seed i of one goes with seed i of the other if both have equally many,
    and seeds are drawn apart if not. p = min(1, 2 (1 + min(#{d ≤ 0}, #{d ≥ 0})) / (1 + resamples)), so never 0.
    """
    ours, theirs = _paired(first, second, metric)
    differences = ours - theirs
    interval = percentile_interval(first.value(metric) - second.value(metric), differences, first.draws, level)
    p = _p_value(differences) if first.draws.users > 1 else float("nan")
    return Difference(interval.value, interval.low, interval.high, p, float(np.nanstd(differences)))


def paired_difference(
    label: ArrayLike,
    user: ArrayLike,
    request: ArrayLike,
    logits_a: Sequence[ArrayLike],
    logits_b: Sequence[ArrayLike],
    metric: str = "auc",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """`difference` of two models on the same rows, each given as a list of logits (N), one per training seed.

    >>> paired_difference([0, 1, 0, 1], [1, 1, 2, 2], [1, 1, 2, 2], [[0, 1, 0, 1]], [[1, 0, 1, 0]]).value
    1.0
    """
    draws = UserDraws(user, resamples, seed)
    model_a, model_b = (
        resample_model([_sample(label, logit, user, request) for logit in logits], draws, [metric])
        for logits in (logits_a, logits_b)
    )
    return difference(model_a, model_b, metric)


def rela_impr_interval(model: Resampled, base: Resampled, metric: str = "auc", level: float = LEVEL) -> Interval:
    """RelaImpr of the models' mean AUC (or GAUC) over seeds, paired as in `difference`.

    The bounds are nan if the base is no better than chance in some resample: the ratio then has no bounds.
    """
    ours, theirs = _paired(model, base, metric)
    ratios = np.array([rela_impr(float(a), float(b)) for a, b in zip(ours, theirs, strict=True)])
    if np.any(theirs <= 0.5):
        ratios = np.full(len(ratios), np.nan)
    return percentile_interval(rela_impr(model.value(metric), base.value(metric)), ratios, model.draws, level)


def _per_seed(samples: Sample | Sequence[Sample]) -> list[Sample]:
    of_seeds = [samples] if isinstance(samples, Sample) else list(samples)
    if not of_seeds:
        raise ValueError("a model needs at least one sample, one per training seed; there is none")
    return of_seeds


def _size(sample: Sample) -> tuple[int, int]:
    return len(sample.label), int(sample.label.sum())


def _resample(estimators: Mapping[str, Estimator], blocks: Iterable[FloatArray]) -> dict[str, FloatArray]:
    values = [{name: estimate(counts) for name, estimate in estimators.items()} for counts in blocks]
    return {name: np.concatenate([block[name] for block in values]) for name in estimators}


def _sample(label: ArrayLike, logit: ArrayLike, user: ArrayLike, request: ArrayLike) -> Sample:
    return Sample(np.asarray(label), np.asarray(logit), np.asarray(user), np.asarray(request))


def _paired(first: Resampled, second: Resampled, metric: str) -> tuple[FloatArray, FloatArray]:
    if first.draws is not second.draws:
        raise ValueError("the two models were resampled on different UserDraws; make one and share it")
    if first.size != second.size:
        raise ValueError(f"the two models' rows differ, (impressions, positives): {first.size} and {second.size}")
    # The same stream and the same number of seeds give the same draw: seed i of one beside seed i of the other.
    seeds_alike = first.seeds == second.seeds
    return first.seed_means(metric), second.seed_means(metric, stream=0 if seeds_alike else 1)


def percentile_interval(value: float, resampled: FloatArray, draws: UserDraws, level: float = LEVEL) -> Interval:
    """A figure with the bounds that its values in the resamples give; nan for those if there is a single user."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it is a probability, like 0.95")
    defined = resampled[~np.isnan(resampled)]
    if draws.users < 2 or len(defined) == 0:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    # With few resamples or much bias (a calibration error near 0) the bounds may miss the estimate itself, which would
    # only puzzle.
    return Interval(value, min(float(low), value), max(float(high), value))


def _p_value(differences: FloatArray) -> float:
    defined = differences[~np.isnan(differences)]
    if len(defined) == 0:
        return float("nan")
    against = min(int(np.sum(defined <= 0)), int(np.sum(defined >= 0)))
    return min(1.0, 2 * (against + 1) / (len(defined) + 1))


def _estimators(sample: Sample, draws: UserDraws, metrics: Sequence[str] | None) -> dict[str, Estimator]:
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
