"""Columns of tables as a scorer takes them."""

import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.dataset.texts import kind_text, number_text, text_of
from musenet.serving.scorer.encoder import Distinct, Told_co
from musenet.serving.values import Value, ValueForms

Places = NDArray[np.int64]
_TRUTHS = dict.fromkeys(("true", "t", "yes", "y"), "1") | dict.fromkeys(("false", "f", "no", "n"), "0")


def plain(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as requests hold it: decimals as floats, numbers that are not finite as missing, times as text."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = column.type
    if pa.types.is_dictionary(kind):
        return plain(column.cast(kind.value_type))
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    if any(test(kind) for test in (pa.types.is_large_string, pa.types.is_string_view)):
        return column.cast(pa.string())
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
    return column.cast(pa.string()) if pa.types.is_temporal(kind) else column


def may_be_number(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold numbers, or nothing."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return not (pa.types.is_nested(kind) or pa.types.is_temporal(kind))


def of_one_type(tables: list[pa.Table]) -> list[pa.Table]:
    """Parts of one table, with columns that they hold in several types as text."""
    for place, name in enumerate(tables[0].column_names):
        if len({table.schema.field(name).type for table in tables}) > 1:
            texts = [text_of(plain(table[name])) for table in tables]
            tables = [table.set_column(place, name, text) for table, text in zip(tables, texts, strict=True)]
    return tables


def texts_of(forms: ValueForms, name: str, column: Distinct[Value]) -> Distinct[str | None]:
    """The one text form of each value of a column; None where missing."""
    values = column.values
    texts = forms.texts_of_array(name, values) if isinstance(values, pa.Array) else forms.texts(name, values)
    return Distinct(texts, column.places)


def in_form(forms: ValueForms, name: str, column: Distinct[Value]) -> Distinct[Value]:
    """The column's values in their form; see `ValueForms.values`."""
    values = column.values
    kept = forms.values_of_array(name, values) if isinstance(values, pa.Array) else forms.values(name, values)
    return Distinct(kept, column.places)


def labels_of(
    forms: ValueForms, name: str, column: Distinct[Value], positives: Collection[str] | None
) -> NDArray[np.float64]:
    """(rows,) 1 or 0 as preparation reads a label, NaN where there is none.

    Args:
        forms: what the log's columns hold.
        name: of the column.
        column: its values.
        positives: the values that are positive; those that mean 1, if None.
    """
    texts = forms.texts(name, listed_values(column))
    return np.array([_label(text, positives) for text in texts], dtype=np.float64)[column.places]


def _label(text: str | None, positives: Collection[str] | None) -> float:
    if text is None:
        return math.nan
    if positives is not None:
        return float(kind_text(text) in positives)
    word = _TRUTHS.get(text.lower(), text)
    return {"0": 0.0, "1": 1.0}.get(number_text(word, "whole"), math.nan)


def spread(column: Distinct[Value], kind: pa.DataType | None = None) -> pa.Array:
    """The column row by row."""
    values = column.values if isinstance(column.values, pa.Array) else pa.array(column.values, kind)
    return values.take(pa.array(column.places))


def is_there(column: Distinct[Value]) -> NDArray[np.bool_]:
    """(rows,) whether there is a value."""
    values = column.values
    if isinstance(values, pa.Array):
        there: NDArray[np.bool_] = values.is_valid().to_numpy(zero_copy_only=False)
    else:
        there = np.array([value is not None for value in values], dtype=bool)
    return there[column.places]


def listed_values(column: Distinct[Told_co]) -> Sequence[Told_co]:
    """The distinct values as Python has them."""
    values: Sequence[Told_co]
    values = column.values.to_pylist() if isinstance(column.values, pa.Array) else column.values
    return values


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
