"""Which columns are features, of which side and type; and what they become in a dataset."""

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from musenet.dataset.dataset import FIRST_VALUE, MISSING
from musenet.options import Options

FloatArray = NDArray[np.float64]

Side = Literal["user", "item", "context", "candidate"]


class CategoricalOptions(Options):
    """A column whose equal values mean the same."""

    min_count: int = Field(2, ge=1, description="values rarer than this in training share the row of unseen values")
    vocabulary: str | None = Field(None, description="share the vocabulary and embedding of this other column")


class NumericOptions(Options):
    """A column whose size matters."""

    numeric: Literal["log", "standardise", "quantiles"]
    buckets: int = Field(16, ge=2, le=1000, description="number of quantile buckets")


class MultiValuedOptions(Options):
    """A column that holds several values: a list, or text with a separator."""

    multi_valued: str = Field(",", description="the separator, if the column is text")
    length: int = Field(8, ge=1, le=100, description="values kept per row")
    min_count: int = Field(2, ge=1)
    vocabulary: str | None = None


FeatureKind = Literal["categorical", "multi_valued", "position"]
# Of two that fit equally well, the first is taken: a bare vocabulary or min_count is a categorical column.
FeatureOptions = FeatureKind | NumericOptions | CategoricalOptions | MultiValuedOptions
FeatureEntry = str | Annotated[dict[str, FeatureOptions], Field(min_length=1, max_length=1)]


class Feature(Options):
    """One feature with everything that the short forms leave out."""

    name: str
    side: Side
    type: Literal["categorical", "numeric", "multi_valued", "position"]
    options: NumericOptions | MultiValuedOptions | CategoricalOptions

    @property
    def vocabulary(self) -> str:
        """Name of the vocabulary that encodes it; columns of one name share it."""
        return getattr(self.options, "vocabulary", None) or self.name


def _resolve(entry: FeatureEntry, side: Side) -> Feature:
    name, kind = (entry, "categorical") if isinstance(entry, str) else next(iter(entry.items()))
    if isinstance(kind, NumericOptions):
        return Feature(name=name, side=side, type="numeric", options=kind)
    if kind == "multi_valued" or isinstance(kind, MultiValuedOptions):
        options = kind if isinstance(kind, MultiValuedOptions) else MultiValuedOptions.model_validate({})
        return Feature(name=name, side=side, type="multi_valued", options=options)
    if isinstance(kind, CategoricalOptions):
        return Feature(name=name, side=side, type="categorical", options=kind)
    default = CategoricalOptions.model_validate({})
    return Feature(name=name, side=side, type="position" if kind == "position" else "categorical", options=default)


class Features(Options):
    """The features of each side; a plain name is a categorical one.

    `user` and `item` features are attributes of the users and items relations (or columns of the impressions that do
    not change for one user or item), `context` is the same for a whole request, `candidate` differs inside one. The
    ids themselves are always encoded; whether a model sees them is the model's option `ids`.
    """

    user: list[FeatureEntry] = []
    item: list[FeatureEntry] = []
    context: list[FeatureEntry] = []
    candidate: list[FeatureEntry] = []

    def resolved(self) -> Iterator[Feature]:
        """Every feature in full, in the order written: user, item, context, candidate."""
        sides: tuple[Side, ...] = ("user", "item", "context", "candidate")
        for side in sides:
            for entry in getattr(self, side):
                yield _resolve(entry, side)

    @model_validator(mode="after")
    def _distinct(self) -> "Features":
        seen: dict[str, str] = {}
        for feature in self.resolved():
            if feature.name in seen:
                raise ValueError(
                    f"'{feature.name}' is listed twice ({seen[feature.name]} and {feature.side}): keep one"
                )
            if feature.type == "position" and feature.side != "candidate":
                raise ValueError(f"'{feature.name}' is a position, so it belongs under candidate, not {feature.side}")
            seen[feature.name] = feature.side
        return self


RANK_KNOTS = 256


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
            _shape(self.numeric, np.where(there, values, 0.0), self.knots, self.levels) - self.mean
        ) / self.deviation
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
        shaped = _shape(options.numeric, known, knots, levels)
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


def _shape(numeric: str, values: FloatArray, knots: list[float], levels: list[float]) -> FloatArray:
    if numeric == "log":
        return np.asarray(np.sign(values) * np.log1p(np.abs(values)), dtype=np.float64)
    if numeric == "quantiles":
        return np.asarray(np.interp(values, knots, levels) if knots else np.zeros(len(values)), dtype=np.float64)
    return values


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
