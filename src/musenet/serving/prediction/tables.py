"""Tables on disk or in buckets: read as preparation reads them, piece by piece, and written as Parquet or CSV.

Parquet and CSV are read without anything that training takes; JSON lines are read by DuckDB.
"""

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from musenet.errors import DataError, one_line
from musenet.files import replacing
from musenet.serving.prediction.columns import of_one_type
from musenet.sources.files.headers import clean_names, header
from musenet.sources.files.paths import (
    JSON,
    PARQUET,
    TEXT,
    codec_of,
    ending,
    find_files,
    folder_values,
    names_among,
    opened,
)
from musenet.sources.files.places import is_remote, place, reaching

ROWS_AT_ONCE = 8192
ENDINGS = (".parquet", ".csv", ".csv.gz", ".csv.zst")
"""Of what is written."""
_WRITTEN_AS = dict.fromkeys((*PARQUET, *JSON), ".parquet") | dict.fromkeys(TEXT, ".csv")


@dataclass(frozen=True)
class Opened:
    """A file that is being read."""

    reader: pa.RecordBatchReader
    rows: int | None
    """None where the file does not say."""
    said: Mapping[str, str | None]
    """The columns that the names of its folders hold, such as `dt` of `dt=2026-11-01/1.parquet`."""


class TableFiles:
    """The files of one table, read one after the other; a column that a file lacks is missing in its rows.

    Behind the files' own columns come those that the names of their folders hold. Columns of CSV files, JSON lines and
    folders are text: what it means is for the columns' own types to say.

    Args:
        name: of the table, for messages.
        written: a file, a folder, a pattern of files, or a URL of one of these.

    Raises:
        DataError: if there are no files, or one cannot be read.
        UserError: if a URL needs what is not installed.
    """

    def __init__(self, name: str, written: str | os.PathLike[str]) -> None:
        self._name, self._place = name, place(name, str(written), Path())
        self.paths = find_files(name, str(written), Path())
        self.fields: dict[str, pa.Field] = {}
        """The columns of all files, each as the first file has it that does."""
        self.lacking: dict[str, Path] = {}
        """Columns that some file lacks, and which."""
        schemas = [self._open(path).reader.schema for path in self.paths]
        for schema in schemas:
            self.fields = {field.name: field for field in schema} | self.fields
        for path, schema in zip(self.paths, schemas, strict=True):
            self.lacking |= dict.fromkeys(self.fields.keys() - set(schema.names), path)

    def open(self, path: Path) -> Opened:
        """One of the files, with the columns of all; raises `DataError` if it cannot be read, while it is read too."""
        found = self._open(path)
        missing = {field: None for name, field in self.fields.items() if name not in found.reader.schema.names}
        return Opened(_with_columns(found.reader, missing), found.rows, found.said)

    def rows(self, columns: Sequence[str]) -> pa.Table:
        """These columns of all files, in order; of several types, as text."""
        tables = [self.open(path).reader.read_all().select(columns) for path in self.paths]
        return pa.concat_tables(of_one_type(tables)).combine_chunks()

    def targets(self, out: Path) -> list[Path]:
        """Where each file's rows are written: to `out`, or of a folder or a pattern to a file of its name in there.

        Raises:
            DataError: if that is one of these files, or would be among them the next time.
        """
        read = {path.resolve() for path in (*self.paths, self._place) if not is_remote(path)}
        if read & {out.resolve(), *out.resolve().parents}:
            raise DataError(
                f"--out {out} is where the {self._name} are read, so it would replace or join them: name another path"
            )
        if str(self.paths[0]) == str(self._place):
            return [out]
        names = names_among(self.paths)
        if self._place.is_dir():
            names = [str(path).removeprefix(str(self._place)).lstrip("/") for path in self.paths]
        more = ["" if name.lower().endswith(ENDINGS) else _WRITTEN_AS[ending(Path(name))] for name in names]
        return [out / f"{name}{ending}" for name, ending in zip(names, more, strict=True)]

    def _open(self, path: Path) -> Opened:
        rows = None
        with _explained(self._name, path):
            if ending(path) in PARQUET:
                file = pq.ParquetFile(path.open("rb") if is_remote(path) else path)
                schema, batches, rows = file.schema_arrow, file.iter_batches(ROWS_AT_ONCE), file.metadata.num_rows
            else:
                schema, batches = _json_lines(path) if ending(path) in JSON else _text(path)
        names = clean_names(schema.names, path)
        schema = pa.schema([field.with_name(name) for field, name in zip(schema, names, strict=True)])
        said = {name: value for name, value in folder_values(path).items() if name not in names}
        reader = pa.RecordBatchReader.from_batches(schema, self._reading(path, schema, batches))
        return Opened(_with_columns(reader, {pa.field(name, pa.string()): said[name] for name in said}), rows, said)

    def _reading(self, path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with _explained(self._name, path):
            for batch in batches:
                yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)


def _text(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    delimiter, names = header(path)
    reader = pyarrow.csv.open_csv(
        opened(path),
        read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=1),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    )
    return reader.schema, iter(reader)


def _json_lines(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    import ibis

    from musenet.engines.engine import Engine
    from musenet.sources.files.opening import reading

    engine = Engine(ibis.duckdb.connect())
    with reading(str(path)):
        table = engine.read_json([path], engine.json_columns(path))
    schema = table.schema().to_pyarrow()

    def batches() -> Iterator[pa.RecordBatch]:
        with reading(str(path)):
            for chunk in engine.chunks(table, at_once=ROWS_AT_ONCE):
                yield from chunk.cast(schema).to_batches()

    return schema, batches()


def _with_columns(reader: pa.RecordBatchReader, added: Mapping[pa.Field, str | None]) -> pa.RecordBatchReader:
    """The rows with further columns, each of one value."""
    schema = pa.schema([*reader.schema, *added])

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in reader:
            rows = batch.num_rows
            more = [
                pa.nulls(rows, field.type) if value is None else pa.repeat(value, rows)
                for field, value in added.items()
            ]
            yield pa.RecordBatch.from_arrays([*batch.columns, *more], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches()) if added else reader


@contextmanager
def _explained(name: str, path: Path) -> Iterator[None]:
    with reaching(name, path):
        try:
            yield
        except (OSError, UnicodeDecodeError, pa.ArrowException, csv.Error) as error:
            if is_remote(path) and isinstance(error, OSError):
                raise  # it cannot be reached
            kind = "Parquet" if ending(path) in PARQUET else "CSV"
            raise DataError(f"{path} is not a readable {kind} file ({one_line(error)})") from error


def check_ending(path: Path) -> None:
    """Raise `DataError` unless a file of this name can be written."""
    if path.is_dir():
        raise DataError(f"--out {path} is a folder: name a file")
    if not path.name.lower().endswith(ENDINGS):
        raise DataError(f"--out {path}: give a name of this machine that ends in {', '.join(ENDINGS)}")


@contextmanager
def writing(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Yield what writes rows to a file, by its ending, which appears whole or not at all."""
    check_ending(path)
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    if nested and ending(path) != ".parquet":
        raise DataError(f"--out {path}: column '{nested[0]}' holds lists, which CSV does not: give a name of .parquet")
    with replacing(path) as temporary:
        if ending(path) == ".parquet":
            with pq.ParquetWriter(temporary, schema) as parquet:
                yield parquet.write_batch
            return
        with (
            pa.output_stream(str(temporary), compression=codec_of(path)) as stream,
            pyarrow.csv.CSVWriter(stream, schema) as text,
        ):
            yield text.write_batch
