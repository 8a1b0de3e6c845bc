"""Tables in memory, of whatever library: in through the Arrow C stream, out as what came in.

A frame is anything with `__arrow_c_stream__`: of pandas, Polars, DuckDB (relations) or Arrow.
"""

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from musenet.errors import DataError, one_line
from musenet.files import checksum, full_disk_explained

Kind = Literal["pandas", "polars", "duckdb", "arrow"]
"""Whose table it is; `arrow` is a `pyarrow.Table`."""
ROWS_PER_GROUP = 1 << 17
KEPT_FRAME = r"(impressions|events|users|items)-[0-9a-f]{16}\.parquet"
"""What files of frames are called."""
_OF_MODULE: Mapping[str, Kind] = {"pandas": "pandas", "polars": "polars", "duckdb": "duckdb", "_duckdb": "duckdb"}
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


@runtime_checkable
class Frame(Protocol):
    """A table that gives its rows as an Arrow C stream."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The stream, in a capsule."""


def kind_of(frame: Frame) -> Kind:
    """Whose table it is; any other library's is `arrow`."""
    modules = (one.__module__.partition(".")[0] for one in type(frame).__mro__)
    return next((_OF_MODULE[name] for name in modules if name in _OF_MODULE), "arrow")


def usual_kind() -> Kind:
    """What people look at tables with here: pandas, else Polars, else Arrow, by what is installed."""
    return next((name for name in ("pandas", "polars") if find_spec(name)), "arrow")


def as_kind(table: pa.Table, kind: Kind) -> Any:
    """A table as a pandas or Polars DataFrame, a DuckDB relation, or as it is."""
    if kind == "pandas":
        return table.to_pandas()
    if kind == "polars":
        import polars

        return polars.from_arrow(table)
    if kind == "duckdb":
        import duckdb

        return duckdb.from_arrow(table)
    return table


def with_columns(frame: Frame, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> Any:
    """The frame with further columns behind its own, which stay as they are; a table of its own kind.

    Args:
        frame: of a pandas frame types and index are kept too.
        columns: one value per row, in order of the rows; none has the name of a column of the frame.
    """
    kind = kind_of(frame)
    if kind == "pandas":
        return frame.assign(**{name: column.to_pandas().to_numpy() for name, column in columns.items()})  # type: ignore[attr-defined]
    if kind == "polars":
        import polars

        return frame.with_columns(**{name: polars.from_arrow(column) for name, column in columns.items()})  # type: ignore[attr-defined]
    table = pa.table(frame)
    for name, column in columns.items():
        table = table.append_column(name, column)
    return as_kind(table, kind)


def rows_of(frame: Frame, called: str) -> pa.RecordBatchReader:
    """The rows of a frame, some at a time, in the plain types that the same values have whoever holds them.

    Text of every kind, categories included, is plain text, and times count microseconds.

    Args:
        frame: read once.
        called: how messages name it.

    Raises:
        DataError: if it cannot be given as Arrow columns, now or while its rows are read.
    """
    with _explained(called):
        reader = pa.RecordBatchReader.from_stream(frame)
    kept = [field for field in reader.schema if not _PANDAS_INDEX.fullmatch(field.name)]
    schema = pa.schema([pa.field(field.name, plain_type(field.type)) for field in kept])
    if len(set(schema.names)) < len(schema.names):
        double = next(name for name in schema.names if schema.names.count(name) > 1)
        raise DataError(f"{called} has two columns called '{double}': rename one of them")

    def batches() -> Iterator[pa.RecordBatch]:
        while True:
            with _explained(called):
                batch = next(reader, None)
                if batch is None:
                    return
                columns = [_plain(batch.column(field.name), field.type) for field in schema]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def keep_frame(frame: Frame, name: str, folder: Path) -> Path:
    """Write a frame's rows to a Parquet file that is called by its content: the same rows are the same file.

    What is known of files by their time of change (`fingerprint`) thereby follows the content too.

    Args:
        frame: with at least one row.
        name: what its rows are; the file is `<name>-<checksum>.parquet`.
        folder: made if need be.

    Raises:
        DataError: if it cannot be given as Arrow columns or written as Parquet, or has no rows.
    """
    rows = rows_of(frame, name)
    temporary = folder / f".{name}.{os.getpid()}-{secrets.token_hex(4)}"
    with full_disk_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with _explained(name), pq.ParquetWriter(temporary, rows.schema) as writer:
                count = sum(_written(writer, table) for table in even_tables(rows, ROWS_PER_GROUP))
            if not count:
                raise DataError(f"{name} has no rows: give a frame of what was logged")
            kept = folder / f"{name}-{checksum(temporary)[:16]}.parquet"
            os.utime(temporary, ns=(0, 0))
            temporary.replace(kept)
        finally:
            temporary.unlink(missing_ok=True)
    return kept


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that stands for the same values in every library."""
    if pa.types.is_dictionary(kind):
        plain = plain_type(kind.value_type)
    elif pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        plain = pa.string()
    elif pa.types.is_timestamp(kind):
        plain = pa.timestamp("us", kind.tz)
    elif any(test(kind) for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view)):
        plain = pa.list_(plain_type(kind.value_type))
    elif pa.types.is_fixed_size_list(kind):
        plain = pa.list_(plain_type(kind.value_type), kind.list_size)
    elif pa.types.is_struct(kind):
        plain = pa.struct([(field.name, plain_type(field.type)) for field in kind.fields])
    else:
        plain = kind
    return plain


def _plain(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        return column.dictionary.cast(kind).take(column.indices)
    # What is finer than microseconds is cut off; what they cannot hold is refused.
    return column.cast(kind, safe=getattr(column.type, "unit", "") != "ns")


def even_tables(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The same rows, so many at a time, however many the batches hold."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += batch.num_rows
        while count >= rows:
            together = pa.Table.from_batches(waiting)
            yield together.slice(0, rows).combine_chunks()
            waiting, count = together.slice(rows).to_batches(), count - rows
    if count:
        yield pa.Table.from_batches(waiting).combine_chunks()


def _written(writer: pq.ParquetWriter, table: pa.Table) -> int:
    writer.write_table(table)
    return int(table.num_rows)


@contextmanager
def _explained(called: str) -> Iterator[None]:
    """Turn what a library says of a frame that is no table of columns into one sentence."""
    try:
        yield
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{called} cannot be read as a table ({one_line(error)}): give every column a name and values of one type"
        ) from error
