"""What the values of a log's columns mean: numbers, ids and labels, however they were written down."""

from collections.abc import Collection
from dataclasses import dataclass

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from musenet.dataset.texts import LARGEST_EXACT_FLOAT, NO_NUMBERS, NO_TEXTS, READABLE, WHOLE
from musenet.engines.engine import Engine
from musenet.errors import DataError

_YES, _NO = ("true", "t", "yes", "y"), ("false", "f", "no", "n")
LARGEST_NUMBER = 3e38
"""That models, which reckon in 32 bits, can hold."""


@dataclass(frozen=True)
class Parsed:
    """A column read as what it should be, and the rows in which it is not that."""

    value: ir.Value
    wrong: ir.BooleanValue
    missing: ir.BooleanValue


def with_plain_text(table: ir.Table, missing: Collection[str]) -> ir.Table:
    """A table whose texts are without blanks around them; NULL where texts mean that there is no value, and for NaN.

    Args:
        table: of any types.
        missing: texts that mean that, besides those that always do.
    """
    nothing, kinds = [*NO_TEXTS, *missing], table.schema().items()
    plain = {name: _plain(table[name], nothing) for name, kind in kinds if kind.is_string()}
    floats = {
        name: table[name].isnan().ifelse(ibis.null(kind), table[name]) for name, kind in kinds if kind.is_floating()
    }
    return table.mutate(**plain, **floats)


def _plain(column: ir.StringValue, nothing: Collection[str]) -> ir.StringValue:
    text = column.strip()
    return text.isin(nothing).ifelse(ibis.null("string"), text)


def as_text(column: ir.Value) -> ir.Value:
    """Text, empty being missing."""
    return column.cast("string").nullif("")


def is_whole(number: ir.NumericValue) -> ir.BooleanValue:
    """Whether floats have no fraction; of a floor or a rounded number engines make int64, which not all floats fit."""
    return number % 1 == 0


def as_plain_text(column: ir.FloatingValue) -> ir.Value:
    """Floats as text, whole ones without a fraction, as `musenet.dataset.texts.text_of` writes them."""
    whole = is_whole(column) & (column.abs() < LARGEST_EXACT_FLOAT)
    return whole.ifelse(whole.ifelse(column, 0.0).cast("int64").cast("string"), column.cast("string"))


def as_kind(column: ir.Value) -> ir.Value:
    """A kind of events as text, in the one form that `musenet.dataset.texts.kind_text` gives."""
    text = as_text(column)
    return text.re_search(WHOLE).ifelse(text.re_replace(r"[.]0*$", ""), text)


def read_as(text: ir.Value, pattern: str, kind: str) -> ir.Value:
    """Text as a number or time if it has this form, else NULL.

    Engines take more for one than they agree on: `1_000` and `0x1F`, `1d`, `epoch`, or `1.5` for a whole number.
    """
    return text.re_search(pattern).ifelse(text, ibis.null("string")).try_cast(kind)


def as_number(column: ir.Value, *, whole: bool = False) -> Parsed:
    """A number; text is tried, and numbers larger than a model can hold are wrong.

    Raises:
        DataError: for types that no number can be read from.
    """
    kind = column.type()
    if isinstance(kind, dt.String):
        text = column.strip().lower()
        missing = column.isnull() | text.isin(NO_NUMBERS)
        number = read_as(text, READABLE, "float64")
    elif kind.is_numeric() or isinstance(kind, dt.Boolean | dt.Unknown):
        number = column.cast("float64")
        missing = number.isnull() | number.isnan()
    else:
        raise DataError(f"holds {kind}, not numbers")
    # NaN is above all numbers. One condition on purpose: inside a CASE, DuckDB computes anew what conditions share.
    fits = number.abs() <= LARGEST_NUMBER
    if whole:
        fits &= is_whole(number) & (number.abs() <= LARGEST_EXACT_FLOAT)
    value = fits.ifelse(number, ibis.null("float64"))
    if whole:
        value = value.cast("int64")
    elif kind.is_integer():
        value = column
    return Parsed(value, ~missing & ~fits.fill_null(False), missing)


def as_vector(column: ir.Value, length: int) -> Parsed:
    """A list of so many finite numbers, each of which a model can hold; text in it is tried. An empty one is missing.

    Raises:
        DataError: for what is no list, or one of anything else.
    """
    kind = column.type()
    inner = kind.value_type if isinstance(kind, dt.Array) else dt.null
    if inner.is_string():
        numbers = column.map(lambda text: read_as(text.strip(), READABLE, "float64"))
    elif inner.is_numeric() and not inner.is_boolean():
        numbers = column.cast(dt.Array(dt.float64))
    else:
        raise DataError(f"holds {kind}, not lists of numbers: give vectors as lists, in Parquet, JSON lines or frames")
    odd = numbers.filter(lambda one: one.isnull() | one.isnan() | (one.abs() > LARGEST_NUMBER)).length() > 0
    missing = column.isnull() | (column.length() == 0)
    wrong = ~missing & (odd | (numbers.length() != length))
    return Parsed((missing | wrong).ifelse(ibis.null(numbers.type()), numbers), wrong, missing)


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
        broken = ~is_whole(number) | (number.abs() > LARGEST_EXACT_FLOAT)
        if engine.count(table.filter(broken)):
            raise DataError("holds fractions or numbers too large for a float: store ids as integers or text")
        return number.cast("int64")
    if isinstance(kind, dt.String | dt.UInt64 | dt.UUID | dt.Unknown):
        return as_text(column)
    raise DataError(f"is of type {kind}: ids are integers or text")


def as_label(column: ir.Value, positive_kinds: list[str] | None) -> Parsed:
    """1 or 0 from booleans, numbers or text; or whether the column names one of the positive kinds."""
    if positive_kinds is not None:
        text = as_kind(column)
        return Parsed(text.isin(positive_kinds).cast("int8"), ibis.literal(False), text.isnull())
    if isinstance(column.type(), dt.String):
        text = column.strip().lower()
        column = ibis.cases((text.isin(_YES), "1"), (text.isin(_NO), "0"), else_=text)
    number = as_number(column)
    answers = number.value.isin([0, 1])
    value = answers.ifelse(number.value.try_cast("int8"), ibis.null("int8"))
    return Parsed(value, ~number.missing & ~answers.fill_null(False), number.missing)
