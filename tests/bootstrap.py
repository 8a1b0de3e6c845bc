"""The bootstrap in one call, for tests: of one sample, of one model, of two models on the same rows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from musenet.evaluation.draws import Sample, UserDraws
from musenet.evaluation.intervals import Difference, Interval, difference, resample_model, seed_and_user_interval
from musenet.metrics import FloatArray


def resample_metrics(sample: Sample, draws: UserDraws, metrics: Sequence[str] | None = None) -> dict[str, FloatArray]:
    """Each metric in each resample: name → (resamples)."""
    return {name: values[0] for name, values in resample_model(sample, draws, metrics).resampled.items()}


def user_bootstrap(samples: Sample | Sequence[Sample], resamples: int = 400, seed: int = 0) -> dict[str, Interval]:
    """Every metric of one model with its interval over users (and over seeds, given a sample per seed)."""
    first = samples if isinstance(samples, Sample) else samples[0]
    model = resample_model(samples, UserDraws(first.user, resamples, seed))
    return {metric: seed_and_user_interval(model, metric) for metric in model.whole}


def paired_difference(
    label: ArrayLike,
    user: ArrayLike,
    request: ArrayLike,
    logits_a: Sequence[ArrayLike],
    logits_b: Sequence[ArrayLike],
    metric: str = "auc",
    resamples: int = 400,
    seed: int = 0,
) -> Difference:
    """`difference` of two models on the same rows, each given as a list of logits (N), one per training seed."""
    draws = UserDraws(np.asarray(user), resamples, seed)
    a, b = (
        resample_model([Sample(*map(np.asarray, (label, logit, user, request))) for logit in logits], draws, [metric])
        for logits in (logits_a, logits_b)
    )
    return difference(a, b, metric)
