"""A line of metrics.jsonl: what the training loop reports, or nothing where the line says something else."""

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Numbers = Annotated[dict[str, float | None] | None, Field(strict=True)]


class _Line(BaseModel):
    """What readers rely on; there may be more in a line."""

    model_config = ConfigDict(extra="allow")
    step: int = Field(ge=0, strict=True)
    losses: Numbers = None
    valid: Numbers = None
    health: Numbers = None
    warnings: list[str] = []


def metrics_entry(line: str) -> dict[str, Any] | None:
    """The line's keys and values; None if it is cut short or no report of the loop."""
    try:
        _Line.model_validate_json(line)
    except ValidationError:
        return None
    entry: dict[str, Any] = json.loads(line)
    return entry
