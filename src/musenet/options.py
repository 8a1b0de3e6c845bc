"""The base of every typed option: unknown keys are refused, values cannot change after validation."""

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Options(BaseModel):
    """A part of an experiment's configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(second|minute|hour|day|week)s?\s*")


def parse_duration(value: object) -> object:
    """Turn `7 days` or `90 minutes` into seconds; numbers are seconds already.

    >>> parse_duration("2 days")
    172800.0
    """
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError(
            f"'{value}' is not a duration: write a number of seconds, or for example '7 days' or '90 minutes'"
        )
    return float(match[1]) * _UNITS[match[2]]


Seconds = Annotated[
    float,
    BeforeValidator(parse_duration, json_schema_input_type=float | str),
    Field(ge=0, description="a duration: seconds, or for example `7 days`"),
]
