"""Columns as `.npy` files, written and read a block of rows at a time: memory does not grow with their length."""

from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20
_HEADER = Lock()
"""Held while a header is parsed: Python before 3.11.9 counts its parser's depth for all threads together, and fails."""


def column_file(folder: Path, name: str) -> Path:
    """Where a column of this name lies."""
    return folder / f"{name}.npy"


class NewColumn:
    """A `.npy` file that is filled from its beginning; use it as a context manager.

    Written as a file rather than mapped into memory: a disk that fills up is then an error and not the process's end,
    and what is written does not stay in memory.

    Args:
        folder: made if need be.
        name: without the ending.
        shape: of the whole column, rows first.
        dtype: of its values.
    """

    def __init__(self, folder: Path, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._dtype = np.dtype(dtype)
        self._rows = shape[0]
        self._written = 0
        self._file = column_file(folder, name).open("wb")
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, values: NDArray[Any]) -> None:
        """Write the next rows."""
        self._written += len(values)
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None and self._written != self._rows:
            raise AssertionError(f"{self._file.name}: {self._written} rows instead of {self._rows}")


def write_column(folder: Path, name: str, values: NDArray[Any]) -> None:
    """Write a column that is in memory already."""
    with NewColumn(folder, name, values.shape, values.dtype) as column:
        column.append(values)


def mapped(folder: Path, name: str) -> NDArray[Any]:
    """A column, mapped into memory."""
    with _HEADER:
        return np.asarray(np.load(column_file(folder, name), mmap_mode="r", allow_pickle=False))


def blocks(
    folder: Path, name: str, begin: int = 0, end: int | None = None, at_once: int = BLOCK
) -> Iterator[tuple[int, NDArray[Any]]]:
    """The rows from `begin` to before `end` in memory, so many at a time, each block with its first row's number."""
    with column_file(folder, name).open("rb") as file:
        with _HEADER:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        width = int(np.prod(shape[1:], dtype=np.int64))
        file.seek(begin * width * dtype.itemsize, 1)
        for first in range(begin, shape[0] if end is None else end, at_once):
            rows = min(at_once, (shape[0] if end is None else end) - first)
            yield first, np.fromfile(file, dtype=dtype, count=rows * width).reshape(rows, *shape[1:])
