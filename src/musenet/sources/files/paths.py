"""Which files a configuration means, what their folders say of them, and how they are known again."""

import glob
import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from musenet.dataset.texts import NO_VALUE
from musenet.errors import DataError
from musenet.options import Options
from musenet.sources.files.places import is_remote, place, reaching

LOOKED_AT, PACKED = 1 << 16, 5
"""Bytes of a text whose lines are counted, and how much longer it is than its packed form."""
PARQUET, TEXT, JSON = (".parquet", ".pq"), (".csv", ".tsv", ".txt"), (".jsonl", ".ndjson", ".json")
_KINDS = "Parquet, CSV nor JSON lines (.parquet, .csv, .tsv or .jsonl, texts maybe with .gz or .zst)"
_CODECS = {".gz": "gzip", ".zst": "zstd"}
_LAKES = {"_delta_log": "Delta", ".hoodie": "Hudi", "metadata": "Iceberg"}
"""What a table has that is more than its files: some of them are of the past."""


def find_files(where: str, written: str | Sequence[str], base: Path) -> list[Path]:
    """The files meant by a path, a folder, a pattern, a URL or a list of them, each once; relative ones from `base`.

    Of a folder these are all files below it whose names, and whose folders' names, do not begin with `_` or `.`.

    Args:
        where: it is written, such as `data.impressions.path`, for messages.
        written: the path.
        base: the folder that relative ones begin in.

    Raises:
        DataError: if there is none, a place cannot be reached, they are not all Parquet, all CSV or all JSON lines, or
            they are of a table some of whose files are of its past.
    """
    found: dict[object, Path] = {}
    for entry in [written] if isinstance(written, str) else written:
        path = place(where, entry, base)
        with reaching(where, path):
            matches = [file for match in _matching(path) for file in (_below(match) if match.is_dir() else [match])]
            if not matches:
                there = f"{path} is a folder without files" if path.is_dir() else f"there is no file {path}"
                raise DataError(f"{where}: {there}: check the path; relative ones begin in {base.absolute()}")
        for match in matches:
            found.setdefault(str(match) if is_remote(match) else match.resolve(), match)
    paths = list(found.values())
    _refuse_lakes(where, paths)
    for path in paths:
        if ending(path) not in PARQUET + TEXT + JSON:
            raise DataError(
                f"{where}: {path} is neither {_KINDS}: rename text to one of these endings, unpack archives"
            )
    if not paths or len({next(kind for kind in (PARQUET, TEXT, JSON) if ending(path) in kind) for path in paths}) > 1:
        raise DataError(f"{where}: give at least one file, and either all Parquet, all CSV or all JSON lines")
    return paths


def _matching(path: Path) -> list[Path]:
    """The files that a path means: as far as it exists it is taken by its letters, only what follows is a pattern."""
    if is_remote(path):
        if path.exists():
            return [path]
        first = next((at for at, part in enumerate(path.parts) if glob.has_magic(part)), None)
        if first is None:
            return []
        root = path.parents[len(path.parts) - first - 1]
        return sorted(root.glob("/".join(path.parts[first:])), key=str)
    exists = path
    while not exists.exists() and exists != exists.parent:
        exists = exists.parent
    if exists == path:
        return [path]
    pattern = str(path.relative_to(exists))
    return [exists / match for match in sorted(glob.glob(pattern, root_dir=exists, recursive=True))]


def _below(folder: Path) -> list[Path]:
    """The files of a folder and of the folders in it, without what writers put beside them."""
    found = []
    for path in sorted(folder.iterdir(), key=str):
        if not is_beside(Path(path.name)):
            found += _below(path) if path.is_dir() else [path]
    return found


def is_beside(path: Path) -> bool:
    """Whether a path in a folder is of what writers put beside its files, such as `_SUCCESS`."""
    return any(part.startswith(("_", ".")) for part in path.parts)


def _refuse_lakes(where: str, paths: Sequence[Path]) -> None:
    """Raise `DataError` if files lie in a table that knows which of them count, however they were named."""
    whole = [path if is_remote(path) else path.absolute() for path in paths if not str(path).startswith("http")]
    for folder in dict.fromkeys(folder for path in whole for folder in path.parents if "=" not in folder.name):
        for beside, kind in _LAKES.items():
            told = folder / beside
            with reaching(where, folder):
                is_lake = told.is_dir() and (kind != "Iceberg" or any(told.glob("*.metadata.json")))
            if is_lake:
                raise DataError(
                    f"{where}: {folder} is a {kind} table, some of whose files are of its past: write the rows that "
                    "count as Parquet, or read them by a query (sql)"
                )


def folder_values(path: Path) -> dict[str, str | None]:
    """The columns that a file's folders name, as in `day=2024-03-04/part.parquet`."""
    parts = (folder.partition("=") for folder in path.parts[:-1])
    return {name: None if value == NO_VALUE else unquote(value) for name, equals, value in parts if name and equals}


def names_among(paths: Sequence[Path]) -> list[str]:
    """What each file is called below the folder that all lie in, such as `day=1/part.parquet`."""
    folders = zip(*(path.parts[:-1] for path in paths), strict=False)
    common = sum(1 for _ in takewhile(lambda named: len(set(named)) == 1, folders))
    return ["/".join(path.parts[common:]) for path in paths]


def fingerprint_of(options: Options, tables: Iterable[Sequence[Path]], queries: Iterable[str] = ()) -> str:
    """Changes with the options and with the place of each file among its table's, its size and its time or etag.

    It does not change with where all of a table's files lie, but for what the names of their folders say.

    Args:
        options: of the source.
        tables: the files of each table.
        queries: what identifies the rows of each table that is the result of one.
    """
    parts = [described(options)]
    for paths in tables:
        parts += [known_by(*named) for named in zip(paths, names_among(paths), strict=True)]
    return hashlib.sha256("\n".join([*parts, *queries]).encode()).hexdigest()


def described(options: Options) -> str:
    """A source's options without the places of its files."""
    return json.dumps(_without_places(options.model_dump(mode="json", exclude={"seed"})))


def known_by(path: Path, name: str | None = None) -> str:
    """What a file is known again by: what its folders say, its name, its size and its time or etag."""
    name = path.name if name is None else name
    said = "".join(f"{name}={value}/" for name, value in folder_values(path).items())
    status = path.stat()
    if not is_remote(path):
        return f"{said}{name} {status.st_size} {status.st_mtime_ns}"
    told = {str(name).lower(): value for name, value in status.as_info().items()}  # type: ignore[attr-defined]
    version = next((told[name] for name in ("etag", "md5hash", "content_md5") if told.get(name)), status.st_mtime)
    return f"{said}{name} {status.st_size} {version}"


def called(known: str) -> str:
    """The part of what a file is known by that stays when its content changes."""
    return known.rsplit(" ", 2)[0]


def expected_rows(paths: Iterable[Path]) -> int:
    """About how many rows files hold, told from what Parquet says of itself and from the length of a text's lines."""
    return sum(_expected_rows(path) for path in paths)


def _expected_rows(path: Path) -> int:
    try:
        if ending(path) in PARQUET:
            with path.open("rb") as file:
                return int(pq.read_metadata(file).num_rows)
        with opened(path) as file:
            start: bytes = file.read(LOOKED_AT)
    except (OSError, EOFError, pa.ArrowException):
        return 0  # what is wrong with it is said once it is read
    lines = max(start.count(b"\n"), 1)
    return round(path.stat().st_size * (PACKED if _packed(path) else 1) * lines / max(len(start), 1))


def opened(path: Path) -> pa.NativeFile:
    """A text file's bytes, unpacked if need be."""
    return pa.input_stream(path.open("rb") if is_remote(path) else str(path), compression=codec_of(path))


def codec_of(path: Path) -> str | None:
    """What a file is packed by, as Arrow calls it; told by its name."""
    return _CODECS.get(_packed(path))


def _packed(path: Path) -> str:
    return next((sign for sign in _CODECS if _name(path).endswith(sign)), "")


def _name(path: Path) -> str:
    return path.name.lower().partition("?")[0] if is_remote(path) else path.name.lower()


def ending(path: Path) -> str:
    """The last part of a file's name, `.csv` for `log.csv.gz`."""
    return PurePath(_name(path).removesuffix(_packed(path))).suffix


def _without_places(options: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_places(value) if isinstance(value, dict) else value
        for key, value in options.items()
        if key not in ("path", "folder", "sql", "database")
    }
