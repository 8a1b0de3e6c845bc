"""What a scenario has more or less of than the whole log: numbers, and values of categories.

Shapes: n rows (requests, or clicked candidates), K scenarios, V codes of a vocabulary.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass as pydantic_dataclass

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import FIRST_VALUE, MISSING, PADDING, UNSEEN, Field
from musenet.evaluation.predictions import Floats, Predictions

SMALLEST_LIFT = 1.1
SMALLEST_COUNT = 20.0

EARLIER_EVENTS = "log of earlier events"
"""The one contrast of a portrait that is no field of the dataset."""

RARE_VALUE, MISSING_VALUE = "(rare or unseen)", "(missing)"
_SPECIAL = {UNSEEN: RARE_VALUE, MISSING: MISSING_VALUE}


@pydantic_dataclass(frozen=True)
class NumericContrast:
    """A number that is higher or lower in a scenario: of its requests, or of what was clicked in them."""

    field: str
    of: str
    """`requests` or `clicked`."""
    difference: float
    """(mean in the scenario − mean overall) / standard deviation overall."""


@pydantic_dataclass(frozen=True)
class ValueContrast:
    """A value that is more frequent in a scenario than overall."""

    field: str
    of: str
    value: str
    share: float
    """Of the scenario's rows."""
    overall: float
    lift: float
    """share / overall."""
    count: float
    """Rows of the scenario with this value, as expected under the assignment."""


Contrast = NumericContrast | ValueContrast


def size_of(contrast: Contrast) -> float:
    """Standard deviations that a contrast lies from the whole; a value's are those of having it or not."""
    if isinstance(contrast, NumericContrast):
        return contrast.difference
    spread = (contrast.overall * (1 - contrast.overall)) ** 0.5
    return (contrast.share - contrast.overall) / spread if spread > 0 else 0.0


def largest_first(contrasts: Iterable[Contrast]) -> list[Contrast]:
    """The same contrasts, the largest differences first."""
    return sorted(contrasts, key=lambda contrast: -abs(size_of(contrast)))


def contrasts_of(dataset: Dataset, predictions: Predictions) -> list[list[Contrast]]:
    """(K) all that sets each scenario apart by which predictions of a dataset assign requests, in no order."""
    assert predictions.assignment is not None
    contrasts: list[list[Contrast]] = [[] for _ in range(predictions.assignment.shape[1])]
    for column in _columns(dataset, predictions):
        if column.field.kind == "dense":
            for k, difference in enumerate(_standardised_differences(column.values, column.weight)):
                contrasts[k].append(NumericContrast(label_of(column.field), column.of, float(difference)))
        else:
            for k, found in enumerate(_lifts(dataset, column)):
                contrasts[k].extend(found)
    return contrasts


@dataclass(frozen=True)
class _Column:
    """A field's values in n rows, (n) or (n, width), and the rows' weights (n, K)."""

    field: Field
    of: str
    values: NDArray[Any]
    weight: Floats


def _columns(dataset: Dataset, predictions: Predictions) -> Iterator[_Column]:
    """Every field that can set a scenario apart: of requests, and of what was clicked in them."""
    assignment = predictions.assignment
    assert assignment is not None
    requests = predictions.requests
    clicked = np.flatnonzero(predictions.label == 1)
    clicked_weight = assignment[predictions.place[clicked]]
    candidates = dataset.requests.candidate_offset[requests[0]] + clicked
    for field in dataset.fields("user", "context", "item", "candidate"):
        # Ids name single users and items, a bucketed number is there as a number too, a vector's numbers mean nothing.
        if field.is_id or field.is_bucketed or field.is_position or field.kind == "vector":
            continue
        values = dataset.values(field, dataset.rows_of(field.side, requests, candidates))
        if field.side in ("user", "context"):
            yield _Column(field, "requests", values, assignment)
        else:
            yield _Column(field, "clicked", values, clicked_weight)
    events = dataset.history_length(requests)
    earlier = Field(name=EARLIER_EVENTS, side="history", kind="dense")
    yield _Column(earlier, "requests", np.log1p(events.astype(np.float64)), assignment)


def _standardised_differences(values: NDArray[Any], weight: Floats) -> Floats:
    """(K) how many standard deviations each scenario's mean lies above the mean of all rows."""
    numbers = values.astype(np.float64)
    total = weight.sum(axis=0)
    if len(numbers) == 0 or numbers.std() < 1e-12:
        return np.zeros(weight.shape[1])
    means = np.divide(numbers @ weight, total, out=np.full(len(total), numbers.mean()), where=total > 0)
    return np.asarray((means - numbers.mean()) / numbers.std())


def _lifts(dataset: Dataset, column: _Column) -> list[list[ValueContrast]]:
    """Per scenario, the values that are more frequent in it than overall."""
    codes = column.values if column.values.ndim == 2 else column.values[:, None]
    flat = codes.ravel().astype(np.int64)
    weight = np.repeat(column.weight, codes.shape[1], axis=0)
    weight, flat = weight[flat != PADDING], flat[flat != PADDING]
    scenarios = weight.shape[1]
    if len(flat) == 0:
        return [[] for _ in range(scenarios)]
    counts = np.stack([np.bincount(flat, weight[:, k]) for k in range(scenarios)])  # (K, V)
    totals = counts.sum(axis=1)
    overall = counts.sum(axis=0) / totals.sum()
    names = value_names(dataset, column.field)
    found: list[list[ValueContrast]] = []
    for k in range(scenarios):
        share = counts[k] / max(totals[k], 1e-12)
        lift = np.divide(share, overall, out=np.zeros_like(share), where=overall > 0)
        chosen = np.flatnonzero((counts[k] >= SMALLEST_COUNT) & (lift >= SMALLEST_LIFT))
        found.append(
            [
                ValueContrast(
                    label_of(column.field),
                    column.of,
                    names[int(code)],
                    float(share[code]),
                    float(overall[code]),
                    float(lift[code]),
                    float(counts[k, code]),
                )
                for code in chosen
            ]
        )
    return found


def value_names(dataset: Dataset, field: Field) -> dict[int, str]:
    """The text of each code of a categorical field, from the dataset's vocabulary."""
    values = dataset.texts(field.vocabulary_name).to_pylist()
    return _SPECIAL | {FIRST_VALUE + place: str(value) for place, value in enumerate(values)}


def label_of(field: Field) -> str:
    """What a contrast calls a field: the log's own name of the column, but that a number is missing by its own name."""
    if field.column is None or field.name.endswith(".missing"):
        return field.name
    return field.column
