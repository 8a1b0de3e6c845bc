"""Which files a configuration means, what their folders say of them, and how they are known again."""

import glob
import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from musenet.errors import DataError
from musenet.options import Options

LOOKED_AT, PACKED = 1 << 16, 5
"""Bytes of a CSV whose lines are counted, and how much longer it is than its packed form."""
PARQUET, TEXT = (".parquet", ".pq"), (".csv", ".tsv", ".txt")
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""How writers call the folder of the rows that lack the column's value."""


def find_files(key: str, written: str | Sequence[str], base: Path) -> list[Path]:
    """The files meant by a path, a pattern, or a list of them, each once; relative ones start from `base`.

    Raises:
        DataError: if there is none, one is a folder, or they are not all Parquet or all CSV.
    """
    found: dict[Path, Path] = {}
    for entry in [written] if isinstance(written, str) else written:
        path = base / Path(entry).expanduser()
        matches = _matching(path)
        if not matches:
            raise DataError(
                f"{key}.path: there is no file {path}: give the path relative to the configuration's folder"
            )
        for match in matches:
            found.setdefault(match.resolve(), match)
    paths = list(found.values())
    for path in paths:
        if path.is_dir():
            raise DataError(f"{key}.path: {path} is a folder: name its files, for example {path / '*.parquet'}")
        if ending(path) not in PARQUET + TEXT:
            raise DataError(f"{key}.path: {path} is neither Parquet nor CSV (.parquet, .csv or .tsv, maybe with .gz)")
    if not paths or len({ending(path) in PARQUET for path in paths}) > 1:
        raise DataError(f"{key}.path: give at least one file, and either all Parquet or all CSV")
    return paths


def _matching(path: Path) -> list[Path]:
    """The files that a path means: as far as it exists it is taken by its letters, only what follows is a pattern."""
    exists = path
    while not exists.exists() and exists != exists.parent:
        exists = exists.parent
    if exists == path:
        return [path]
    pattern = str(path.relative_to(exists))
    return [exists / match for match in sorted(glob.glob(pattern, root_dir=exists, recursive=True))]


def folder_values(path: Path) -> dict[str, str | None]:
    """The columns that a file's folders name, as in `day=2024-03-04/part.parquet`."""
    parts = (folder.partition("=") for folder in path.parts[:-1])
    return {name: None if value == NO_VALUE else unquote(value) for name, equals, value in parts if name and equals}


def fingerprint_of(options: Options, paths: Iterable[Path]) -> str:
    """Changes with the options and with each file's name, size, time of modification and what its folders say of it.

    It does not change with where the files lie.
    """
    parts = [json.dumps(_without_places(options.model_dump(mode="json", exclude={"seed"})))]
    for path in paths:
        status, said = path.stat(), "".join(f"{name}={value}/" for name, value in folder_values(path).items())
        parts.append(f"{said}{path.name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def expected_rows(paths: Iterable[Path]) -> int:
    """About how many rows files hold, told from what Parquet says of itself and from the length of a CSV's lines."""
    return sum(_expected_rows(path) for path in paths)


def _expected_rows(path: Path) -> int:
    try:
        if ending(path) in PARQUET:
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


def ending(path: Path) -> str:
    """The last part of a file's name, `.csv` for `log.csv.gz`."""
    return Path(path.name.lower().removesuffix(".gz")).suffix
