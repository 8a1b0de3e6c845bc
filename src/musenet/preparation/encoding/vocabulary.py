"""Vocabularies: which values of the training period have a code of their own, and which."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.dataset.codes import encode_lists
from musenet.dataset.layout import OCCURRENCES, VALUE
from musenet.dataset.manifest import FIRST_VALUE, MISSING, UNSEEN
from musenet.dataset.texts import text_of
from musenet.dataset.writer import write_vocabulary
from musenet.engines.column_types import common_type
from musenet.engines.engine import ROWS_PER_CHUNK, Engine

Codes = NDArray[np.int32]
TABLE_SIZE = 1 << 23
"""Whole numbers within such a span are looked up in a table rather than searched for."""


@dataclass(frozen=True)
class Vocabulary:
    """The values that have codes of their own, by count in training, then value."""

    name: str
    values: pa.Array
    counts: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Number of codes, padding left out: unseen, missing and the values."""
        return len(self.values) + FIRST_VALUE - 1

    def encode(self, column: pa.Array | pa.ChunkedArray) -> Codes:
        """(rows) codes: 2 where NULL, 1 where the value has no code of its own."""
        flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        flat = flat.cast(self.values.type)
        codes = self._encode_numbers(flat) if self._table is not None else self._encode_any(flat)
        if flat.null_count:
            codes[flat.is_null().to_numpy(zero_copy_only=False)] = MISSING
        return codes

    def _encode_any(self, flat: pa.Array) -> Codes:
        if len(self.values) > ROWS_PER_CHUNK:
            return self._encode_by_hash(flat)
        found = pc.fill_null(pc.index_in(flat, value_set=self.values), UNSEEN - FIRST_VALUE)
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int32) + np.int32(FIRST_VALUE)

    def _encode_by_hash(self, flat: pa.Array) -> Codes:
        """Arrow's set lookup would hash all values again for every chunk of rows."""
        seed, hashes, codes = self._hashes
        asked, rows = np.unique(_hashed(flat, seed), return_inverse=True)
        found = codes[np.searchsorted(hashes, asked).clip(max=len(hashes) - 1)][rows]
        same = pc.fill_null(pc.equal(self.values.take(pa.array(found - FIRST_VALUE)), flat), False)
        return np.where(same.to_numpy(zero_copy_only=False), found, np.int32(UNSEEN))

    def _encode_numbers(self, flat: pa.Array) -> Codes:
        assert self._table is not None
        lowest, table = self._table
        numbers = pc.fill_null(flat, lowest).to_numpy(zero_copy_only=False)
        # The table's ends stand for all that lies beyond its values.
        return np.asarray(table[np.clip(numbers, lowest, lowest + len(table) - 1) - lowest])

    @cached_property
    def _hashes(self) -> tuple[int, NDArray[np.uint64], Codes]:
        """A seed by which no two values have one hash; the hashes, ascending, and the code of each."""
        for seed in count():
            hashes = _hashed(self.values, seed)
            order = np.argsort(hashes)
            ordered = hashes[order]
            if (ordered[1:] > ordered[:-1]).all():
                break
        return seed, ordered, (order + FIRST_VALUE).astype(np.int32)

    @cached_property
    def _table(self) -> tuple[int, Codes] | None:
        """The number before the lowest value, and the code of each from there on; None where a table does not pay."""
        if not pa.types.is_int64(self.values.type) or not len(self.values):
            return None
        numbers = self.values.to_numpy()
        lowest, highest = int(numbers.min()), int(numbers.max())
        if highest - lowest > TABLE_SIZE or lowest == np.iinfo(np.int64).min or highest == np.iinfo(np.int64).max:
            return None
        table = np.full(highest - lowest + 3, UNSEEN, dtype=np.int32)
        table[numbers - lowest + 1] = np.arange(len(numbers), dtype=np.int32) + FIRST_VALUE
        return lowest - 1, table

    def encode_lists(self, column: pa.Array | pa.ChunkedArray, width: int) -> Codes:
        """(rows, width) codes of the first distinct values of each list, padded; (2, 0, …) where it holds none."""
        return encode_lists(column, width, self.encode)

    def write(self, folder: Path) -> None:
        """Write the text of each value and its count into a dataset's folder."""
        write_vocabulary(folder, self.name, text_of(self.values), self.counts)


@dataclass(frozen=True)
class Occurrences:
    """A column that a vocabulary is fitted on: its value in each row, and how often the row counts."""

    table: ir.Table
    column: str
    weight: str | None
    """Column of `table`; every row counts once, if None."""

    @property
    def value_type(self) -> dt.DataType:
        """Type of a value; of those in its lists, if it holds lists."""
        kind = self.table[self.column].type()
        return (kind.value_type if kind.is_array() else kind)(nullable=True)

    def counted(self, kind: dt.DataType) -> ir.Table:
        """Values, NULL left out, with their counts."""
        value = self.table[self.column]
        weight = ibis.literal(1, "int64") if self.weight is None else self.table[self.weight].cast("int64")
        rows = self.table.select(**{VALUE: value, OCCURRENCES: weight})
        if value.type().is_array():
            # A value counts once in a row, however often its list repeats it.
            rows = rows.mutate(**{VALUE: rows[VALUE].unique()})
            rows = rows.select(rows[VALUE].unnest().name(VALUE), OCCURRENCES)
        rows = rows.filter(rows[VALUE].notnull()).mutate(**{VALUE: rows[VALUE].cast(kind)})
        return rows.group_by(VALUE).aggregate(**{OCCURRENCES: rows[OCCURRENCES].sum().cast("int64")})


def _hashed(values: pa.Array, seed: int) -> NDArray[np.uint64]:
    """A number of 64 bits for each value."""
    return pl.Series(values).hash(seed).to_numpy()


def never_trained(engine: Engine, training: Sequence[Occurrences], later: Occurrences) -> tuple[int, int, int]:
    """How many of a later column's occurrences have a value that training never had, rare ones included.

    Returns:
        Occurrences with such a value, occurrences with any value, number of distinct values in training.
    """
    kind = later.value_type
    counted = [source.counted(kind).select(VALUE) for source in training]
    seen = counted[0].distinct()
    for table in counted[1:]:
        seen = seen.union(table, distinct=True)
    asked = later.counted(kind)
    new = asked.anti_join(seen, VALUE)
    total, fresh = (engine.row(table.aggregate(rows=table[OCCURRENCES].sum()))["rows"] for table in (asked, new))
    return int(str(fresh or 0)), int(str(total or 0)), engine.count(seen)


def fit_vocabulary(engine: Engine, name: str, columns: Sequence[Occurrences], min_count: int) -> Vocabulary:
    """The values that occur at least `min_count` times in training, in these columns together.

    Raises:
        DataError: if one of the columns is text and another a number.
    """
    kind = common_type([source.value_type for source in columns], f"vocabulary '{name}'")
    counted = [source.counted(kind) for source in columns]
    together = counted[0]
    for table in counted[1:]:
        together = together.union(table)
    if len(counted) > 1:
        together = together.group_by(VALUE).aggregate(**{OCCURRENCES: together[OCCURRENCES].sum().cast("int64")})
    frequent = together.filter(together[OCCURRENCES] >= min_count)
    stored = engine.store(f"vocabulary_{name}", frequent)
    found = engine.read(stored.order_by([stored[OCCURRENCES].desc(), stored[VALUE].asc()]))
    counts = found[OCCURRENCES].to_numpy().astype(np.int64)
    return Vocabulary(name, found[VALUE].combine_chunks(), counts)
