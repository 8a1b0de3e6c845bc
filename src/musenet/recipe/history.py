"""Which events a request's history holds, and from when on they count."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, Field

from musenet.dataset.roles import MICROSECONDS
from musenet.dataset.texts import kind_text
from musenet.errors import DataError
from musenet.options import Options, Seconds

Kind = Annotated[str, AfterValidator(kind_text)]
"""A kind of events, in its one form."""


class HistoryOptions(Options):
    """Which events a request's history holds and what is known of each."""

    columns: list[str] = Field([], description="columns of the events, or of their items, that describe an event")
    length: int = Field(50, ge=0, le=10_000, description="maximum number of events, the latest before the request")
    kinds: list[Kind] | None = Field(None, description="event kinds to use; all if unset")
    delay: Seconds = Field(
        0.0,
        description="events in the last seconds before a request are ignored, as a live store would not have them yet",
    )


@dataclass(frozen=True)
class Before:
    """Which events count before a moment t: those with time in [t - window, t - delay), in integer microseconds."""

    delay: int = 0
    window: int | None = None

    @classmethod
    @lru_cache
    def of(cls, delay: float, window: float | None = None) -> "Before":
        """From seconds; a window that the delay leaves nothing of is refused with `DataError`."""
        if window is not None and window <= delay:
            raise DataError(f"repeat.window ({window:g} s) must be longer than history.delay ({delay:g} s)")
        return cls(round(delay * MICROSECONDS), None if window is None else round(window * MICROSECONDS))
