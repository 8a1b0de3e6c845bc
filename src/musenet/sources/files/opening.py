"""Opening a log's Parquet and CSV files as relations, with one sentence for whatever is wrong with them."""

import csv
import glob
import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.options import Options

LOOKED_AT, PACKED = 1 << 16, 5
"""Bytes of a CSV whose lines are counted, and how much longer it is than its packed form."""
PARQUET, TEXT = (".parquet", ".pq"), (".csv", ".tsv", ".txt")
_MACHINE_TROUBLE = re.compile(r"no space left|disk full|max_temp_directory_size", re.IGNORECASE)


@dataclass(frozen=True)
class LogFile:
    """One table of a log, of one or several files."""

    key: str
    """Where the configuration names it, such as `data.impressions`."""
    paths: list[Path]
    table: ir.Table
    is_parquet: bool
    """Its rows are read from the files whenever they are asked for, at little cost."""

    @property
    def name(self) -> str:
        """How messages call it."""
        return str(self.paths[0]) if len(self.paths) == 1 else f"{self.paths[0]} and {len(self.paths) - 1} more"


def find_files(key: str, written: str | Sequence[str], base: Path) -> list[Path]:
    """The files meant by a path, a pattern, or a list of them; relative ones start from `base`.

    Raises:
        DataError: if there is none, one is a folder, or they are not all Parquet or all CSV.
    """
    found: list[Path] = []
    for entry in [written] if isinstance(written, str) else written:
        path = base / Path(entry).expanduser()
        matches = [path] if path.exists() else [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        if not matches:
            raise DataError(
                f"{key}.path: there is no file {path}: give the path relative to the configuration's folder"
            )
        found += matches
    for path in found:
        if path.is_dir():
            raise DataError(f"{key}.path: {path} is a folder: name its files, for example {path / '*.parquet'}")
        if _ending(path) not in PARQUET + TEXT:
            raise DataError(f"{key}.path: {path} is neither Parquet nor CSV (.parquet, .csv or .tsv, maybe with .gz)")
    if not found or len({_ending(path) in PARQUET for path in found}) > 1:
        raise DataError(f"{key}.path: give at least one file, and either all Parquet or all CSV")
    return found


def open_files(engine: Engine, key: str, paths: list[Path], *, stored: bool = True) -> LogFile:
    """The rows of these files; a CSV's columns are text, read once into the engine unless they are not to be stored.

    Raises:
        DataError: if a file cannot be read or holds no rows.
    """
    names = [str(path) for path in paths]
    with reading(names[0] if len(names) == 1 else f"one of {', '.join(names)}"):
        is_parquet = _ending(paths[0]) in PARQUET
        if is_parquet:
            table = _with_clean_names(engine.read_parquet(paths), names[0])
        else:
            text = _text_of(engine, paths)
            table = engine.store("text", text) if stored else text
        rows = engine.count(table.limit(1))
    if not rows:
        raise DataError(f"{names[0]} holds no rows ({key}): check which file was meant")
    return LogFile(key, paths, table, is_parquet)


def fingerprint_of(options: Options, paths: Iterable[Path]) -> str:
    """Changes with the options and with each file's name, size and time of modification, not with where they lie."""
    parts = [json.dumps(_without_places(options.model_dump(mode="json")))]
    for path in paths:
        status = path.stat()
        parts.append(f"{path.name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def expected_rows(paths: Iterable[Path]) -> int:
    """About how many rows files hold, told from what Parquet says of itself and from the length of a CSV's lines."""
    return sum(_expected_rows(path) for path in paths)


def _expected_rows(path: Path) -> int:
    try:
        if _ending(path) in PARQUET:
            return int(pq.read_metadata(path).num_rows)
        packed = path.suffix == ".gz"
        with gzip.open(path) if packed else path.open("rb") as file:
            start = file.read(LOOKED_AT)
    except (OSError, EOFError, pa.ArrowException):
        return 0  # what is wrong with it is said once it is read
    lines = max(start.count(b"\n"), 1)
    return round(path.stat().st_size * (PACKED if packed else 1) * lines / max(len(start), 1))


def _without_places(options: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_places(value) if isinstance(value, dict) else value
        for key, value in options.items()
        if key not in ("path", "folder")
    }


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what the engine says of a damaged file into one sentence that names it."""
    try:
        yield
    except (OSError, UnicodeDecodeError, csv.Error, duckdb.Error) as error:
        if _MACHINE_TROUBLE.search(str(error)) or isinstance(error, duckdb.OutOfMemoryException):
            raise
        text = str(error)
        if isinstance(error, UnicodeDecodeError) or "unicode" in text.lower():
            raise DataError(f"{name} is not UTF-8 text: save it as UTF-8") from error
        line = re.search(r"CSV Error on Line: (\d+)", text)
        where = f" at line {line[1]}" if line else ""
        details = [part for part in text.splitlines() if part and not part.startswith(("CSV Error", "Original Line"))]
        reason = (details or [type(error).__name__])[0].removeprefix("Invalid Input Error: ")
        raise DataError(f"{name} cannot be read{where} ({reason}): is it damaged or cut short?") from error


def _ending(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _text_of(engine: Engine, paths: list[Path]) -> ir.Table:
    """The rows of CSV files, all columns as text."""
    delimiter, header = _header(paths[0])
    for path in paths[1:]:
        if _header(path) != (delimiter, header):
            raise DataError(f"{path} has other columns, or another order of them, than {paths[0]}: make them alike")
    return engine.read_text(paths, list(_clean_names(header, str(paths[0])).values()), delimiter)


def _header(path: Path) -> tuple[str, list[str]]:
    """The separator and the column names in a CSV's first line."""
    with (
        gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else path.open(encoding="utf-8-sig") as file
    ):
        line = file.readline()
    if not line.strip():
        raise DataError(f"{path} holds no rows, nor names of columns: check which file was meant")
    names = {sign: next(csv.reader([line], delimiter=sign)) for sign in ",;\t|"}
    delimiter = max(names, key=lambda sign: len(names[sign]))
    return delimiter, names[delimiter]


def _clean_names(names: Sequence[str], path: str) -> dict[str, str]:
    """Column names without the byte order mark and the spaces that spreadsheets leave around them."""
    # Table tools write their row numbers as a column without a name.
    clean = {name: name.strip("\ufeff \t\r\n") or f"unnamed_{place}" for place, name in enumerate(names)}
    if len(set(clean.values())) < len(names):
        raise DataError(f"{path} has two columns of one name: {', '.join(names)}")
    return clean


def _with_clean_names(table: ir.Table, path: str) -> ir.Table:
    return table.rename({clean: name for name, clean in _clean_names(table.columns, path).items() if clean != name})
