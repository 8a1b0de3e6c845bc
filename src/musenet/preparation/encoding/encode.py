"""From ordered relations to `.npy` columns, a chunk of rows at a time."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from musenet.preparation.encoding.coding import Coding, EventCoding, FieldCoding, field_column, uncoded_column
from musenet.preparation.encoding.fields import PlannedField
from musenet.preparation.encoding.uncoded import new_uncoded
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
        return engine.chunks(self._select(names), self.order, _rows_at_once(numbers))

    def through(self, engine: Engine, become: Coding | EventCoding, numbers: int = 0) -> Iterator[pa.Table]:
        """What becomes of the rows, wherever the engine makes it of them."""
        return engine.through(self._select(become.columns), self.order, become, become.schema, _rows_at_once(numbers))

    def _select(self, names: Sequence[str]) -> ir.Table:
        return self.table.select(*dict.fromkeys([*names, *self.order]))


def _rows_at_once(numbers: int) -> int:
    return max(1, ROWS_PER_CHUNK // (1 + numbers // NUMBERS_PER_COLUMN))


class FieldFiles:
    """The files of a side's fields, written from their beginning and closed with the stack.

    Args:
        stack: closes them.
        folders: of the relation.
        coding: what is written.
        rows: of each.
    """

    def __init__(self, stack: ExitStack, folders: Folders, coding: FieldCoding, rows: int) -> None:
        self._files = {
            entry: stack.enter_context(_new_file(folders, entry, coding.written_type(entry), rows))
            for entry in coding.planned
        }
        self._uncoded = new_uncoded(stack, folders.uncoded, coding.uncoded, coding.vocabularies)

    def append_unknown(self, rows: int) -> None:
        """Write what the unseen user or item has."""
        for entry, file in self._files.items():
            file.append(_unknown(entry, rows))

    def append(self, coded: pa.Table, first: int) -> None:
        """Write the next rows, of which the first has this number."""
        for entry, file in self._files.items():
            file.append(as_array(coded[field_column(entry)]))
        for entry, kept in self._uncoded.items():
            kept.add(coded[uncoded_column(entry)], first)


def encode_relation(
    engine: Engine, relation: InOrder, rows: int, folders: Folders, coding: Coding, first: int = 0
) -> None:
    """Write the fields of codes, the raw numbers and vectors of the others (NaN where missing), the plain columns.

    Args:
        engine: where the relation lies.
        relation: its rows.
        rows: rows to write, `first` included.
        folders: of this relation.
        coding: what becomes of the rows; plain columns that begin with `_` are needed on the way alone.
        first: rows before the relation's first one, filled as unseen.
    """
    with ExitStack() as stack:
        plain = {
            name: stack.enter_context(NewColumn(folders.of(name), name, (rows,), column.dtype))
            for name, column in coding.plain.items()
        }
        files = FieldFiles(stack, folders, coding.fields, rows)
        if first:
            files.append_unknown(first)
        for coded in relation.through(engine, coding, coding.fields.wide) if coding.columns else ():
            for name, file in plain.items():
                file.append(as_array(coded[name]))
            files.append(coded, first)
            first += coded.num_rows


def as_array(column: pa.ChunkedArray) -> NDArray[Any]:
    """(rows) or (rows, width) of a column without NULL."""
    flat = column.combine_chunks()
    if pa.types.is_fixed_size_list(flat.type):
        return np.asarray(flat.flatten().to_numpy(zero_copy_only=False)).reshape(-1, flat.type.list_size)
    return np.asarray(flat.to_numpy(zero_copy_only=False))


def _new_file(folders: Folders, entry: PlannedField, kind: pa.DataType, rows: int) -> NewColumn:
    """The file of a field's codes, or of its raw numbers or vectors."""
    listed = pa.types.is_fixed_size_list(kind)
    value = (kind.value_type if listed else kind).to_pandas_dtype()
    folder = folders.kept if value is np.int32 else folders.passing
    return NewColumn(folder, entry.name, (rows, kind.list_size) if listed else (rows,), value)


def rewrite(
    folders: Folders, source: str, name: str, dtype: Any, become: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    """A column made of another, a block at a time."""
    raw = folders.of(source), source
    with NewColumn(folders.kept, name, (len(mapped(*raw)),), dtype) as column:
        for _, block in blocks(*raw):
            column.append(become(block))


def _unknown(entry: PlannedField, rows: int) -> NDArray[Any]:
    """What the unseen user or item has in a field."""
    if entry.vector:
        return np.full((rows, entry.vector.vector), np.nan)
    if entry.numeric:
        return np.full(rows, np.nan)
    codes = np.zeros((rows, entry.list_length or 1), dtype=np.int32)
    codes[:, 0] = UNSEEN if entry.is_id else MISSING
    return codes if entry.list_length else codes[:, 0]


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
