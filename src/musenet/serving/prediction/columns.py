"""Columns of tables as a scorer takes them."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.serving.scorer.encoder import Distinct
from musenet.serving.values import Value, ValueForms

Places = NDArray[np.int64]


def plain(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as requests hold it: numbers without fixed digits, none that are not finite, temporal values as text."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = column.type
    if pa.types.is_dictionary(kind):
        return plain(column.cast(kind.value_type))
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
    return column.cast(pa.string()) if pa.types.is_temporal(kind) else column


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers, or nothing."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_of = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    return any(test(kind) for test in is_of)


def texts_of(forms: ValueForms, name: str, column: Distinct[Value]) -> Distinct[str | None]:
    """The one text form of each value of a column; None where missing."""
    return Distinct(forms.texts(name, column.values), column.places)


def spread(column: Distinct[Value], kind: pa.DataType | None = None) -> pa.Array:
    """The column row by row."""
    return pa.array(column.values, kind).take(pa.array(column.places))


def first_rows(keys: Iterable[Places], rows: int) -> Places:
    """(runs,) the first of each run of rows that are alike in all of these columns' numbers."""
    begins = np.ones(rows, dtype=bool)
    begins[1:] = False
    for key in keys:
        begins[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(begins)


def listed(names: Sequence[str], most: int = 30) -> str:
    """The first of them, as a message names them."""
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")
