"""How the log is divided into training, validation and test."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, model_validator

from musenet.options import Options, Seconds


class DaysSplit(Options):
    """The last days of the log, counted from midnight in the log's timezone."""

    test: Seconds = Field(description="length of the test period: the last calendar days, for example `7 days`")
    valid: Seconds = Field(description="length of the validation period, before the test period")


class PartsSplit(Options):
    """So many parts with equal numbers of impressions in order of time; the last ones are test and validation."""

    parts: int = Field(ge=3, description="number of parts")
    test: int = Field(1, ge=1, description="number of last parts for test")
    valid: int = Field(1, ge=1, description="number of parts before those for validation")

    @model_validator(mode="after")
    def _leaves_training(self) -> "PartsSplit":
        if self.test + self.valid >= self.parts:
            raise ValueError(
                f"test ({self.test}) and valid ({self.valid}) leave none of {self.parts} parts to train on"
            )
        return self


class TimesSplit(Options):
    """Explicit local times (in the log's timezone unless they carry an offset)."""

    train_from: datetime | None = Field(
        None, description="impressions before it are left out, but their events count in histories"
    )
    valid_from: datetime
    test_from: datetime
    test_until: datetime | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "TimesSplit":
        times = [time for time in (self.train_from, self.valid_from, self.test_from, self.test_until) if time]
        if len({time.tzinfo is None for time in times}) > 1:
            raise ValueError("give all times with an offset from UTC, or none of them")
        if times != sorted(times) or len(set(times)) < len(times):
            raise ValueError("train_from, valid_from, test_from and test_until must follow each other in time")
        return self


SplitOptions = Annotated[DaysSplit | PartsSplit | TimesSplit, Field(union_mode="smart")]
