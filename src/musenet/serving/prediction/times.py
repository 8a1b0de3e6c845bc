"""Times of a file to be scored, read as preparation reads those of the log: UTC microseconds."""

import math
import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.dataset.roles import MICROSECONDS
from musenet.dataset.texts import DATE_YEAR_FIRST, DATE_YEAR_LAST, NO_TEXTS, WITH_YEAR_FIRST
from musenet.serving.prediction.columns import listed_values
from musenet.serving.scorer.encoder import Distinct
from musenet.serving.scorer.messages import EPOCH, FIRST_TIME, LAST_TIME
from musenet.sources.files.options import TimeColumn

Times = NDArray[np.int64]
NO_TIME = np.iinfo(np.int64).min
"""Where there is none."""
_SECONDS: dict[str, float] = {"seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}
_SMALLER_THAN = {"seconds": 1e11, "milliseconds": 1e14, "microseconds": 1e17, "nanoseconds": float("inf")}
"""Sizes that times of our days have in each unit."""
_FORM = "write it as the log that was prepared does, or as ISO 8601, for example 2026-01-31 12:00:00"
_ONE_DIGIT = re.compile(r"(?<=[-T ])([0-9])(?=[-T :]|$)")
_GREENWICH = re.compile(r"\s*(?:[zZ]|UTC|GMT)$")
_SPACE_BEFORE_OFFSET = re.compile(r"\s+(?=[+-][0-9]{2}(?::?[0-9]{2})?$)")


class NoTimeError(ValueError):
    """A value is no time; `place` is its row."""

    def __init__(self, place: int, reason: str) -> None:
        super().__init__(reason)
        self.place = place


def microseconds_of(column: pa.Array, written: TimeColumn, zone: str) -> Times:
    """(rows) UTC microseconds; `NO_TIME` where missing. A time without an offset is of the log's time zone.

    Args:
        column: timestamps, dates, numbers since 1970 or text.
        written: the unit of numbers, which their size tells if left out, or how dates are laid out.
        zone: of the log.

    Raises:
        NoTimeError: for what is no time.
    """
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    if pa.types.is_timestamp(column.type):
        return _of_timestamps(column, zone)
    if written.format is None and any(test(column.type) for test in (pa.types.is_integer, pa.types.is_floating)):
        return _of_numbers(column, written)
    told = Distinct.of(column)
    distinct = listed_values(told)
    read = partial(_of_value, written=written, zone=ZoneInfo(zone))
    found = np.full(len(distinct), NO_TIME, dtype=np.int64)
    for place, value in enumerate(distinct):
        if value is None or str(value).strip() in NO_TEXTS:
            continue
        try:
            found[place] = read(value)
        except ValueError as error:
            raise NoTimeError(int((told.places == place).argmax()), str(error)) from None
    if written.unit is None and written.format is None:
        there = (value for value, time in zip(distinct, found, strict=True) if time != NO_TIME)
        _refuse_dates([number for number in map(_number, there) if number is not None])
    return found[told.places]


def _of_numbers(column: pa.Array, written: TimeColumn) -> Times:
    """Of numbers since 1970; each value's size tells its unit, if the log's is not given."""
    there = column.is_valid().to_numpy(zero_copy_only=False)
    numbers = column.fill_null(0).to_numpy(zero_copy_only=False)
    there &= ~np.isnan(numbers)
    size = np.abs(numbers.astype(np.float64))
    found = np.full(len(numbers), NO_TIME, dtype=np.int64)
    units = np.searchsorted(list(_SMALLER_THAN.values())[:-1], size, side="right")
    for place_of_unit, unit in enumerate(_SECONDS):
        of_unit = there & (written.unit == unit if written.unit else units == place_of_unit)
        chosen = numbers[of_unit]
        seconds = chosen.astype(np.float64) * _SECONDS[unit]
        wrong = ~((seconds >= FIRST_TIME) & (seconds <= LAST_TIME))
        if wrong.any():
            place = int(np.flatnonzero(of_unit)[wrong.argmax()])
            raise NoTimeError(place, f"holds {numbers[place]:g}, which is no time")
        if chosen.dtype.kind == "f":
            found[of_unit] = np.rint(seconds * MICROSECONDS)
        elif unit == "nanoseconds":
            found[of_unit] = chosen.astype(np.int64) // 1000
        else:
            found[of_unit] = chosen.astype(np.int64) * round(_SECONDS[unit] * MICROSECONDS)
    if written.unit is None and there.any():
        _refuse_dates(numbers[there])
    return found


def _refuse_dates(numbers: Collection[float]) -> None:
    """Raise `NoTimeError` if all may be days as well as times."""
    known = iter(numbers)
    first = next(known, None)
    if first is not None and _may_be_date(first) and all(map(_may_be_date, known)):
        raise NoTimeError(0, f"holds {first:.0f}, which is a date or a time since 1970: {_FORM}")


def _of_timestamps(column: pa.Array, zone: str) -> Times:
    if column.type.tz is None:
        column = column.cast(pa.timestamp("us"), safe=False)
        utc = pc.assume_timezone(column, zone, ambiguous="earliest", nonexistent="earliest")
        # The clock of the moment before a gap goes on into it, as for Python's fold=0.
        shift = pc.subtract(pc.local_timestamp(utc).cast(pa.int64()), utc.cast(pa.int64()))
        micros = pc.subtract(column.cast(pa.int64()), shift)
    else:
        micros = column.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())
    return np.asarray(micros.fill_null(int(NO_TIME)).to_numpy(zero_copy_only=False), dtype=np.int64)


def _of_value(value: object, written: TimeColumn, zone: ZoneInfo) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"holds {type(value).__name__}, which is no time")
    number, text = _number(value), str(value).strip()
    if written.format is None:
        return _of_text(text, written, zone) if number is None else _of_number(number, written)
    if isinstance(number, float) and number.is_integer():
        text = str(int(number))
    try:
        return _of_clock(datetime.strptime(text, written.format), zone)
    except ValueError:
        if number is None:  # it may be ISO 8601 all the same
            return _of_text(text, written, zone)
        raise ValueError(f"holds '{text[:40]}', which is no time: {_FORM}") from None


def _of_text(text: str, written: TimeColumn, zone: ZoneInfo) -> int:
    iso = re.sub(DATE_YEAR_FIRST, r"\1-\2-\3", text)
    if written.format in WITH_YEAR_FIRST:
        iso = re.sub(DATE_YEAR_LAST, WITH_YEAR_FIRST[written.format], iso)
    iso = _SPACE_BEFORE_OFFSET.sub("", _GREENWICH.sub("+00:00", iso))
    try:
        return _of_clock(datetime.fromisoformat(_ONE_DIGIT.sub(r"0\1", iso)), zone)
    except ValueError:
        raise ValueError(f"holds '{text[:40]}', which is no time: {_FORM}") from None


def _of_clock(moment: datetime, zone: ZoneInfo) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=zone)
    return (aware.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)


def _of_number(number: float, written: TimeColumn) -> int:
    if math.isnan(number):
        return int(NO_TIME)
    unit: str = written.unit or next(
        (name for name, bound in _SMALLER_THAN.items() if abs(number) < bound), "nanoseconds"
    )
    seconds = number * _SECONDS[unit]
    if not FIRST_TIME <= seconds <= LAST_TIME:
        raise ValueError(f"holds {number:g}, which is no time")
    whole = {"seconds": MICROSECONDS, "milliseconds": 1000, "microseconds": 1}.get(unit)
    if isinstance(number, int):
        return number // 1000 if whole is None else number * whole
    return round(seconds * MICROSECONDS)


def _may_be_date(number: float) -> bool:
    """Whether the digits are a day of our years, such as 20260131."""
    if not 19_900_101 <= number <= 21_001_231 or number != int(number):
        return False
    try:
        datetime.strptime(f"{number:.0f}", "%Y%m%d")
    except ValueError:
        return False
    return True


def _number(value: str | int | float) -> int | float | None:
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            found: int | float = kind(value)
        except ValueError:
            continue
        return found
    return None
