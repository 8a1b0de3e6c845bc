"""Rows of a message, validated a few at a time: one body could hold a million mistakes, of which few are told."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import GetCoreSchemaHandler, ValidationError, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, PydanticKnownError
from pydantic_core.core_schema import no_info_wrap_validator_function

MOST_COLUMNS = 1000
MOST_MISTAKES = 20
"""That a refusal names, and that are looked for."""
TOGETHER = 16
"""Rows that are validated in one go, in which no other thread of Python runs."""
TOO_WIDE = PydanticCustomError("too_wide", f"holds more than {MOST_COLUMNS} columns")


@dataclass(frozen=True)
class Rows:
    """A list of so many rows, validated a few at a time, and no further than the mistakes that are told."""

    least: int
    most: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Of the list itself, with its limits."""
        whole: dict[str, Any] = {**handler(source), "min_length": self.least, "max_length": self.most}
        return no_info_wrap_validator_function(self._validate, cast("CoreSchema", whole))

    def _validate(self, rows: object, validate: ValidatorFunctionWrapHandler) -> object:
        if not isinstance(rows, list) or not rows:
            return validate(rows)
        if len(rows) > self.most:
            limit = {"field_type": "List", "max_length": self.most, "actual_length": len(rows)}
            raise PydanticKnownError("too_long", limit)
        found: list[object] = []
        mistakes: list[InitErrorDetails] = []
        for begin in range(0, len(rows), TOGETHER):
            part = rows[begin : begin + TOGETHER]
            wide = [InitErrorDetails(type=TOO_WIDE, loc=(begin + at,), input=None) for at in _wide(part)]
            mistakes += wide
            try:
                found += [] if wide else validate(part)
            except ValidationError as error:
                mistakes += _moved(error, begin)
            if len(mistakes) >= MOST_MISTAKES:
                break
        if mistakes:
            raise ValidationError.from_exception_data("rows", mistakes)
        return found


def _wide(rows: Sequence[object]) -> list[int]:
    """Places of the rows that hold too many columns to look at them."""
    return [place for place, row in enumerate(rows) if isinstance(row, dict) and len(row) > MOST_COLUMNS]


def few_columns(columns: object) -> object:
    """The same, if there are not too many columns to look at them."""
    if _wide([columns]):
        raise TOO_WIDE
    return columns


def _moved(error: ValidationError, begin: int) -> Iterator[InitErrorDetails]:
    """The mistakes in rows from `begin` on, one for each column."""
    seen = set()
    for one in error.errors(include_url=False):
        place = (begin + int(one["loc"][0]), *one["loc"][1:])
        if place[:2] not in seen:
            seen.add(place[:2])
            yield InitErrorDetails(type=one["type"], loc=place, input=None, ctx=one.get("ctx", {}))
