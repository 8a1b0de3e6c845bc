"""The plain types in which columns of any log are used: int64, float64, boolean, string, and lists of these."""

from collections.abc import Iterable

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from musenet.errors import DataError


def as_column_type(column: ir.Value, name: str) -> ir.Value:
    """A column in one of the plain types: int64, float64 (NaN as NULL), boolean, string, or a list of these.

    Raises:
        DataError: for types that cannot be a feature (structures, maps, binary).
    """
    kind = column.type()
    if isinstance(kind, dt.Array):
        return column.cast(dt.Array(_column_type(kind.value_type, name)))
    target = _column_type(kind, name)
    value = column if kind == target else column.cast(target)
    return value.isnan().ifelse(ibis.null(target), value) if isinstance(target, dt.Float64) else value


def _column_type(kind: dt.DataType, name: str) -> dt.DataType:
    if kind.is_integer():
        return dt.uint64 if kind.is_uint64() else dt.int64
    if kind.is_floating() or kind.is_decimal():
        return dt.float64
    if kind.is_boolean():
        return dt.boolean
    if kind.is_string() or kind.is_temporal() or kind.is_uuid():
        return dt.string
    raise DataError(f"column '{name}' is of type {kind}, which cannot be used: give numbers, text, booleans or lists")


def common_type(types: Iterable[dt.DataType], what: str) -> dt.DataType:
    """The plain type that several columns share.

    Raises:
        DataError: if text meets numbers.
    """
    kinds = set(types)
    if len(kinds) == 1:
        return kinds.pop()
    if all(kind.is_numeric() for kind in kinds):
        return dt.float64 if any(kind.is_floating() for kind in kinds) else dt.int64
    raise DataError(f"{what} is of different types ({', '.join(sorted(map(str, kinds)))}): give all one type")
