"""Times, however they were written down: timestamps, numbers in some unit, digits that are dates, text."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from musenet.dataset.roles import MICROSECONDS
from musenet.dataset.texts import (
    DATE_YEAR_FIRST,
    DATE_YEAR_LAST,
    DAY_FIRST,
    MONTH_FIRST,
    READABLE,
    WITH_YEAR_FIRST,
)
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.sources.files.options import TimeColumn
from musenet.sources.files.values import Parsed, as_text, read_as
from musenet.sources.local_time import DAY, LocalTime

UNITS = {"seconds": (MICROSECONDS, 1), "milliseconds": (1000, 1), "microseconds": (1, 1), "nanoseconds": (1, 1000)}
"""Microseconds in each, as a fraction."""
SMALLER_THAN = {"seconds": 1e11, "milliseconds": 1e14, "microseconds": 1e17, "nanoseconds": float("inf")}
"""Sizes that times of our days have in each unit."""
FIRST_PLAUSIBLE = int(datetime(1990, 1, 1, tzinfo=UTC).timestamp()) * MICROSECONDS
"""Logs do not go further back."""
_WHOLE = r"^[+-]?[0-9]+$"
_OFFSET = r":\d{2}(?:[.,]\d+)?\s*([Zz]|UTC|GMT|[+-]\d{2}(?::?\d{2})?)$"
_ISO = r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([ T][0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?)?$"
DIGITS = ("%Y%m%d", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S", "%y%m%d%H", "%y%m%d%H%M", "%y%m%d%H%M%S")
"""Dates that are written as one whole number."""
_DIRECTIVES = {"Y": "((?:19|20)[0-9]{2})"} | dict.fromkeys("ymdHMS", "([0-9]{2})")


def latest_plausible() -> int:
    """Tomorrow, in microseconds since 1970."""
    return int(time.time()) * MICROSECONDS + DAY


@dataclass(frozen=True)
class ReadTimes(Parsed):
    """Times in UTC microseconds, and what was made of some of them by the way."""

    mended: Mapping[str, int]
    """Rows by what was done to them."""
    layout: str | None = None
    """How dates are laid out that can be read in several ways, where the values told it."""


def as_time(engine: Engine, column: ir.Value, table: ir.Table, written: TimeColumn, zone: str) -> ReadTimes:
    """UTC microseconds from timestamps, dates, numbers or text; a time without an offset is local.

    Raises:
        DataError: if the type holds no time, or values may be read in two ways.
    """
    kind = column.type()
    if isinstance(kind, dt.Unknown):  # as nanoseconds with a zone are to Ibis
        kind = dt.Timestamp(timezone="UTC")
        column = column.cast(kind)
    if isinstance(kind, dt.Date):
        kind = dt.Timestamp()
        column = column.cast(kind)
    if isinstance(kind, dt.Timestamp):
        value = engine.microseconds(column)
        if kind.timezone is None:
            value = _clock(engine, value, table, zone).to_utc(value)
        return ReadTimes(value, ibis.literal(False), column.isnull(), {})
    if not (kind.is_numeric() or kind.is_string()):
        raise DataError(f"is of type {kind}: a time is a timestamp, a date, a number or text")
    if written.format is not None:
        text = (_rounded(column) if kind.is_floating() else column).cast("string")
        return _from_text(engine, _laid_out(text, written.format), table, zone)
    if kind.is_numeric():
        number = _within_int64(column.cast("float64"))
        missing = column.isnull() | column.cast("float64").isnan()
        exact = column.cast("int64") if kind.is_integer() else _rounded(number)
        wrong = number.isnull() & ~missing
        return _from_number(engine, Parsed(number, wrong, missing), exact, table, written, zone)
    if _mostly_numbers(engine, column, table):
        number = read_as(column.strip(), READABLE, "float64")
        exact = read_as(column.strip(), _WHOLE, "int64")
        missing = as_text(column).isnull()
        number = ibis.coalesce(exact.cast("float64"), number)
        return _from_number(engine, Parsed(number, number.isnull() & ~missing, missing), exact, table, written, zone)
    text, order = _year_first(engine, column.strip(), table)
    return replace(_from_text(engine, text, table, zone), layout=order)


def _mostly_numbers(engine: Engine, column: ir.Value, table: ir.Table) -> bool:
    counts = table.agg(numbers=column.strip().re_search(READABLE).sum(), values=as_text(column).count())
    found = engine.row(counts)
    return bool((found["numbers"] or 0) * 2 > found["values"])


def _from_number(
    engine: Engine, number: Parsed, exact: ir.Value, table: ir.Table, written: TimeColumn, zone: str
) -> ReadTimes:
    """From seconds, milliseconds, microseconds or nanoseconds: which, is told or seen from the size of most values.

    A value that most values' unit puts out of our days, and its own size into them, is of the unit of its size.
    """
    size = number.value.abs()
    counts = {f"below_{unit}": (size < bound).sum() for unit, bound in SMALLER_THAN.items()}
    span = {"least": exact.min(), "most": exact.max()}
    found = engine.row(table.agg(values=number.value.count(), wholes=exact.count(), **counts, **span))
    half = (found["values"] or 0) / 2
    seen = next((name for name in UNITS if (found[f"below_{name}"] or 0) >= half), "seconds")
    unit: str = seen if written.unit is None else written.unit
    value = _microseconds(number.value, exact, unit)
    plain = ReadTimes(value, number.wrong | (~number.missing & value.isnull()), number.missing, {})
    if written.unit is not None:
        return plain
    if found["values"] and found["wholes"] == found["values"]:
        layout = _layout_of(engine, exact, table, (int(found["least"]), int(found["most"])), unit)
        if layout is not None:
            return replace(_from_text(engine, _laid_out(exact.cast("string"), layout), table, zone), layout=layout)
    others = [name for name in UNITS if _of_size(found, name) and name != unit]
    if not others:
        return plain
    own = ibis.cases(*((size < SMALLER_THAN[n], _microseconds(number.value, exact, n)) for n in UNITS))
    mixed = ~_plausible(value) & _plausible(own)
    rows = int(engine.row(table.agg(rows=mixed.sum()))["rows"] or 0)
    mended = {f"time is in other units than the {unit} of most: read by its size": rows} if rows else {}
    return ReadTimes(mixed.ifelse(own, value), plain.wrong & ~mixed, number.missing, mended)


def _of_size(found: Mapping[str, int | None], unit: str) -> int:
    """How many values are of the size of this unit."""
    names = list(UNITS)
    place = names.index(unit)
    smaller = found[f"below_{names[place - 1]}"] or 0 if place else 0
    return (found[f"below_{unit}"] or 0) - smaller


def _microseconds(number: ir.Value, exact: ir.Value, unit: str) -> ir.Value:
    times, part = UNITS[unit]
    # Whole numbers stay exact; those that no 64 bits hold in microseconds are no times.
    whole = (
        exact // part if part > 1 else (exact.abs() <= (1 << 63) // times - 1).ifelse(exact, ibis.null("int64")) * times
    )
    return (number == exact.cast("float64")).fill_null(False).ifelse(whole, _rounded(number * times / part))


def _within_int64(number: ir.Value) -> ir.Value:
    """NULL in place of what is not finite or larger than engines can round."""
    return (number.abs() < 2.0**63).ifelse(number, ibis.null("float64"))


def _rounded(number: ir.Value) -> ir.Value:
    return _within_int64(number).round().cast("int64")


def _plausible(value: ir.Value) -> ir.BooleanValue:
    return value.between(FIRST_PLAUSIBLE, latest_plausible()).fill_null(False)


def _layout_of(engine: Engine, exact: ir.Value, table: ir.Table, ends: tuple[int, int], unit: str) -> str | None:
    """How whole numbers are dates, if all of them are and no other reading makes sense.

    Raises:
        DataError: if there are two readings.
    """
    layouts = [layout for layout in DIGITS if all(_is_date(str(end), layout) for end in ends)]
    if not layouts:
        return None
    text = exact.cast("string")
    dates = {
        f"dates{place}": read_as(_laid_out(text, one), _ISO, "timestamp").count() for place, one in enumerate(layouts)
    }
    found = engine.row(table.agg(values=exact.count(), **dates))
    layouts = [one for place, one in enumerate(layouts) if found[f"dates{place}"] == found["values"]]
    times, part = UNITS[unit]
    is_epoch = all(FIRST_PLAUSIBLE <= end * times // part <= latest_plausible() for end in ends)
    readings = [f"{datetime.strptime(str(ends[0]), one):%Y-%m-%d %H:%M} (format: '{one}')" for one in layouts]
    if is_epoch and layouts:
        told = datetime.fromtimestamp(ends[0] * times / part / MICROSECONDS, UTC)
        readings.append(f"{told:%Y-%m-%d %H:%M} (unit: {unit})")
    if len(readings) > 1:
        raise DataError(f"holds numbers such as {ends[0]}, which is {' or '.join(readings)}: {SAY}")
    return layouts[0] if layouts else None


SAY = "say which with {column: …, format: …}"
"""What to do about times that can be read in several ways, at the end of the error."""


def _is_date(digits: str, layout: str) -> bool:
    if not re.fullmatch(_pattern(layout)[0], digits):
        return False
    try:
        datetime.strptime(digits, layout)
    except ValueError:
        return False
    return True


def _pattern(layout: str) -> tuple[str, str]:
    """A regular expression for a layout of `strptime`, and what it becomes in ISO 8601."""
    places: dict[str, int] = {}
    apart = bool(re.search(r"[^%A-Za-z]", layout))  # digits beside digits are never left out

    def group(directive: re.Match[str]) -> str:
        places[directive[1]] = len(places) + 1
        wanted = _DIRECTIVES[directive[1]]
        return wanted.replace("{2})", "{1,2})") if apart and directive[1] in "mdH" else wanted

    parts = re.split(r"(%[YymdHMS])", layout)
    pattern = "".join(
        group(found) if (found := re.fullmatch(r"%(.)", part)) else re.escape(part).replace("/", "[/]")
        for part in parts
    )
    year = rf"\{places['Y']}" if "Y" in places else rf"20\{places['y']}"
    day = "-".join([year, *(rf"\{places[one]}" if one in places else "01" for one in "md")])
    clock = ":".join(rf"\{places[one]}" if one in places else "00" for one in "HMS")
    return f"^{pattern}$", f"{day} {clock}"


def _laid_out(text: ir.StringValue, layout: str) -> ir.StringValue:
    """Text of this layout in the form of ISO 8601; other text as it is."""
    return text.strip().re_replace(*_pattern(layout))


def _year_first(engine: Engine, text: ir.StringValue, table: ir.Table) -> tuple[ir.StringValue, str | None]:
    """Dates with their year first: of 31/12/2024 and 12/31/2024 the column's other values tell which is the month.

    Returns:
        The text, and which layout they told; None where all years come first.

    Raises:
        DataError: if they do not.
    """
    text = text.re_replace(DATE_YEAR_FIRST, r"\1-\2-\3")
    last = text.re_search(DATE_YEAR_LAST)
    first, second = (last.ifelse(text.re_extract(DATE_YEAR_LAST, at), "").try_cast("int64") for at in (1, 2))
    found = engine.row(table.agg(rows=last.sum(), first=first.max(), second=second.max(), example=text.min(where=last)))
    if not found["rows"]:
        return text, None
    day_first, month_first = ((found[name] or 0) > 12 for name in ("first", "second"))
    if day_first == month_first:
        one, two, year = re.split(r"[/.-]", str(found["example"])[:10])
        year = year[:4]
        what = (
            "dates with the day first and dates with the month first"
            if day_first
            else f"dates such as {found['example']}, which is {year}-{two:0>2}-{one:0>2} (format: '%d/%m/%Y') or "
            f"{year}-{one:0>2}-{two:0>2} (format: '%m/%d/%Y')"
        )
        raise DataError(f"holds {what}: {SAY if not day_first else 'write them as 2024-01-31'}")
    order = DAY_FIRST if day_first else MONTH_FIRST
    return text.re_replace(DATE_YEAR_LAST, WITH_YEAR_FIRST[order]), order


def _from_text(engine: Engine, text: ir.StringValue, table: ir.Table, zone: str) -> ReadTimes:
    offset = text.re_extract(_OFFSET, 1)
    has_offset = (offset.length() > 0).fill_null(False)
    bare = has_offset.ifelse(text.substr(0, text.length() - offset.length()).strip(), text)
    wall = engine.microseconds(read_as(bare, _ISO, "timestamp"))
    digits = offset.replace(":", "")
    hours = digits.substr(1, 2).try_cast("int64").fill_null(0)
    minutes = digits.substr(3, 2).try_cast("int64").fill_null(0)
    sign = offset.startswith("-").ifelse(-1, 1)
    shift = (hours * 60 + minutes) * sign * 60 * MICROSECONDS
    value = has_offset.ifelse(wall - shift, _clock(engine, wall, table, zone).to_utc(wall))
    missing = as_text(text).isnull()
    return ReadTimes(value, ~missing & wall.isnull(), missing, {})


def _clock(engine: Engine, wall: ir.Value, table: ir.Table, zone: str) -> LocalTime:
    """The zone's clock on the days of a column of wall-clock times."""
    return LocalTime.of(engine, zone, wall, table)
