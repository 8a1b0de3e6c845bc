"""What a file calls its columns."""

import csv
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

from musenet.errors import DataError
from musenet.sources.files.paths import opened


def header(path: Path) -> tuple[str, tuple[str, ...]]:
    """The separator and the clean column names in a CSV's first line.

    Raises:
        DataError: if it is empty, or two columns have one name.
    """
    with opened(path) as file:
        line = TextIOWrapper(file, encoding="utf-8-sig").readline()
    if not line.strip():
        raise DataError(f"{path} holds no rows, nor names of columns: check which file was meant")
    names = {sign: next(csv.reader([line], delimiter=sign)) for sign in ",;\t|"}
    delimiter = max(names, key=lambda sign: len(names[sign]))
    return delimiter, clean_names(names[delimiter], path)


def clean_names(names: Sequence[str], path: Path) -> tuple[str, ...]:
    """Column names without the byte order mark and the spaces that spreadsheets leave around them.

    Raises:
        DataError: as `header`.
    """
    # Table tools write their row numbers as a column without a name.
    clean = tuple(name.strip("\ufeff \t\r\n") or f"unnamed_{place}" for place, name in enumerate(names))
    first: dict[str, str] = {}
    for name in clean:
        other = first.setdefault(name.lower(), name)
        if other is not name:
            how = "one name" if other == name else "names that differ in capitals alone"
            raise DataError(f"{path} has two columns of {how}, '{other}' and '{name}': rename one of them")
    return clean
