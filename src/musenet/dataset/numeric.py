"""How a numeric feature became a dense one, and how vectors were standardised."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from musenet.dataset.manifest import FIRST_VALUE, MISSING

FloatArray = NDArray[np.float64]


class NumericTransform(BaseModel):
    """How a numeric feature becomes a dense one, fitted on the training period alone.

    dense(x) = (g(x) − mean) / deviation, 0 where missing; g is the identity, sign(x) log(1 + |x|), or the share of
    training values below x, interpolated between `knots` at `levels`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    numeric: Literal["log", "standardise", "quantiles"]
    mean: float
    deviation: float
    has_missing: bool
    """Whether training had missing values, which makes a further 0/1 field."""
    knots: list[float] = []
    levels: list[float] = []
    edges: list[float] = []
    """Inner borders of the buckets; a value on a border belongs to the upper one."""

    def missing(self, values: FloatArray) -> NDArray[np.bool_]:
        """(rows) what is not a finite number."""
        return ~np.isfinite(values)

    def dense(self, values: FloatArray) -> NDArray[np.float32]:
        """(rows) float32, of about mean 0 and deviation 1 in training."""
        there = np.isfinite(values)
        scaled = (
            in_shape(self.numeric, np.where(there, values, 0.0), self.knots, self.levels) - self.mean
        ) / self.deviation
        with np.errstate(over="ignore"):  # beyond float32 it is infinite
            return np.where(there, scaled, 0.0).astype(np.float32)

    def undone(self, dense: FloatArray) -> FloatArray:
        """(rows) the values that `dense` was made of; of quantiles one that has the same rank."""
        shaped = np.asarray(dense, dtype=np.float64) * self.deviation + self.mean
        if self.numeric == "log":
            return np.asarray(np.sign(shaped) * np.expm1(np.abs(shaped)))
        if self.numeric == "quantiles":
            return np.asarray(np.interp(shaped, self.levels, self.knots) if self.knots else shaped)
        return shaped

    def bucket(self, values: FloatArray) -> NDArray[np.int32]:
        """(rows) codes of the quantile buckets."""
        codes = np.searchsorted(np.asarray(self.edges), values, side="right") + FIRST_VALUE
        return np.where(np.isfinite(values), codes, MISSING).astype(np.int32)


class VectorScale(BaseModel):
    """z = (x − mean) / deviation, each of a vector's numbers by its own; fitted on the training period alone.

    A vector that is missing, NaN here, becomes zeros: the mean of those that are there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: list[float]
    deviation: list[float]
    has_missing: bool
    """Whether training had missing vectors, which makes a further 0/1 field."""

    def missing(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(rows) which of the vectors (rows, width) are not there."""
        return np.asarray(~np.isfinite(values).all(axis=1))

    def standardised(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows, width) float32, of about mean 0 and deviation 1 in training."""
        scaled = (values - np.asarray(self.mean)) / np.asarray(self.deviation)
        with np.errstate(over="ignore"):  # beyond float32 it is infinite
            return np.where(self.missing(values)[:, None], 0.0, scaled).astype(np.float32)


def in_shape(numeric: str, values: FloatArray, knots: list[float], levels: list[float]) -> FloatArray:
    """(rows) g(x) of `NumericTransform`; quantiles without knots are 0."""
    if numeric == "log":
        return np.asarray(np.sign(values) * np.log1p(np.abs(values)), dtype=np.float64)
    if numeric == "quantiles":
        return np.asarray(np.interp(values, knots, levels) if knots else np.zeros(len(values)), dtype=np.float64)
    return values
