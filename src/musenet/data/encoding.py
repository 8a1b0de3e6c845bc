"""From ordered relations to `.npy` columns, a million rows at a time."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from musenet.data.dataset import FIRST_VALUE, MISSING, UNSEEN, Field
from musenet.data.engine import Engine
from musenet.data.features import FloatArray, MultiValuedOptions, NumericTransform
from musenet.data.fields import PlannedField
from musenet.data.relations import Relations
from musenet.data.vocabulary import OCCURRENCES, VALUE, Vocabulary, text_of
from musenet.errors import DataError


@dataclass(frozen=True)
class PlainColumn:
    """A column that is written as it is, NULL as `missing`."""

    column: str
    dtype: Any
    missing: float = 0


def create_column(folder: Path, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """A new `.npy` file of this shape, mapped into memory to be filled."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.npy"
    array: NDArray[Any] = np.lib.format.open_memmap(file, mode="w+", dtype=np.dtype(dtype), shape=shape)
    # A disk that fills up while a mapped file is written kills the process: take the space now, or raise.
    if hasattr(os, "posix_fallocate"):
        with file.open("rb+") as handle:
            os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)
    return array


def write_column(folder: Path, name: str, values: NDArray[Any]) -> None:
    """Write one `.npy` column."""
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{name}.npy", values, allow_pickle=False)


def encode_relation(
    engine: Engine,
    table: ir.Table,
    rows: int,
    folder: Path,
    planned: Sequence[PlannedField],
    vocabularies: Mapping[str, Vocabulary],
    plain_columns: Mapping[str, PlainColumn],
    first: int = 0,
) -> dict[str, FloatArray]:
    """Write the categorical fields and plain columns of an ordered relation.

    Args:
        engine: where the relation lies.
        table: in the order of its rows.
        rows: rows to write, `first` included.
        folder: of this relation in the dataset.
        planned: its fields.
        vocabularies: by name.
        plain_columns: file name → column.
        first: rows before the relation's first one, filled as unseen.

    Returns:
        The raw values (rows) of each numeric field by name, NaN where missing.
    """
    files: dict[str, NDArray[Any]] = {
        name: create_column(folder, name, (rows,), column.dtype) for name, column in plain_columns.items()
    }
    raw: dict[str, FloatArray] = {}
    for entry in planned:
        if entry.numeric:
            raw[entry.name] = np.full(rows, np.nan)
            continue
        shape = (rows,) if entry.list_length is None else (rows, entry.list_length)
        files[entry.name] = create_column(folder, entry.name, shape, np.int32)
        if first:
            files[entry.name][:first] = 0
            files[entry.name].reshape(rows, -1)[:first, 0] = UNSEEN if entry.is_id else MISSING
    columns = list(dict.fromkeys([*(e.column for e in planned), *(c.column for c in plain_columns.values())]))
    begin = first
    for chunk in engine.chunks(table.select(columns)) if columns else ():
        end = begin + chunk.num_rows
        for name, column in plain_columns.items():
            files[name][begin:end] = numbers(chunk[column.column], column.missing).astype(column.dtype)
        for entry in planned:
            values = chunk[entry.column]
            if entry.numeric:
                raw[entry.name][begin:end] = numbers(values, np.nan)
            elif entry.list_length is not None:
                files[entry.name][begin:end] = vocabularies[entry.vocabulary].encode_lists(values, entry.list_length)
            else:
                files[entry.name][begin:end] = vocabularies[entry.vocabulary].encode(values)
        begin = end
    return raw


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


def check_types(relations: Relations, planned: Iterable[PlannedField]) -> None:
    """Refuse text under `numeric`, and lists under anything but `multi_valued`, before anything is computed.

    Raises:
        DataError: naming the column.
    """
    for entry in planned:
        kind = getattr(relations, relation_of(entry))[entry.column].type()
        where = f"features.{entry.feature.side}: column '{entry.source}'"
        if entry.numeric and not (kind.is_numeric() or kind.is_boolean()):
            raise DataError(f"{where} is numeric, but holds {kind}s")
        if entry.list_length is not None and not (kind.is_array() or kind.is_string()):
            raise DataError(f"{where} is multi_valued, but holds neither lists nor text: it holds {kind}s")
        if kind.is_array() and entry.list_length is None:
            raise DataError(f"{where} holds lists: say {{{entry.source}: multi_valued}}")


def relation_of(entry: PlannedField) -> str:
    """Name of the relation that holds the field's column."""
    return {"history": "events", "context": "requests"}.get(entry.side, f"{entry.side}s")


def split_texts(relations: Relations, planned: Iterable[PlannedField]) -> Relations:
    """The relations with multi-valued text as lists: parts between separators, stripped, empty ones left out."""
    for entry in planned:
        options = entry.feature.options
        if not isinstance(options, MultiValuedOptions):
            continue
        name = relation_of(entry)
        table: ir.Table = getattr(relations, name)
        column = table[entry.column]
        if column.type().is_string():
            parts = column.split(options.multi_valued).map(lambda part: part.strip())
            relations = replace(
                relations, **{name: table.mutate(**{entry.column: parts.filter(lambda part: part != "")})}
            )
    return relations


def finish_numeric(folder: Path, entry: PlannedField, values: FloatArray, transform: NumericTransform) -> list[Field]:
    """Write what a numeric column becomes: its dense field, its buckets, whether it is missing."""
    side, quantiles = entry.side, transform.numeric == "quantiles"
    fields = []
    if quantiles:
        write_column(folder, entry.name, transform.bucket(values))
        fields.append(bucketed_field(entry))
    if side != "history":
        dense = f"{entry.name}.rank" if quantiles else entry.name
        write_column(folder, dense, transform.dense(values))
        fields.append(Field(name=dense, side=side, kind="dense", column=entry.source))
        if transform.has_missing:
            name = f"{entry.name}.missing"
            write_column(folder, name, transform.missing(values).astype(np.float32))
            fields.append(Field(name=name, side=side, kind="dense", column=entry.source))
    return fields


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


def write_buckets(folder: Path, name: str, transform: NumericTransform, values: FloatArray, weight: FloatArray) -> int:
    """Write the vocabulary of quantile buckets with their counts in training; returns its number of codes."""
    edges = [f"{edge:.6g}" for edge in transform.edges]
    text = [f"{low} to {high}" for low, high in zip(["", *edges], [*edges, ""], strict=True)]
    text = [f"below {edges[0]}", *text[1:-1], f"{edges[-1]} and above"] if edges else ["any"]
    known = np.isfinite(values)
    codes = transform.bucket(values[known]) - FIRST_VALUE
    counts = np.bincount(codes, weights=weight[known], minlength=len(text)).astype(np.int64)
    pq.write_table(pa.table({VALUE: text, OCCURRENCES: counts}), folder / f"{name}.parquet")
    return len(text) + FIRST_VALUE - 1


def sort_ties(user: NDArray[Any], time: NDArray[Any], columns: Sequence[NDArray[Any]]) -> None:
    """Order rows of equal user and time by all columns, in place; the rows are sorted by user and time already."""
    same = np.zeros(len(time), dtype=bool)
    if len(time) > 1:
        same[1:] = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    tied = same.copy()
    tied[:-1] |= same[1:]
    rows = np.flatnonzero(tied)
    if not len(rows) or not columns:
        return
    group = np.cumsum(~same)[rows]
    flat = [part for column in columns for part in column[rows].reshape(len(rows), -1).T]
    order = np.lexsort([*flat[::-1], group])
    for column in columns:
        column[rows] = column[rows][order]


def combination_codes(
    engine: Engine, table: ir.Table, names: Sequence[str]
) -> tuple[NDArray[np.int32], list[str], int]:
    """(rows) code of each row's combination of values, in order of the values, NULL last.

    Returns:
        Codes, the names of the combinations, and the code of the one that is all NULL, or -1.
    """
    distinct = {name: _sorted_values(engine, table, name) for name in names}
    parts = []
    for chunk in engine.chunks(table.select(*names)):
        mixed = np.zeros(chunk.num_rows, dtype=np.int64)
        for name, values in distinct.items():
            index = pc.fill_null(pc.index_in(chunk[name].combine_chunks(), value_set=values), len(values))
            mixed = mixed * (len(values) + 1) + index.to_numpy(zero_copy_only=False)
        parts.append(mixed)
    found, codes = np.unique(np.concatenate(parts), return_inverse=True)
    labels, nothing = [], -1
    for code, mixed_code in enumerate(found.tolist()):
        rest, texts, missing = mixed_code, [], 0
        for name in reversed(names):
            rest, place = divmod(rest, len(distinct[name]) + 1)
            known = place < len(distinct[name])
            texts.append(f"{name}={text_of(distinct[name])[place].as_py() if known else 'missing'}")
            missing += not known
        labels.append(", ".join(reversed(texts)))
        nothing = code if missing == len(names) else nothing
    return codes.astype(np.int32), labels, nothing


def _sorted_values(engine: Engine, table: ir.Table, name: str) -> pa.Array:
    values = table.select(name).distinct()
    found = engine.read(values.filter(values[name].notnull()).order_by(name).limit(10_001))[name].combine_chunks()
    if len(found) > 10_000:
        raise DataError(f"column '{name}' has more than 10000 values: a scenario column has few")
    return found
