"""What a scenario is: its size, how people repeat in it, and what sets it apart from the others.

Shapes: n rows (requests, or clicked candidates), K scenarios, V codes of a vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass as pydantic_dataclass
from rich.console import Console

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import FIRST_VALUE, MISSING, PADDING, UNSEEN, Field, Split
from musenet.evaluation.evaluation import percentage
from musenet.evaluation.intervals import Interval
from musenet.evaluation.predictions import Floats, Predictions
from musenet.evaluation.scenario_figures import ScenarioFigures
from musenet.portraits.scenario_table import with_scenarios
from musenet.results import Number, Result
from musenet.runs.run import Run

SHOWN = 6
SMALLEST_DIFFERENCE = 0.1
SMALLEST_LIFT = 1.1
SMALLEST_COUNT = 20.0

_SPECIAL = {UNSEEN: "(rare or unseen)", MISSING: "(missing)"}


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


class Portrait(Result):
    """One scenario, described on one split."""

    scenario: int
    requests: Number
    """Expected number under the assignment."""
    share: Number
    repeat_probability: Number | None
    repeat_share_of_positives: Interval
    click_rate_on_repeats: Interval
    click_rate_on_new: Interval
    repeat_intention: Interval
    """Click rate on repeats / (click rate on repeats + click rate on new items)."""
    numbers: list[NumericContrast]
    """Largest differences first."""
    values: list[ValueContrast]
    """In order of what they contribute to telling the scenario apart, share · log lift."""


def describe_scenarios(run: Run, split: Split = "test", shown: int = SHOWN) -> list[Portrait]:
    """A portrait of each scenario of the run, on one split.

    Raises:
        RunError: if the run's model has no scenarios.
    """
    predictions, figures = with_scenarios(run.predictions(split), run), run.scenarios(split)
    return [] if figures is None else portraits_of(run.dataset, predictions, figures, shown)


def portraits_of(
    dataset: Dataset, predictions: Predictions, figures: ScenarioFigures, shown: int = SHOWN
) -> list[Portrait]:
    """A portrait of each scenario by which predictions of a dataset assign requests."""
    assignment = predictions.assignment
    assert assignment is not None
    numbers: list[list[NumericContrast]] = [[] for _ in range(figures.count)]
    values: list[list[ValueContrast]] = [[] for _ in range(figures.count)]
    for column in _columns(dataset, predictions):
        if column.field.kind == "dense":
            for k, difference in enumerate(_standardised_differences(column.values, column.weight)):
                numbers[k].append(NumericContrast(_label(column.field), column.of, float(difference)))
        else:
            for k, found in enumerate(_lifts(dataset, column)):
                values[k].extend(found)
    return [
        Portrait(
            scenario=k,
            requests=float(assignment[:, k].sum()),
            share=figures.share[k],
            repeat_probability=None if figures.repeat_probability is None else figures.repeat_probability[k],
            repeat_share_of_positives=figures.repeat_share_of_positives[k],
            click_rate_on_repeats=figures.click_rate_on_repeats[k],
            click_rate_on_new=figures.click_rate_on_new[k],
            repeat_intention=figures.repeat_intention[k],
            numbers=_largest(numbers[k], shown),
            values=sorted(values[k], key=lambda value: -value.share * np.log(value.lift))[:shown],
        )
        for k in range(figures.count)
    ]


def show_portraits(portraits: list[Portrait], console: Console) -> None:
    """Print a paragraph per scenario."""
    for portrait in portraits:
        p_r = "" if portrait.repeat_probability is None else f" (p_r {portrait.repeat_probability:.2f})"
        console.print(
            f"[bold]scenario {portrait.scenario}[/bold]: {portrait.share:.1%} of requests, "
            f"repeat intention {percentage(portrait.repeat_intention)}{p_r}, "
            f"repeats are {percentage(portrait.repeat_share_of_positives)} of its clicks"
        )
        console.print(
            f"  clicked: {percentage(portrait.click_rate_on_repeats)} of repeats, "
            f"{percentage(portrait.click_rate_on_new)} of new items"
        )
        numbers = [f"{_name(n.field, n.of)} {n.difference:+.2f} sd" for n in portrait.numbers]
        values = [f"{_name(v.field, v.of)} = {v.value} ({v.lift:.1f}×, {v.share:.0%})" for v in portrait.values]
        for words in (numbers, values):
            if words:
                console.print("  " + ", ".join(words), markup=False)


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
    earlier = Field(name="log of earlier events", side="history", kind="dense")
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
                    _label(column.field),
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


def _largest(numbers: list[NumericContrast], shown: int) -> list[NumericContrast]:
    clear = [number for number in numbers if abs(number.difference) >= SMALLEST_DIFFERENCE]
    return sorted(clear, key=lambda number: -abs(number.difference))[:shown]


def _label(field: Field) -> str:
    """The log's own name of the column; a number's missing values have a field of their own."""
    if field.column is None or field.name.endswith(".missing"):
        return field.name
    return field.column


def _name(field: str, of: str) -> str:
    return field if of == "requests" else f"clicked {field}"
