"""What becomes of rows before they are written: functions of chunks and nothing else, wherever an engine runs them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.ahead import ahead
from musenet.dataset.codes import sort_ties
from musenet.dataset.numeric import NumericTransform
from musenet.dataset.roles import TIME
from musenet.errors import DataError
from musenet.preparation.encoding.fields import PlannedField
from musenet.preparation.encoding.uncoded import lacks_codes
from musenet.preparation.encoding.vocabulary import Vocabulary
from musenet.preparation.relations.event_stream import AGAIN, IN_REPEATS, whole_runs
from musenet.preparation.relations.histories import IN_HISTORY
from musenet.preparation.relations.requests import USER_ROW


@dataclass(frozen=True)
class PlainColumn:
    """A column that is written as it is, NULL as `missing`."""

    column: str
    dtype: Any
    missing: float = 0


@dataclass(frozen=True)
class FieldCoding:
    """Columns of a log as the fields of a side, each in the form in which it is written first.

    Args:
        planned: the fields.
        vocabularies: by name.
        transforms: of numbers that become the buckets of a feature of that vocabulary; all others stay raw numbers.
        keeps_uncoded: values without a code come along.
    """

    planned: Sequence[PlannedField]
    vocabularies: Mapping[str, Vocabulary]
    transforms: Mapping[str, NumericTransform]
    keeps_uncoded: bool

    @property
    def columns(self) -> list[str]:
        """Those of the log."""
        return [entry.column for entry in self.planned]

    @property
    def wide(self) -> int:
        """Numbers that the vectors of one row have together."""
        return sum(entry.vector.vector for entry in self.planned if entry.vector)

    @property
    def schema(self) -> list[pa.Field]:
        """Of `arrays`, by the names of `field_column` and `uncoded_column`."""
        kept = [pa.field(uncoded_column(entry), self._value_type(entry)) for entry in self.uncoded]
        return [pa.field(field_column(entry), self.written_type(entry)) for entry in self.planned] + kept

    @property
    def uncoded(self) -> list[PlannedField]:
        """The fields whose values without a code come along."""
        return [entry for entry in self.planned if entry.has_codes and self.keeps_uncoded]

    def written_type(self, entry: PlannedField) -> pa.DataType:
        """Codes, raw numbers or vectors, as they are written."""
        if entry.vector:
            return pa.list_(pa.float32(), entry.vector.vector)
        if entry.numeric and entry.vocabulary not in self.transforms:
            return pa.float64()
        return pa.list_(pa.int32(), entry.list_length) if entry.list_length else pa.int32()

    def _value_type(self, entry: PlannedField) -> pa.DataType:
        kind = self.vocabularies[entry.vocabulary].values.type
        return kind if entry.list_length is None else pa.list_(kind)

    def values(self, chunk: pa.Table) -> list[NDArray[Any]]:
        """(rows) or (rows, width) of each field."""
        return [self._values(chunk[entry.column], entry) for entry in self.planned]

    def _values(self, column: pa.ChunkedArray, entry: PlannedField) -> NDArray[Any]:
        found = encoded(column, entry, self.vocabularies)
        transform = self.transforms.get(entry.vocabulary) if entry.numeric else None
        return found if transform is None else transform.bucket(found)

    def arrays(self, chunk: pa.Table, values: Sequence[NDArray[Any]]) -> list[pa.Array]:
        """A chunk's values as `schema` names them, and of its columns what has no code, NULL elsewhere."""
        arrays = [_as_arrow(of, self.written_type(entry)) for entry, of in zip(self.planned, values, strict=True)]
        for entry, of in zip(self.planned, values, strict=True):
            if entry in self.uncoded:
                column = chunk[entry.column].combine_chunks().cast(self._value_type(entry))
                lacking = pa.array(lacks_codes(column, of))
                arrays.append(pc.if_else(lacking, column, pa.scalar(None, column.type)))
        return arrays


@dataclass(frozen=True)
class Coding:
    """Rows of users, items, requests or candidates as they are written.

    Args:
        fields: of the side.
        plain: file name → column.
    """

    fields: FieldCoding
    plain: Mapping[str, PlainColumn]

    @property
    def schema(self) -> pa.Schema:
        """Of what is made: the plain columns by their names, then the fields."""
        plain = [pa.field(name, pa.from_numpy_dtype(column.dtype)) for name, column in self.plain.items()]
        return pa.schema([*plain, *self.fields.schema])

    @property
    def columns(self) -> list[str]:
        """Those of the relation."""
        return list(dict.fromkeys([*self.fields.columns, *(column.column for column in self.plain.values())]))

    def __call__(self, chunks: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """The same rows, encoded."""
        for chunk in chunks:
            plain = [
                pa.array(numbers(chunk[column.column], column.missing).astype(column.dtype))
                for column in self.plain.values()
            ]
            yield pa.table([*plain, *self.fields.arrays(chunk, self.fields.values(chunk))], schema=self.schema)


@dataclass(frozen=True)
class EventCoding:
    """Events in order of user and time as they are written; those of one user and time in order of their codes.

    Args:
        fields: of the history.
        repeats: whether they are marked as repeats.
    """

    fields: FieldCoding
    repeats: bool

    @property
    def schema(self) -> pa.Schema:
        """Of what is made."""
        return pa.schema([*self._own, *self.fields.schema])

    @property
    def _own(self) -> pa.Schema:
        flags = (IN_HISTORY, IN_REPEATS, *([AGAIN] if self.repeats else []))
        return pa.schema([(USER_ROW, pa.int32()), (TIME, pa.int64()), *((name, pa.bool_()) for name in flags)])

    @property
    def columns(self) -> list[str]:
        """Those of the events."""
        return list(dict.fromkeys([*self._own.names, *self.fields.columns]))

    def __call__(self, chunks: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """The same rows, encoded; no chunk ends between two of one user and time."""
        yield from ahead(map(self._encoded, whole_runs(chunks)))

    def _encoded(self, chunk: pa.Table) -> pa.Table:
        every = self.fields.values(chunk)
        stored = np.flatnonzero(numbers(chunk[IN_HISTORY], 0))
        user, time = (numbers(chunk[name], 0)[stored] for name in (USER_ROW, TIME))
        place = stored.copy()
        sort_ties(user, time, [*(values[stored] for values in every), place])
        order = np.arange(chunk.num_rows)
        order[stored] = place
        if (order[stored] != stored).any():
            chunk, every = chunk.take(pa.array(order)), [values[order] for values in every]
        own = chunk.select(self._own.names).cast(self._own).columns
        return pa.table([*own, *self.fields.arrays(chunk, every)], schema=self.schema)


def field_column(entry: PlannedField) -> str:
    """Where a field stands among what is made of rows."""
    return f"field/{entry.name}"


def uncoded_column(entry: PlannedField) -> str:
    """Where the values without a code of a field stand among what is made of rows."""
    return f"uncoded/{entry.name}"


def encoded(column: pa.ChunkedArray, entry: PlannedField, vocabularies: Mapping[str, Vocabulary]) -> NDArray[Any]:
    """(rows) codes, (rows, width) if the field is multi-valued; numbers and vectors are themselves."""
    if entry.vector:
        return _vectors(column, entry, entry.vector.vector)
    if entry.numeric:
        return numbers(column, np.nan)
    vocabulary = vocabularies[entry.vocabulary]
    return vocabulary.encode_lists(column, entry.list_length) if entry.list_length else vocabulary.encode(column)


def numbers(column: pa.ChunkedArray, missing: float) -> NDArray[Any]:
    """A column of numbers or booleans, NULL as `missing`; integers stay integers."""
    flat = column.combine_chunks()
    if pa.types.is_boolean(flat.type):
        flat = flat.cast(pa.int8())
    if flat.null_count:
        if np.isnan(missing):
            flat = flat.cast(pa.float64())
        flat = pc.fill_null(flat, pa.scalar(missing).cast(flat.type))
    return np.asarray(flat.to_numpy(zero_copy_only=False))


def _vectors(column: pa.ChunkedArray, entry: PlannedField, width: int) -> NDArray[np.float32]:
    """(rows, width) the lists themselves, NaN where a row has none.

    Raises:
        DataError: for a list of another length.
    """
    flat = column.combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(flat), 0).to_numpy(zero_copy_only=False)
    there = lengths > 0
    if (lengths[there] != width).any():
        odd = int(lengths[there & (lengths != width)][0])
        raise DataError(
            f"features.{entry.side}: column '{entry.source}' is a vector of {width} numbers, but holds a list of {odd}"
        )
    vectors = np.full((len(flat), width), np.nan, dtype=np.float32)
    numbers = pc.list_flatten(flat).cast(pa.float32(), safe=False)
    vectors[there] = numbers.to_numpy(zero_copy_only=False).reshape(-1, width)
    return vectors


def _as_arrow(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """(rows) or (rows, width) as a column, in lists of `width`."""
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(_as_arrow(values.ravel(), kind.value_type), kind.list_size)
    return pa.array(values.astype(kind.to_pandas_dtype(), copy=False))
