"""Rows set aside on disk in parts, each small enough to be put in order in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musenet.simulators.arrays import Integers

Rows = NDArray[np.void]
"""A structured array: the columns of one row lie side by side."""


class PartsOnDisk:
    """Takes rows in any order of their parts, gives them back part by part, and forgets what it gave.

    Args:
        folder: a new folder, gone once all parts are read.
        count: of parts.
        columns: the rows' type.
    """

    def __init__(self, folder: Path, count: int, columns: np.dtype[Any]) -> None:
        self.count = count
        self._folder, self._columns = folder, columns
        folder.mkdir()

    def add(self, part: Integers, **columns: NDArray[Any]) -> None:
        """Set rows aside, each in its part."""
        order = np.argsort(part.astype(np.uint16), kind="stable")
        rows = np.empty(len(part), self._columns)
        for name, values in columns.items():
            rows[name] = values[order]
        ends = np.cumsum(np.bincount(part, minlength=self.count))
        for number, (start, end) in enumerate(zip(np.append(0, ends), ends, strict=False)):
            if end > start:
                with self._path(number).open("ab") as file:
                    rows[start:end].tofile(file)

    def read(self) -> Iterator[Rows]:
        """Yield each part's rows in the order in which they came."""
        for number in range(self.count):
            path = self._path(number)
            yield np.fromfile(path, self._columns) if path.exists() else np.empty(0, self._columns)
            path.unlink(missing_ok=True)
        self._folder.rmdir()

    def _path(self, number: int) -> Path:
        return self._folder / str(number)
