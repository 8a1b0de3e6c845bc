"""A request in words: its context as the log wrote it, how much came before, and what was clicked."""

from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import PADDING, Field
from musenet.dataset.numeric import NumericTransform
from musenet.portraits.portraits import value_names
from musenet.portraits.words import field_words, number, signed

MISSING_PART = ".missing"


class RequestWords:
    """Tells of single requests of a dataset; ids, positions and buckets of numbers are passed over."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._zone = ZoneInfo(dataset.manifest.timezone)
        self._context = self._told("context")
        self._clicked = self._told("item", "candidate")
        self._names = cache(lambda field: value_names(dataset, field))

    def lines(self, request: int) -> list[str]:
        """Time, context, history length and each clicked item, a line each."""
        column = self._dataset.column
        user = int(column("requests/user")[request])
        events = int(column("requests/history_end")[request]) - int(column("events/offset")[user])
        context = [self._value(field, f"requests/{field.name}", request) for field in self._context]
        said = [self._time(request), *[part for part in context if part], f"{number(events)} earlier events"]
        return [*said, *self._clicks(request)]

    def _clicks(self, request: int) -> list[str]:
        column = self._dataset.column
        begin, end = (int(place) for place in column("requests/candidate_offset")[request : request + 2])
        clicked = begin + np.flatnonzero(np.asarray(column("candidates/label")[begin:end]) == 1)
        if not len(clicked):
            return ["nothing clicked"]
        return [f"clicked: {self._item(int(candidate))}" for candidate in clicked[:2]]

    def _item(self, candidate: int) -> str:
        rows = {"item": int(self._dataset.column("candidates/item")[candidate]), "candidate": candidate}
        folders = {"item": "items", "candidate": "candidates"}
        parts = [self._value(field, f"{folders[field.side]}/{field.name}", rows[field.side]) for field in self._clicked]
        return ", ".join(part for part in parts if part) or "an item"

    def _told(self, *sides: str) -> list[Field]:
        fields = self._dataset.manifest.fields
        return [
            field
            for field in fields
            if field.side in sides
            and not (field.is_id or field.is_position or field.is_bucketed or field.name.endswith(MISSING_PART))
        ]

    def _value(self, field: Field, path: str, row: int) -> str:
        """`days ahead 3`, `device phone`; empty where the log has no value."""
        value = self._dataset.column(path)[row]
        if field.kind != "dense":
            codes = [int(code) for code in np.atleast_1d(value) if code != PADDING]
            names = [self._names(field)[code] for code in codes]
            return f"{field_words(field.name)} {' + '.join(names)}" if names else ""
        if self._dataset.has(f"{path}{MISSING_PART}") and self._dataset.column(f"{path}{MISSING_PART}")[row] > 0:
            return ""
        return f"{field_words(field.name)} {number_words(self._dataset, field, float(value))}"

    def _time(self, request: int) -> str:
        seconds = int(self._dataset.column("requests/time")[request]) / 1e6
        return f"{datetime.fromtimestamp(seconds, UTC).astimezone(self._zone):%a %d %b %Y, %H:%M}"


def number_words(dataset: Dataset, field: Field, value: float) -> str:
    """A dense field's value as the log wrote it, to three digits; in standard deviations where the dataset forgot."""
    fitted = dataset.manifest.numeric.get(field.name)
    if fitted is None:
        return f"{signed(value, 1)} sd"
    exact = float(NumericTransform.model_validate(fitted).undone(np.asarray(value)))
    digits = 0 if abs(exact) >= 100 or abs(exact - round(exact)) < 0.005 else 1 if abs(exact) >= 10 else 2
    return number(exact, digits)
