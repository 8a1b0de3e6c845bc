"""Where models differ: AUC and paired differences within parts of a split, from saved predictions alone.

Shapes: N candidates, R requests.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from musenet.dataset.dataset import Dataset
from musenet.evaluation.draws import UserDraws
from musenet.evaluation.intervals import Difference, difference, resample_model
from musenet.evaluation.predictions import Predictions
from musenet.results import Number

RESAMPLES = 100
FEWEST = 200
"""Parts with fewer impressions are left out."""
LONGEST_IN_DAYS = 14
"""A split over more local days is parted by week."""
HISTORY_BINS = {"0": (0, 0), "1 to 4": (1, 4), "5 to 19": (5, 19), "20 and more": (20, np.iinfo(np.int64).max)}

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SlicedRow:
    """One model within one part."""

    name: str
    auc: Number
    """Mean over seeds; nan where the part has one class only."""
    difference: Difference | None
    """To the reference row, paired; None for the reference itself."""


@dataclass(frozen=True)
class Slice:
    """One part of a split."""

    slice: str
    value: str
    impressions: int
    positives: int
    models: list[SlicedRow]


def slices_of(
    dataset: Dataset, rows: Mapping[str, Sequence[Predictions]], reference: str, resamples: int = RESAMPLES
) -> list[Slice]:
    """Every part with enough impressions, each row measured in it.

    Args:
        dataset: that the predictions are of.
        rows: each row's predictions of one split, one per seed.
        reference: the row whose scenarios are parts, and that the others are compared with.
        resamples: of users, within each part.
    """
    first = rows[reference][0]
    return [
        _slice(name, value, mask, rows, reference, resamples)
        for name, values in parts_of(dataset, first)
        for value, mask in values.items()
        if mask.sum() >= FEWEST
    ]


def parts_of(dataset: Dataset, predictions: Predictions) -> Iterator[tuple[str, dict[str, Mask]]]:
    """Each way of parting the candidates: its name, and (N,) which candidates lie in each part."""
    place = predictions.place
    if dataset.manifest.has_repeats:
        repeats = predictions.repeat_indicator.astype(bool)
        yield "candidate", {"repeat": repeats, "new to the user": ~repeats}
    seen = _in_training(dataset)
    for name, ids, known in (("user", predictions.user, seen[0]), ("item", predictions.item, seen[1])):
        familiar = np.isin(ids, known)
        yield name, {"seen in training": familiar, "not seen in training": ~familiar}
    length = dataset.history_length(predictions.requests)[place]
    yield "history", {name: (length >= low) & (length <= high) for name, (low, high) in HISTORY_BINS.items()}
    yield _by_time(dataset, predictions)
    if predictions.assignment is not None and predictions.assignment.shape[1] > 1:
        yield "scenario", _by_code(predictions.assignment.argmax(axis=1)[place], None)
    codes = dataset.requests.predefined_scenario
    if codes is not None:
        yield "predefined scenario", _by_code(codes[predictions.requests][place], dataset.manifest.predefined_scenarios)


def _in_training(dataset: Dataset) -> tuple[NDArray[Any], NDArray[Any]]:
    period = dataset.manifest.splits["train"]
    items = dataset.candidates.item[dataset.candidates_between(period.begin, period.end)]
    return np.unique(dataset.requests.user[period.begin : period.end]), np.unique(items)


def _by_time(dataset: Dataset, predictions: Predictions) -> tuple[str, dict[str, Mask]]:
    """Local days, or ISO weeks (`2017-W45`) if the split is long."""
    times = pl.Series(predictions.time).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    days = times.dt.convert_time_zone(dataset.manifest.timezone).dt.date()
    ordinal = days.to_physical()
    by_week = len(days) > 0 and int(ordinal.max()) - int(ordinal.min()) >= LONGEST_IN_DAYS  # type: ignore[arg-type]
    unit, form = ("week", "%G-W%V") if by_week else ("day", "%Y-%m-%d")
    values = days.dt.strftime(form).to_numpy()
    return unit, {str(value): values == value for value in np.unique(values)}


def _by_code(codes: NDArray[Any], names: Sequence[str] | None) -> dict[str, Mask]:
    known = np.unique(codes[codes >= 0])
    return {str(code) if names is None else str(names[code]): codes == code for code in known}


def _slice(
    name: str, value: str, mask: Mask, rows: Mapping[str, Sequence[Predictions]], reference: str, resamples: int
) -> Slice:
    own = rows[reference][0]
    label = own.label[mask]
    draws = UserDraws(own.user[mask], resamples)
    both = 0 < label.sum() < len(label)
    measured = {
        row: resample_model([one.sample().part(mask) for one in of_seeds], draws, ["auc"])
        for row, of_seeds in rows.items()
        if both
    }
    models = [
        SlicedRow(
            row,
            measured[row].value("auc") if both else float("nan"),
            difference(measured[row], measured[reference]) if both and row != reference else None,
        )
        for row in rows
    ]
    return Slice(name, value, int(mask.sum()), int(label.sum()), models)
