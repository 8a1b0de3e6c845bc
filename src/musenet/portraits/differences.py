"""How far each scenario lies from the whole log, feature by feature, with intervals over users.

Shapes: n rows (requests, or clicked candidates), U users, K scenarios.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Field
from musenet.evaluation.draws import UserDraws
from musenet.evaluation.intervals import Interval
from musenet.evaluation.predictions import Floats, Predictions
from musenet.evaluation.ratios import intervals_of, resampled_ratios, sums_by_user
from musenet.portraits.contrasts import EARLIER_EVENTS, Contrast, label_of, largest_first, size_of, value_names
from musenet.portraits.portraits import Portrait

ROWS = 14
PER_SCENARIO = 4
MIRRORED_WITHIN = 0.02


@dataclass(frozen=True)
class Trait:
    """A number, or a value of a category, by which scenarios may differ."""

    field: str
    of: str
    """`requests` or `clicked`."""
    value: str | None = None
    """Of a category; None for a number."""


@dataclass(frozen=True)
class TraitDifference:
    """(mean in the scenario − mean of all) / standard deviation of all, for each of K scenarios."""

    trait: Trait
    scenarios: list[Interval]


def contrasts(portrait: Portrait) -> list[Contrast]:
    """Everything that sets a scenario apart, the largest differences first."""
    return largest_first([*portrait.numbers, *portrait.values])


def telling_traits(portraits: Sequence[Portrait], per_scenario: int = PER_SCENARIO, rows: int = ROWS) -> list[Trait]:
    """What sets the scenarios apart most: some traits of each, all together at most `rows`, largest first."""
    sizes: dict[Trait, float] = {}
    for portrait in portraits:
        for contrast in contrasts(portrait)[:per_scenario]:
            trait = Trait(contrast.field, contrast.of, getattr(contrast, "value", None))
            sizes[trait] = max(sizes.get(trait, 0.0), abs(size_of(contrast)))
    return sorted(sizes, key=lambda trait: -sizes[trait])[:rows]


def trait_differences(
    dataset: Dataset, predictions: Predictions, traits: Sequence[Trait], draws: UserDraws
) -> list[TraitDifference]:
    """The difference of each scenario in each trait, on the predictions' split.

    Traits of unknown fields are left out, and so is the second value of a field that has only two: it says the same
    with the opposite sign.

    Args:
        dataset: that the predictions are of.
        predictions: with an assignment.
        traits: see `telling_traits`.
        draws: resamples of the predictions' users.
    """
    rows = {"requests": _requests(dataset, predictions), "clicked": _clicked(predictions)}
    place = {name: np.searchsorted(draws.ids, part.user) for name, part in rows.items()}
    found: list[TraitDifference] = []
    for trait in traits:
        part = rows[trait.of]
        values = _values(dataset, predictions, trait)
        if values is not None and len(values) and values.std() > 0:
            intervals = standardised(values, part.weight, place[trait.of], draws)
            difference = TraitDifference(trait, intervals)
            if not any(_mirrors(difference, before) for before in found):
                found.append(difference)
    return found


def standardised(values: Floats, weight: Floats, user: NDArray[np.intp], draws: UserDraws) -> list[Interval]:
    """(K) standardised differences of weighted means from the plain mean, with bounds from the bootstrap over users.

    Args:
        values: (n).
        weight: (n, K).
        user: (n) place of each row's user among the draws.
        draws: the resamples.
    """
    every = np.ones((len(values), 1))
    top = sums_by_user(np.concatenate([weight * values[:, None], values[:, None]], axis=1), user, draws.users)
    bottom = sums_by_user(np.concatenate([weight, every], axis=1), user, draws.users)
    means = resampled_ratios(top, bottom, draws)  # (1 + resamples, K + 1): the scenarios, then all rows
    return intervals_of((means[:, :-1] - means[:, -1:]) / values.std(), draws)


def _mirrors(second: TraitDifference, first: TraitDifference) -> bool:
    """Whether two values of one field differ everywhere by opposite amounts."""
    if (second.trait.field, second.trait.of) != (first.trait.field, first.trait.of) or second.trait.value is None:
        return False
    sums = [a.value + b.value for a, b in zip(first.scenarios, second.scenarios, strict=True)]
    return all(abs(total) < MIRRORED_WITHIN for total in sums)


@dataclass(frozen=True)
class _Rows:
    weight: Floats
    """(n, K)."""
    user: NDArray[np.int64]
    """(n)."""


def _requests(dataset: Dataset, predictions: Predictions) -> _Rows:
    assert predictions.assignment is not None
    return _Rows(predictions.assignment, dataset.requests.user[predictions.requests])


def _clicked(predictions: Predictions) -> _Rows:
    assert predictions.assignment is not None
    clicked = predictions.label == 1
    return _Rows(predictions.assignment[predictions.place[clicked]], predictions.user[clicked])


def _values(dataset: Dataset, predictions: Predictions, trait: Trait) -> Floats | None:
    """(n) the number, or 1 where the row has the value; None if the dataset has no such field."""
    if trait.field == EARLIER_EVENTS:
        return np.asarray(np.log1p(dataset.history_length(predictions.requests).astype(np.float64)))
    field = _field(dataset, trait)
    if field is None:
        return None
    column = _column(dataset, predictions, field)
    if trait.value is None:
        return np.asarray(column, dtype=np.float64)
    codes = [code for code, name in value_names(dataset, field).items() if name == trait.value]
    has = np.isin(column, codes)
    return np.asarray(has.any(axis=1) if has.ndim == 2 else has, dtype=np.float64)


def _field(dataset: Dataset, trait: Trait) -> Field | None:
    kinds = ("dense",) if trait.value is None else ("categorical", "multi_valued")
    fields = dataset.fields("user", "context") if trait.of == "requests" else dataset.fields("item", "candidate")
    return next((field for field in fields if label_of(field) == trait.field and field.kind in kinds), None)


def _column(dataset: Dataset, predictions: Predictions, field: Field) -> NDArray[Any]:
    """The field's values in the rows that its side describes."""
    clicked = dataset.requests.candidate_offset[predictions.requests[0]] + np.flatnonzero(predictions.label == 1)
    return dataset.values(field, dataset.rows_of(field.side, predictions.requests, clicked))
