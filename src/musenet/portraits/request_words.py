"""A request in words: its context as the log wrote it, how much came before, and what was clicked."""

from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import PADDING, Field, FieldSide
from musenet.dataset.numeric import NumericTransform
from musenet.portraits.contrasts import label_of, value_names
from musenet.portraits.words import field_words, number, signed

RANK_PART, MISSING_PART = ".rank", ".missing"
"""How names of fields end that preparation makes of one number: its rank, for quantiles, and whether it is missing."""


class RequestWords:
    """Tells of single requests of a dataset; ids, positions, vectors and buckets of numbers are not told."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._zone = ZoneInfo(dataset.manifest.timezone)
        self._context = self._told("context")
        self._clicked = self._told("item", "candidate")
        self._names = cache(lambda field: value_names(dataset, field))

    def lines(self, request: int) -> list[str]:
        """Time, context, history length and the first two clicked items, a line each."""
        events = int(self._dataset.history_length(np.array([request]))[0])
        context = [self._value(field, request) for field in self._context]
        said = [self._time(request), *[part for part in context if part], f"{number(events)} earlier events"]
        return [*said, *self._clicks(request)]

    def _clicks(self, request: int) -> list[str]:
        shown = self._dataset.candidates_between(request, request + 1)
        clicked = shown.start + np.flatnonzero(self._dataset.candidates.label[shown] == 1)
        if not len(clicked):
            return ["nothing clicked"]
        return [f"clicked: {self._item(int(candidate))}" for candidate in clicked[:2]]

    def _item(self, candidate: int) -> str:
        rows = {"item": int(self._dataset.candidates.item[candidate]), "candidate": candidate}
        parts = [self._value(field, rows[field.side]) for field in self._clicked]
        return ", ".join(part for part in parts if part) or "an item"

    def _told(self, *sides: FieldSide) -> list[Field]:
        return [
            field
            for field in self._dataset.fields(*sides)
            if field.kind != "vector"
            and not (field.is_id or field.is_position or field.is_bucketed or field.name.endswith(MISSING_PART))
        ]

    def _value(self, field: Field, row: int) -> str:
        """`days ahead 3`, `device phone`; empty where the log has no value."""
        value, said = self._dataset.values(field, row), field_words(label_of(field))
        if field.kind != "dense":
            codes = [int(code) for code in np.atleast_1d(value) if code != PADDING]
            names = [self._names(field)[code] for code in codes]
            return f"{said} {' + '.join(names)}" if names else ""
        kept_as = {f"{name}{MISSING_PART}" for name in (field.name, field.name.removesuffix(RANK_PART))}
        missing = (one for one in self._dataset.fields(field.side) if one.name in kept_as)
        if any(self._dataset.values(one, row) > 0 for one in missing):
            return ""
        return f"{said} {number_words(self._dataset, field, float(value))}"

    def _time(self, request: int) -> str:
        seconds = int(self._dataset.requests.time[request]) / 1e6
        return f"{datetime.fromtimestamp(seconds, UTC).astimezone(self._zone):%a %d %b %Y, %H:%M}"


def number_words(dataset: Dataset, field: Field, value: float) -> str:
    """A dense field's value as the log wrote it, to three digits; in standard deviations where the dataset forgot."""
    scales = dataset.manifest.numeric
    fitted = scales.get(field.name, scales.get(field.name.removesuffix(RANK_PART)))
    if fitted is None:
        return f"{signed(value, 1)} sd"
    exact = float(NumericTransform.model_validate(fitted).undone(np.asarray(value)))
    digits = 0 if abs(exact) >= 100 or abs(exact - round(exact)) < 0.005 else 1 if abs(exact) >= 10 else 2
    return number(exact, digits)
