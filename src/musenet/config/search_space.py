"""What tuning may change, and which points of it are tried.

A point is a value for each dotted key, for example `{"training.learning_rate": 0.002, "model.ids": []}`. Points follow
a scrambled Halton sequence: even a handful of them tries every value of every key about equally often, and a larger
number of trials begins with those of a smaller one.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field, ValidationError, WithJsonSchema, model_validator

from musenet.options import Options, can_vary, reason, with_value

Scalar = bool | int | float | str | None
Value = Annotated[Scalar | list[Scalar], WithJsonSchema({"description": "what the key takes"})]
Point = dict[str, Any]

ALMOST_ALL = 0.99
"""A share that counts as all: a ninth may be written as 0.111."""
ATTEMPTS = 50
"""Draws in a row that may all be old points before a space counts as exhausted."""


class Range(Options):
    """Numbers between two bounds; whole ones if both bounds are."""

    low: int | float
    high: int | float
    log: bool = Field(False, description="sample uniformly in the logarithm")

    @model_validator(mode="after")
    def _has_room(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above 0 (found {self.low})")
        return self


Choices = Annotated[list[Value], Field(min_length=1)]
Space = dict[str, Choices | Range]


class TuningOptions(Options):
    """Tuning by successive halving, with the same budget for every row of a comparison, judged on validation alone."""

    trials: int = Field(
        27, ge=1, description="trials per row; the first has the configured values, the others are sampled"
    )
    requests: float = Field(0.111, gt=0, le=1, description="share of the training requests in the first rung")
    keep_one_in: int | None = Field(
        3,
        ge=2,
        description="one in this many trials is promoted, to this many times the requests, up to all; no promotion if "
        "null",
    )
    seeds: int = Field(3, ge=1, description="seeds of each trial of the last rung")
    shared: Space = Field(
        {}, description="keys of `model` or `training` that are tuned at the same points for every model"
    )
    own: dict[str, Space] = Field(
        {}, description="further keys of single rows, by label, with the same number of trials"
    )
    like: dict[str, str] = Field(
        {},
        description="rows that take the tuned values of another row, except where the two are configured differently",
    )


@dataclass(frozen=True)
class Rung:
    """One round of successive halving."""

    trials: int
    """Of each row, at most."""
    requests: float
    """The share of the training requests that a trial sees."""
    seeds: int


def rungs(options: TuningOptions) -> list[Rung]:
    """The rounds: of t trials on a share r, the best ⌈t / n⌉ go on to the share n r, until that is all or one is left.

    Source: Jamieson and Talwalkar (2016), Non-stochastic Best Arm Identification and Hyperparameter Optimization.

    >>> [(rung.trials, round(rung.requests, 2), rung.seeds) for rung in rungs(TuningOptions())]
    [(27, 0.11, 1), (9, 0.33, 1), (3, 1.0, 3)]
    """
    trials, share = options.trials, options.requests
    found = [Rung(trials, share, 1)]
    while options.keep_one_in is not None and share < 1 and trials > 1:
        trials = math.ceil(trials / options.keep_one_in)
        share = share * options.keep_one_in
        share = share if share < ALMOST_ALL else 1.0
        found.append(Rung(trials, share, 1))
    if len(found) > 1 and found[-1].trials == 1:  # nothing to choose from
        found.pop()
    return [*found[:-1], replace(found[-1], seeds=options.seeds)]


def check_space(space: Mapping[str, Choices | Range], models: Sequence[Options], training: Options, where: str) -> None:
    """Raise `ValueError` unless every key belongs to the training or to one of the models, and all values fit it."""
    for key, of in space.items():
        part, _, name = key.partition(".")
        if part not in ("model", "training") or not name:
            raise ValueError(f"{where}: '{key}' cannot be tuned: give keys of the form model.… or training.…")
        having = [options for options in (models if part == "model" else [training]) if can_vary(options, name)]
        if not having:
            raise ValueError(
                f"{where}: {'no model has' if part == 'model' else 'training does not have'} the key '{key}'"
            )
        for options in having:
            for value in [of.low, of.high] if isinstance(of, Range) else of:
                _check_value(options, name, value, f"{where}.{key}")


def _check_value(options: Options, name: str, value: Any, where: str) -> None:
    try:
        with_value(options, name, value)
    except ValidationError as error:
        raise ValueError(f"{where}: {value!r} does not fit ({reason(error)})") from error


def distinct_points(
    space: Mapping[str, Choices | Range], count: int, seed: int, taken: Iterable[Point] = ()
) -> list[Point]:
    """Up to `count` points that differ from each other and from those taken; fewer if the space holds no more."""
    from scipy.stats import qmc

    seen = {_text(point) for point in taken}
    points: list[Point] = []
    failures = 0
    sequence = qmc.Halton(len(space), rng=seed) if space else None
    while sequence is not None and len(points) < count and failures < ATTEMPTS:
        place = sequence.random()[0]
        point = {key: value_at_place(of, float(u)) for (key, of), u in zip(space.items(), place, strict=True)}
        failures = failures + 1 if _text(point) in seen else 0
        if not failures:
            seen.add(_text(point))
            points.append(point)
    return points


def value_at_place(space: Choices | Range, place: float) -> Any:
    """The value at a place in [0, 1), if the values are laid out evenly; evenly in the logarithm if asked.

    >>> value_at_place([[], ["item"]], 0.7), value_at_place(Range(low=1, high=4), 0.7)
    (['item'], 3)
    """
    if not isinstance(space, Range):
        return space[int(place * len(space))]
    whole = isinstance(space.low, int) and isinstance(space.high, int)
    low, high = float(space.low), float(space.high) + whole
    value = low * math.exp(place * math.log(high / low)) if space.log else low + place * (high - low)
    return int(value) if whole else value


def _text(point: Point) -> str:
    return json.dumps(point, sort_keys=True)
