"""Opening a log's Parquet, CSV and JSON files as relations, with one sentence for whatever is wrong with them."""

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from musenet.engines.engine import NO_SPACE, Engine
from musenet.errors import DataError, one_line
from musenet.sources.files.headers import clean_names, header
from musenet.sources.files.parts import Mended, Part, bring_together
from musenet.sources.files.paths import JSON, PARQUET, ending, folder_values, names_among

_MEND = "correct that line, or how the file was written"


@dataclass(frozen=True)
class LogFile:
    """One table of a log, of one or several files or of a query."""

    key: str
    """Where the configuration names it, such as `data.impressions`."""
    name: str
    """How messages call it."""
    paths: list[Path]
    table: ir.Table
    is_parquet: bool
    """Its rows are read from the files whenever they are asked for, at little cost."""
    mended: tuple[Mended, ...] = ()
    """What was done to make one table of parts that differ."""


_NUMBERED = re.compile(r"(?<==)[^/]*|[0-9a-f]{8}(-?[0-9a-f]{4,})*|\d+")
"""What the names of one table's files differ by: values of folders such as `day=1`, checksums and numbers."""
_PART, _NEARLY_ALL = 0.5, 0.8
"""Shares of the columns of two files that both have, where they are parts of one table."""


@dataclass(frozen=True)
class _Layout:
    """What files have to share to be read at once."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    """Of Parquet and JSON; the columns of a CSV are text."""
    delimiter: str
    """Of a CSV."""
    folders: tuple[str, ...] = ()
    """The columns that the names of their folders hold."""


def open_files(
    engine: Engine, key: str, paths: list[Path], *, named: Collection[str] | None = None, stored: bool = True
) -> LogFile:
    """The rows of these files; those of a CSV or JSON are text, read once into the engine unless not to be stored.

    Args:
        engine: where they are stored.
        key: where the configuration names them.
        paths: parts of one table, brought together by the names of their columns.
        named: the columns that the configuration names; any of the files', but none of their folders', if None.
        stored: keep the rows of CSV and JSON files.

    Raises:
        DataError: if a file cannot be read, there are no rows, or the parts have no type of a named column in common.
    """
    parts: list[Part] = []
    layouts, mended = _layouts(engine, paths, named or ())
    for layout in dict.fromkeys(layouts.values()):
        alike = [path for path in paths if layouts[path] == layout]
        with reading(_called(alike)):
            table = _read(engine, alike, layout)
            if stored and ending(alike[0]) not in PARQUET:
                table = engine.store("text", table)
            has_rows = engine.count(table.limit(1))
        if has_rows:
            parts.append(Part(_called(alike), table))
    if not parts:
        raise DataError(f"{paths[0]} holds no rows ({key}): check which file was meant")
    table, more = bring_together(engine, key, parts, named)
    if mended:
        rows = engine.count(table)
        more += [Mended(reason, rows) for reason in mended]
    return LogFile(key, _called(paths), paths, table, ending(paths[0]) in PARQUET, tuple(more))


def tables_among(engine: Engine, paths: list[Path]) -> list[list[Path]]:
    """The files of a folder by the table that they are parts of.

    Parts have nearly the same columns; or half of them at least, and names that differ by numbers alone, as where a
    table got columns later. So `log/`, which holds the impressions beside the clicks and the users, is three tables.

    Raises:
        DataError: if a file cannot be read.
    """
    tables: list[tuple[set[str], set[str], list[Path]]] = []
    for path, name in zip(paths, names_among(paths), strict=True):
        with reading(str(path)):
            columns = {*_layout(engine, path).columns}
        series = _NUMBERED.sub("", name)
        for known, called, parts in tables:
            alike = len(columns & known) / max(len(columns | known), 1)
            if alike >= (_PART if series in called else _NEARLY_ALL):
                known.update(columns)
                called.add(series)
                parts.append(path)
                break
        else:
            tables.append((columns, {series}, [path]))
    return [parts for _, _, parts in tables]


def _read(engine: Engine, paths: list[Path], layout: _Layout) -> ir.Table:
    """The rows of files of one layout, their columns by their clean names."""
    if layout.delimiter:
        return engine.read_text(paths, layout.columns, layout.delimiter, layout.folders)
    if ending(paths[0]) in JSON:
        columns = dict(zip(layout.columns, layout.types, strict=True))
        return engine.read_json(paths, columns, layout.folders)
    table = engine.read_parquet(paths, layout.folders)
    called = zip(layout.columns, table.columns, strict=False)  # those of folders come last
    return table.rename({name: written for name, written in called if name != written})


def _layouts(engine: Engine, paths: list[Path], named: Collection[str]) -> tuple[dict[Path, _Layout], list[str]]:
    """How each file is read, and what was done about columns that files and folders have both."""
    layouts = {}
    for path in paths:
        with reading(str(path)):
            layouts[path] = _layout(engine, path)
    said = {path: folder_values(path) for path in paths}
    mended = []
    for name in dict.fromkeys(name for values in said.values() for name in values if name in named):
        own = [path for path in paths if name in layouts[path].columns]
        if not own:
            continue
        if len(own) < len(paths):
            other = next(path for path in paths if path not in own)
            raise DataError(
                f"{own[0]} has a column '{name}' of its own, {other} at most a folder of that name: "
                "write the column into all files, or into none"
            )
        mended.append(f"{name} is a column of the files: the folders called {name}=… were not used")
        for values in said.values():
            values.pop(name, None)
    return {
        path: replace(layout, folders=tuple(name for name in said[path] if name in named))
        for path, layout in layouts.items()
    }, mended


def _layout(engine: Engine, path: Path) -> _Layout:
    if ending(path) in PARQUET:
        with path.open("rb") as file:
            schema = pq.read_schema(file)
        return _Layout(clean_names(schema.names, path), tuple(map(str, schema.types)), "")
    if ending(path) in JSON:
        columns = engine.json_columns(path)
        clean_names(list(columns), path)
        return _Layout(tuple(columns), tuple(columns.values()), "")
    delimiter, names = header(path)
    return _Layout(names, (), delimiter)


def _called(paths: Sequence[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what the engine says of a damaged file into one sentence that names it."""
    try:
        yield
    except Exception as error:
        broken = re.search(r"\[MALFORMED_CSV_RECORD\].*?: (.*?) SQLSTATE", str(error), re.DOTALL)
        if broken:  # by Spark, whose exceptions nobody has who has not installed it
            file = re.search(r"file:/*(/[^\n]+?)\.\s+SQLSTATE", str(error))
            begin = " ".join(broken[1].split())[:100]
            raise DataError(
                f"{file[1] if file else name} cannot be read at the line '{begin}' (more or fewer columns than the "
                f"first line, or a quote that does not end): {_MEND}"
            ) from error
        if not isinstance(error, OSError | UnicodeDecodeError | csv.Error | duckdb.Error | pa.ArrowException):
            raise
        text = str(error)
        if NO_SPACE.search(text) or isinstance(error, duckdb.OutOfMemoryException | duckdb.InterruptException):
            raise
        file = re.search(r"^ *file = (.+)$", text, re.MULTILINE)  # which of several
        name = file[1] if file else name
        if isinstance(error, UnicodeDecodeError) or "unicode" in text.lower():
            raise DataError(f"{name} is not UTF-8 text: save it as UTF-8") from error
        line = re.search(r"CSV Error on Line: (\d+)", text)
        if line:
            raise DataError(f"{name} cannot be read at line {line[1]} ({_why(text)}): {_MEND}") from error
        line = re.search(r"Malformed JSON in file .*, at byte \d+ in line (\d+): ([^.]+)", text)
        if line:
            raise DataError(f"{name} cannot be read near line {line[1]} ({line[2]}): {_MEND}") from error
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"{name} cannot be read ({error.strerror}): check its permissions") from error
        raise DataError(f"{name} cannot be read ({one_line(error)}): is it damaged or cut short?") from error


def _why(text: str) -> str:
    """What DuckDB says of a line of a CSV, without the line and without its advice."""
    columns = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text)
    if columns:
        return f"expected {columns[1]} columns, found {columns[2]}"
    said = re.search(r"^(Value with unterminated quote found|Maximum line size .*?)\.", text, re.MULTILINE)
    return said[1][0].lower() + said[1][1:] if said else "it is no CSV as the first line says"
