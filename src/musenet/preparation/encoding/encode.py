"""From ordered relations to `.npy` columns, a chunk of rows at a time."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.dataset.column_files import NewColumn, blocks, mapped
from musenet.dataset.layout import RELATIONS
from musenet.dataset.manifest import MISSING, UNSEEN, Field
from musenet.dataset.texts import text_of
from musenet.engines.engine import ROWS_PER_CHUNK, Engine
from musenet.errors import DataError
from musenet.preparation.encoding.fields import PlannedField
from musenet.preparation.encoding.uncoded import new_uncoded
from musenet.preparation.encoding.vocabulary import Vocabulary
from musenet.preparation.relations.relations import Relations
from musenet.recipe.features import MultiValuedOptions

NUMBERS_PER_COLUMN = 8
"""Of a vector, as many as take the memory of a column or two."""


@dataclass(frozen=True)
class Folders:
    """Of one relation: its folder in the dataset, and one for columns that are needed on the way alone."""

    kept: Path
    passing: Path
    uncoded: Path | None = None
    """For the values that have no code, if these are kept."""

    def of(self, name: str) -> Path:
        """Where a plain column of this name belongs."""
        return self.passing if name.startswith("_") else self.kept


@dataclass(frozen=True)
class InOrder:
    """A table whose rows were stored in an order."""

    table: ir.Table
    order: Sequence[str]

    def chunks(self, engine: Engine, names: Sequence[str], numbers: int = 0) -> Iterator[pa.Table]:
        """These columns, and those of the order, a chunk of rows at a time; rows of so many numbers are large."""
        at_once = max(1, ROWS_PER_CHUNK // (1 + numbers // NUMBERS_PER_COLUMN))
        return engine.chunks(self.table.select(*dict.fromkeys([*names, *self.order])), self.order, at_once)


@dataclass(frozen=True)
class PlainColumn:
    """A column that is written as it is, NULL as `missing`."""

    column: str
    dtype: Any
    missing: float = 0


def encode_relation(
    engine: Engine,
    relation: InOrder,
    rows: int,
    folders: Folders,
    planned: Sequence[PlannedField],
    vocabularies: Mapping[str, Vocabulary],
    plain_columns: Mapping[str, PlainColumn],
    first: int = 0,
) -> None:
    """Write the fields of codes, the raw numbers and vectors of the others (NaN where missing), the plain columns.

    Args:
        engine: where the relation lies.
        relation: its rows.
        rows: rows to write, `first` included.
        folders: of this relation.
        planned: its fields.
        vocabularies: by name.
        plain_columns: file name → column; those that begin with `_` are needed on the way alone.
        first: rows before the relation's first one, filled as unseen.
    """
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(NewColumn(folders.of(name), name, (rows,), column.dtype))
            for name, column in plain_columns.items()
        }
        for entry in planned:
            files[entry.name] = stack.enter_context(new_field(folders, entry, rows))
            if first:
                files[entry.name].append(_unknown(entry, first))
        uncoded = new_uncoded(stack, folders.uncoded, planned, vocabularies)
        columns = list(dict.fromkeys([*(e.column for e in planned), *(c.column for c in plain_columns.values())]))
        wide = sum(entry.vector.vector for entry in planned if entry.vector)
        for chunk in relation.chunks(engine, columns, wide) if columns else ():
            for name, column in plain_columns.items():
                files[name].append(numbers(chunk[column.column], column.missing).astype(column.dtype))
            for entry in planned:
                values = encoded(chunk[entry.column], entry, vocabularies)
                files[entry.name].append(values)
                if entry in uncoded:
                    uncoded[entry].add(chunk[entry.column], values, first)
            first += chunk.num_rows


def rewrite(
    folders: Folders, source: str, name: str, dtype: Any, become: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    """A column made of another, a block at a time."""
    raw = folders.of(source), source
    with NewColumn(folders.kept, name, (len(mapped(*raw)),), dtype) as column:
        for _, block in blocks(*raw):
            column.append(become(block))


def new_field(folders: Folders, entry: PlannedField, rows: int) -> NewColumn:
    """The file of a field's codes, or of its raw numbers or vectors."""
    if entry.vector:
        return NewColumn(folders.passing, entry.name, (rows, entry.vector.vector), np.float32)
    if entry.numeric:
        return NewColumn(folders.passing, entry.name, (rows,), np.float64)
    return NewColumn(folders.kept, entry.name, (rows, *((entry.list_length,) if entry.list_length else ())), np.int32)


def encoded(column: pa.ChunkedArray, entry: PlannedField, vocabularies: Mapping[str, Vocabulary]) -> NDArray[Any]:
    """(rows) codes, (rows, width) if the field is multi-valued; numbers and vectors are themselves."""
    if entry.vector:
        return _vectors(column, entry, entry.vector.vector)
    if entry.numeric:
        return numbers(column, np.nan)
    vocabulary = vocabularies[entry.vocabulary]
    return vocabulary.encode_lists(column, entry.list_length) if entry.list_length else vocabulary.encode(column)


def _unknown(entry: PlannedField, rows: int) -> NDArray[Any]:
    """What the unseen user or item has in a field."""
    if entry.vector:
        return np.full((rows, entry.vector.vector), np.nan)
    if entry.numeric:
        return np.full(rows, np.nan)
    codes = np.zeros((rows, entry.list_length or 1), dtype=np.int32)
    codes[:, 0] = UNSEEN if entry.is_id else MISSING
    return codes if entry.list_length else codes[:, 0]


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


def check_types(relations: Relations, planned: Iterable[PlannedField]) -> None:
    """Refuse text under `numeric`, and lists where one value is wanted or the other way round, before any computing.

    Raises:
        DataError: naming the column.
    """
    for entry in planned:
        kind = getattr(relations, RELATIONS[entry.side])[entry.column].type()
        where = f"features.{entry.feature.side}: column '{entry.source}'"
        if entry.numeric and not (kind.is_numeric() or kind.is_boolean()):
            raise DataError(f"{where} is numeric, but holds {kind}s")
        if entry.list_length is not None and not (kind.is_array() or kind.is_string()):
            raise DataError(f"{where} is multi_valued, but holds neither lists nor text: it holds {kind}s")
        if entry.vector and not (kind.is_array() and kind.value_type.is_numeric()):
            raise DataError(f"{where} is a vector, but holds {kind}s: give lists of numbers")
        if kind.is_array() and not entry.vector and entry.list_length is None:
            raise DataError(f"{where} holds lists: say {{{entry.source}: multi_valued}}, or how long a vector it is")


def split_texts(engine: Engine, relations: Relations, planned: Iterable[PlannedField]) -> Relations:
    """The relations with multi-valued text as lists: parts between separators, stripped, empty ones left out."""
    for entry in planned:
        options = entry.feature.options
        if not isinstance(options, MultiValuedOptions):
            continue
        name = RELATIONS[entry.side]
        table: ir.Table = getattr(relations, name)
        column = table[entry.column]
        if column.type().is_string():
            parts = engine.split(column, options.multi_valued).map(lambda part: part.strip())
            relations = replace(
                relations, **{name: table.mutate(**{entry.column: parts.filter(lambda part: part != "")})}
            )
    return relations


def bucketed_field(entry: PlannedField) -> Field:
    """The categorical field of a numeric column's quantile buckets."""
    return Field(
        name=entry.name,
        side=entry.side,
        kind="categorical",
        vocabulary=entry.vocabulary,
        is_bucketed=True,
        column=entry.source,
    )


def category_field(entry: PlannedField) -> Field:
    """The field of a categorical, multi-valued or position column."""
    return Field(
        name=entry.name,
        side=entry.side,
        kind="categorical" if entry.list_length is None else "multi_valued",
        vocabulary=entry.vocabulary,
        width=entry.list_length or 1,
        is_id=entry.is_id,
        is_position=entry.feature.type == "position",
        column=entry.source,
    )


def combination_codes(
    engine: Engine, relation: InOrder, names: Sequence[str], folder: Path, file: str
) -> tuple[NDArray[np.int64], list[str], int]:
    """The combinations of values that a table's rows have, in order of the values, NULL last.

    Returns:
        A number for each combination, ascending, which is what the column `file` then holds of each row; their names;
        and the place among them of the one that is all NULL, or -1.
    """
    distinct = {name: _sorted_values(engine, relation.table, name) for name in names}
    found = np.zeros(0, dtype=np.int64)
    with NewColumn(folder, file, (engine.count(relation.table),), np.int64) as column:
        for chunk in relation.chunks(engine, names):
            mixed = np.zeros(chunk.num_rows, dtype=np.int64)
            for name, values in distinct.items():
                index = pc.fill_null(pc.index_in(chunk[name].combine_chunks(), value_set=values), len(values))
                mixed = mixed * (len(values) + 1) + index.to_numpy(zero_copy_only=False)
            column.append(mixed)
            found = np.union1d(found, mixed)
    texts = {name: [*text_of(values).to_pylist(), "missing"] for name, values in distinct.items()}
    places = np.unravel_index(found, [len(texts[name]) for name in names])
    labels = [
        ", ".join(f"{name}={texts[name][place]}" for name, place in zip(names, of, strict=True))
        for of in zip(*places, strict=True)
    ]
    nothing = math.prod(map(len, texts.values())) - 1  # missing is the last of each
    return found, labels, len(found) - 1 if len(found) and found[-1] == nothing else -1


def _sorted_values(engine: Engine, table: ir.Table, name: str) -> pa.Array:
    values = table.select(name).distinct()
    found = engine.read(values.filter(values[name].notnull()).order_by(name).limit(10_001))[name].combine_chunks()
    if len(found) > 10_000:
        raise DataError(f"column '{name}' has more than 10000 values: a scenario column has few")
    return found
