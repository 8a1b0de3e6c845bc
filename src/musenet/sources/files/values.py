"""What the values of a log's columns mean: numbers, ids, labels and times, however they were written down."""

from dataclasses import dataclass

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from musenet.dataset.roles import MICROSECONDS
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.sources.local_time import DAY, LocalTime

UNITS = {"seconds": MICROSECONDS, "milliseconds": 1000, "microseconds": 1}
_MISSING_NUMBERS = ("", "na", "n/a", "nan", "null", "none")
LARGEST_EXACT_FLOAT = 2**53
_TIME_WITH_OFFSET = r":\d{2}(?:\.\d+)?\s*([Zz]|[+-]\d{2}(?::?\d{2})?)$"
_NUMBER = r"^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?$"
_WHOLE = r"^[+-]?[0-9]+$"
_TIME = r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([ T][0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?)?$"


@dataclass(frozen=True)
class Parsed:
    """A column read as what it should be, and the rows in which it is not that."""

    value: ir.Value
    wrong: ir.BooleanValue
    missing: ir.BooleanValue


def as_text(column: ir.Value) -> ir.Value:
    """Text, empty being missing."""
    return column.cast("string").nullif("")


def read_as(text: ir.Value, pattern: str, kind: str) -> ir.Value:
    """Text as a number or time if it has this form, else NULL.

    Engines take more for one than they agree on: `1_000` and `0x1F`, `1d`, `epoch`, or `1.5` for a whole number.
    """
    return text.re_search(pattern).ifelse(text, ibis.null("string")).try_cast(kind)


def as_number(column: ir.Value, *, whole: bool = False) -> Parsed:
    """A number; text is tried, and infinite numbers are wrong.

    Raises:
        DataError: for types that no number can be read from.
    """
    kind = column.type()
    if isinstance(kind, dt.String):
        text = column.strip().lower()
        missing = column.isnull() | text.isin(_MISSING_NUMBERS)
        number = read_as(text, _NUMBER, "float64")
    elif kind.is_numeric() or isinstance(kind, dt.Boolean | dt.Unknown):
        number = column.cast("float64")
        missing = number.isnull() | number.isnan()
    else:
        raise DataError(f"holds {kind}, not numbers")
    odd = number.isnull() | number.isinf() | number.isnan()
    if whole:
        odd = odd | (number != number.floor())
    wrong = ~missing & odd
    value = (missing | odd).ifelse(ibis.null("float64"), number)
    if whole:
        value = value.cast("int64")
    elif kind.is_integer():
        value = column
    return Parsed(value, wrong, missing)


def as_id(engine: Engine, column: ir.Value, table: ir.Table) -> ir.Value:
    """An id as int64 or text; whole floats, which a table tool makes of integers with gaps, become integers again.

    Raises:
        DataError: if it is of another type, or floats that are no integers.
    """
    kind = column.type()
    if kind.is_integer() and not isinstance(kind, dt.UInt64):
        return column.cast("int64")
    if kind.is_floating() or kind.is_decimal():
        number = column.cast("float64")
        number = number.isnan().ifelse(ibis.null("float64"), number)
        broken = (number != number.floor()) | (number.abs() > LARGEST_EXACT_FLOAT)
        if engine.count(table.filter(broken)):
            raise DataError("holds fractions or numbers too large for a float: store ids as integers or text")
        return number.cast("int64")
    if isinstance(kind, dt.String | dt.UInt64 | dt.UUID | dt.Unknown):
        return as_text(column)
    raise DataError(f"is of type {kind}: ids are integers or text")


def as_label(column: ir.Value, positive_kinds: list[str] | None) -> Parsed:
    """1 or 0 from booleans, numbers or text; or whether the column names one of the positive kinds."""
    if positive_kinds is not None:
        text = as_text(column)
        return Parsed(text.isin(positive_kinds).cast("int8"), ibis.literal(False), text.isnull())
    if isinstance(column.type(), dt.String):
        text = column.strip().lower()
        column = ibis.cases((text == "true", "1"), (text == "false", "0"), else_=text)
    number = as_number(column)
    wrong = number.wrong | (~number.missing & ~number.value.isin([0, 1]).fill_null(False))
    return Parsed(wrong.ifelse(ibis.null("int8"), number.value.try_cast("int8")), wrong, number.missing)


def as_time(engine: Engine, column: ir.Value, table: ir.Table, unit: str | None, zone: str) -> Parsed:
    """UTC microseconds from integers, timestamps, dates or ISO text; a time without an offset is local.

    Raises:
        DataError: if the type holds no time, or integers look like dates.
    """
    kind = column.type()
    if isinstance(kind, dt.String) and _mostly_numbers(engine, column, table):
        number = read_as(column.strip(), _NUMBER, "float64")
        exact = read_as(column.strip(), _WHOLE, "int64")
        wrong = number.isnull() & as_text(column).notnull()
        value = _from_number(engine, ibis.coalesce(exact.cast("float64"), number), exact, table, unit)
        return Parsed(value, wrong, as_text(column).isnull())
    if isinstance(kind, dt.String):
        return _from_text(engine, column, table, zone)
    if kind.is_numeric():
        exact = column.cast("int64") if kind.is_integer() else None
        number = column.cast("float64")
        missing = number.isnull() | number.isnan()
        return Parsed(_from_number(engine, number, exact, table, unit), number.isinf() & ~missing, missing)
    if isinstance(kind, dt.Date):
        column, kind = column.cast("timestamp"), dt.timestamp
    if not isinstance(kind, dt.Timestamp):
        raise DataError(f"is of type {kind}: a time is a timestamp, a date, integers or ISO text")
    value = engine.microseconds(column)
    if kind.timezone is None:
        value = _clock(engine, value, table, zone).to_utc(value)
    return Parsed(value, ibis.literal(False), column.isnull())


def _mostly_numbers(engine: Engine, column: ir.Value, table: ir.Table) -> bool:
    counts = table.agg(numbers=column.strip().re_search(_NUMBER).sum(), values=as_text(column).count())
    found = engine.row(counts)
    return bool((found["numbers"] or 0) * 2 > found["values"])


def _from_number(
    engine: Engine, number: ir.Value, exact: ir.Value | None, table: ir.Table, unit: str | None
) -> ir.Value:
    """Microseconds from seconds, milliseconds or microseconds: which, is told or seen from the size of most values."""
    month, day = (number // 100) % 100, number % 100
    date = number.between(19_000_101, 21_001_231) & month.between(1, 12) & day.between(1, 31)
    size = number.abs()  # counted rather than put in order, as a median would be: that takes memory for every row
    counts = {"seconds": size < 1e11, "milliseconds": size < 1e14, "microseconds": size <= 1e17, "dates": date}
    found = engine.row(table.agg(values=number.count(), **{name: holds.sum() for name, holds in counts.items()}))
    half = (found["values"] or 0) / 2
    inferred = next((name for name in UNITS if (found[name] or 0) >= half), None)
    if unit is None and found["values"] and found["dates"] == found["values"]:
        raise DataError("holds integers that look like dates (20240131): write them as 2024-01-31")
    if unit is None and inferred is None:
        raise DataError("holds integers too large for microseconds since 1970: divide nanoseconds by 1000")
    factor = UNITS[unit or inferred or "microseconds"]
    rounded = (number * factor).round().try_cast("int64")
    return rounded if exact is None else ibis.coalesce(exact * factor, rounded)


def _from_text(engine: Engine, column: ir.Value, table: ir.Table, zone: str) -> Parsed:
    text = column.strip()
    offset = text.re_extract(_TIME_WITH_OFFSET, 1)
    has_offset = (offset.length() > 0).fill_null(False)
    bare = has_offset.ifelse(text.substr(0, text.length() - offset.length()).strip(), text)
    wall = engine.microseconds(read_as(bare, _TIME, "timestamp"))
    digits = offset.replace(":", "")
    hours = digits.substr(1, 2).try_cast("int64").fill_null(0)
    minutes = digits.substr(3, 2).try_cast("int64").fill_null(0)
    sign = offset.startswith("-").ifelse(-1, 1)
    shift = (hours * 60 + minutes) * sign * 60 * MICROSECONDS
    value = has_offset.ifelse(wall - shift, _clock(engine, wall, table, zone).to_utc(wall))
    missing = as_text(text).isnull()
    return Parsed(value, ~missing & wall.isnull(), missing)


def _clock(engine: Engine, wall: ir.Value, table: ir.Table, zone: str) -> LocalTime:
    """The zone's clock over the span of a column of wall-clock times."""
    span = engine.row(table.agg(first=wall.min(), last=wall.max()))
    return LocalTime(zone, (span["first"] or 0) - DAY, (span["last"] or 0) + DAY)
