"""Tables on disk: Parquet and CSV, one file or a folder of them, read and written piece by piece."""

import csv
import gzip
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from musenet.errors import DataError, one_line
from musenet.files import replacing

ROWS_AT_ONCE = 65_536
ENDINGS = (".parquet", ".csv", ".csv.gz")
_SEPARATORS = ",;\t|"


@dataclass(frozen=True)
class Opened:
    """A file that is being read."""

    reader: pa.RecordBatchReader
    rows: int | None
    """None where the file does not say."""


def files_of(path: Path) -> list[Path]:
    """The file itself, or the Parquet and CSV files of a folder and of those in it, in order of their names.

    Raises:
        DataError: if there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(
            f"there is no file {path}: give a Parquet or CSV file with a row for every candidate, or a folder"
        )
    found = sorted(file for file in path.rglob("*") if file.name.endswith(ENDINGS) and _is_shown(file, path))
    if not found:
        raise DataError(f"{path} holds no files that end in {', '.join(ENDINGS)}: give another folder")
    return found


def _is_shown(file: Path, folder: Path) -> bool:
    return file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)


def open_table(path: Path, numbers: Collection[str] = (), missing: Sequence[str] = ()) -> Opened:
    """Open a file, told by its ending, to be read piece by piece.

    Args:
        path: of the file. Of a CSV file, every column is text but for the numbers: what its digits mean is for the
            columns' own types to say, and what nobody reads stays as it was written.
        numbers: names of the columns that are numbers.
        missing: texts that stand where there is no number.

    Raises:
        DataError: if it cannot be read; while it is read, too.
    """
    with _explained(path):
        if path.name.endswith((".csv", ".csv.gz")):
            return _open_csv(path, numbers, missing)
        file = pq.ParquetFile(path)
    return Opened(
        pa.RecordBatchReader.from_batches(file.schema_arrow, _reading(path, file.iter_batches(ROWS_AT_ONCE))),
        file.metadata.num_rows,
    )


def _open_csv(path: Path, numbers: Collection[str], missing: Sequence[str]) -> Opened:
    with (
        gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else path.open(encoding="utf-8-sig") as file
    ):
        first = "".join(islice(file, 1))
    if not first.strip():
        raise DataError(f"{path} holds no rows, nor names of columns: give a row for every candidate")
    separator = max(_SEPARATORS, key=lambda sign: len(next(csv.reader([first], delimiter=sign))))
    names = next(csv.reader([first], delimiter=separator))
    reader = pyarrow.csv.open_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: pa.float64() if name in numbers else pa.string() for name in names},
            null_values=["", "nan", "NaN", *missing],
        ),
    )
    return Opened(pa.RecordBatchReader.from_batches(reader.schema, _reading(path, reader)), None)


def _reading(path: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    with _explained(path):
        yield from batches


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError, pa.ArrowException, csv.Error) as error:
        kind = "CSV" if path.name.endswith((".csv", ".csv.gz")) else "Parquet"
        raise DataError(f"{path} is no {kind} file that can be read ({one_line(error)})") from error


def check_ending(path: Path) -> None:
    """Raise `DataError` unless a file of this name can be written."""
    if not path.name.endswith(ENDINGS):
        raise DataError(f"--out {path}: give a name that ends in {', '.join(ENDINGS)}")


@contextmanager
def writing(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Yield what writes rows to a file, by its ending, which appears whole or not at all."""
    check_ending(path)
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    if nested and not path.name.endswith(".parquet"):
        raise DataError(f"--out {path}: column '{nested[0]}' holds lists, which CSV does not: give a name of .parquet")
    with replacing(path) as temporary:
        if path.name.endswith(".parquet"):
            with pq.ParquetWriter(temporary, schema) as parquet:
                yield parquet.write_batch
            return
        compression = "gzip" if path.suffix == ".gz" else None
        with (
            pa.output_stream(str(temporary), compression=compression) as stream,
            pyarrow.csv.CSVWriter(stream, schema) as text,
        ):
            yield text.write_batch
