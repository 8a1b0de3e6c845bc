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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic.dataclasses import dataclass as pydantic_dataclass

from musenet.evaluation.draws import Sample, UserDraws
from musenet.evaluation.estimators import Estimator, estimators
from musenet.metrics import FloatArray, rela_impr
from musenet.results import Number

LEVEL = 0.95
"""Of all intervals."""


@pydantic_dataclass(frozen=True)
class Interval:
    """A figure on the whole sample, and the bounds of its 95 % interval."""

    value: Number
    low: Number
    high: Number


@pydantic_dataclass(frozen=True)
class Difference:
    """First minus second model, its bounds, and the two-sided bootstrap p-value of no difference."""

    value: Number
    low: Number
    high: Number
    p: Number
    standard_error: Number = float("nan")
    """Standard deviation of the resampled differences."""


NO_DIFFERENCE = Difference(0.0, 0.0, 0.0, 1.0, 0.0)
"""Of a model to itself."""


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
        of_seed = estimators(sample, draws, metrics)
        whole.append(_resample(of_seed, everyone_once))
        resampled.append(_resample(of_seed, draws.blocks()))
    return Resampled(
        whole={name: np.concatenate([values[name] for values in whole]) for name in whole[0]},
        resampled={name: np.stack([values[name] for values in resampled]) for name in whole[0]},
        draws=draws,
        size=sizes.pop(),
    )


def seed_and_user_interval(model: Resampled, metric: str = "auc") -> Interval:
    """The mean metric over the training seeds, with its interval over users and seeds drawn together.

    With few seeds S, the share of the seeds in the variance is understated by (S − 1) / S, as in any bootstrap. The
    bounds are percentiles of the resamples; those of the calibration error are reflected about the value (the "basic"
    interval), since noise adds to absolute values: resamples lie above the value by about as much as it lies above
    the truth.
    """
    value, resampled = model.value(metric), model.seed_means(metric)
    if metric == "calibration_error":
        resampled = np.maximum(0.0, 2 * value - resampled)
    return percentile_interval(value, resampled, model.draws)


def difference(first: Resampled, second: Resampled, metric: str = "auc") -> Difference:
    """The mean metric over seeds of the first model minus that of the second, paired in users and in seeds.

    In each resample both have the same users; seed i of one goes with seed i of the other if both have equally many,
    and seeds are drawn apart if not. p = min(1, 2 (1 + min(#{d ≤ 0}, #{d ≥ 0})) / (1 + resamples)), so never 0.
    """
    ours, theirs = _paired(first, second, metric)
    differences = ours - theirs
    interval = percentile_interval(first.value(metric) - second.value(metric), differences, first.draws)
    p = _p_value(differences) if first.draws.users > 1 else float("nan")
    defined = differences[~np.isnan(differences)]
    spread = float(np.std(defined)) if len(defined) else float("nan")
    return Difference(interval.value, interval.low, interval.high, p, spread)


def rela_impr_interval(model: Resampled, base: Resampled, metric: str = "auc") -> Interval:
    """RelaImpr of the models' mean AUC (or GAUC) over seeds, paired as in `difference`.

    The bounds are nan if the base is no better than chance in some resample: the ratio then has no bounds.
    """
    ours, theirs = _paired(model, base, metric)
    ratios = np.array([rela_impr(float(a), float(b)) for a, b in zip(ours, theirs, strict=True)])
    if np.any(theirs <= 0.5):
        ratios = np.full(len(ratios), np.nan)
    return percentile_interval(rela_impr(model.value(metric), base.value(metric)), ratios, model.draws)


def _per_seed(samples: Sample | Sequence[Sample]) -> list[Sample]:
    of_seeds = [samples] if isinstance(samples, Sample) else list(samples)
    if not of_seeds:
        raise ValueError("a model needs at least one sample, one per training seed; there is none")
    return of_seeds


def _size(sample: Sample) -> tuple[int, int]:
    return len(sample.label), int(sample.label.sum())


def _resample(chosen: Mapping[str, Estimator], blocks: Iterable[FloatArray]) -> dict[str, FloatArray]:
    values = [{name: estimate(counts) for name, estimate in chosen.items()} for counts in blocks]
    return {name: np.concatenate([block[name] for block in values]) for name in chosen}


def _paired(first: Resampled, second: Resampled, metric: str) -> tuple[FloatArray, FloatArray]:
    if first.draws is not second.draws:
        raise ValueError("the two models were resampled on different UserDraws; make one and share it")
    if first.size != second.size:
        raise ValueError(f"the two models' rows differ, (impressions, positives): {first.size} and {second.size}")
    # The same stream and the same number of seeds give the same draw: seed i of one beside seed i of the other.
    seeds_alike = first.seeds == second.seeds
    return first.seed_means(metric), second.seed_means(metric, stream=0 if seeds_alike else 1)


def percentile_interval(value: float, resampled: FloatArray, draws: UserDraws) -> Interval:
    """A figure with the bounds that its values in the resamples give; nan for those if there is a single user."""
    defined = resampled[~np.isnan(resampled)]
    if draws.users < 2 or len(defined) == 0:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # With few resamples or much bias (a calibration error near 0) the bounds may miss the estimate itself, which would
    # only puzzle.
    return Interval(value, min(float(low), value), max(float(high), value))


def _p_value(differences: FloatArray) -> float:
    defined = differences[~np.isnan(differences)]
    if len(defined) == 0:
        return float("nan")
    against = min(int(np.sum(defined <= 0)), int(np.sum(defined >= 0)))
    return min(1.0, 2 * (against + 1) / (len(defined) + 1))
