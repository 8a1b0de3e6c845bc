"""Fitting the transform of a numeric feature on the training period."""

import numpy as np

from musenet.dataset.numeric import FloatArray, NumericTransform, in_shape
from musenet.recipe.features import NumericOptions

RANK_KNOTS = 256


def fit_numeric(values: FloatArray, weight: FloatArray, options: NumericOptions) -> NumericTransform:
    """Fit a transform.

    Args:
        values: (rows) NaN or infinite where missing.
        weight: (rows) in how many training impressions a row occurs; rows of weight 0 are not looked at.
        options: which transform.
    """
    counts = weight > 0
    there = counts & np.isfinite(values)
    known, known_weight = values[there], weight[there]
    knots, levels, edges = _quantiles(known, known_weight, options) if options.numeric == "quantiles" else ([], [], [])
    mean, deviation = 0.0, 1.0
    if len(known):
        shaped = in_shape(options.numeric, known, knots, levels)
        mean = float(np.sum(known_weight * shaped) / np.sum(known_weight))
        deviation = float(np.sqrt(np.sum(known_weight * (shaped - mean) ** 2) / np.sum(known_weight)))
    return NumericTransform(
        numeric=options.numeric,
        mean=mean,
        # A constant column stays 0, rounding errors of its mean included.
        deviation=deviation if deviation > 1e-9 * max(1.0, abs(mean)) else 1.0,
        has_missing=bool(np.any(counts & ~there)),
        knots=knots,
        levels=levels,
        edges=edges,
    )


def _quantiles(
    values: FloatArray, weight: FloatArray, options: NumericOptions
) -> tuple[list[float], list[float], list[float]]:
    """Knots and levels of the distribution function, and the inner edges of the buckets."""
    if not len(values):
        return [], [], []
    order = np.argsort(values, kind="stable")
    ordered, below = values[order], np.cumsum(weight[order])
    share = below / below[-1]

    def at(levels: FloatArray) -> FloatArray:
        return np.asarray(ordered[np.searchsorted(share, levels, side="left").clip(max=len(ordered) - 1)])

    grid = np.linspace(0.0, 1.0, RANK_KNOTS + 1)
    knots, first, repeated = np.unique(at(grid), return_index=True, return_counts=True)
    levels = (grid[first] + grid[first + repeated - 1]) / 2  # the middle of what a frequent value spans
    edges = np.unique(at(np.arange(1, options.buckets) / options.buckets))
    return knots.tolist(), levels.tolist(), edges[edges > ordered[0]].tolist()
