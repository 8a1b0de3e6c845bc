"""Texts and their numbers on disk, found by binary search without being read into memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from musenet.data.encoding import write_column

NOWHERE = -1
_NONE = b"\0"


class TextIndex:
    """Sorted texts, each with a number: `<name>.npy` holds their bytes, `<name>.numbers.npy` the numbers.

    Args:
        folder: where the files lie.
        name: of the files.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._texts = map_column(folder, name)
        self._numbers = map_column(folder, f"{name}.numbers")
        self._width = self._texts.dtype.itemsize

    @staticmethod
    def write(folder: Path, name: str, texts: pa.Array, first: int = 0) -> None:
        """Write an index of these distinct texts; their numbers count up from `first`."""
        encoded = [text.encode() for text in texts.to_pylist()]
        rows = np.array(encoded, dtype=f"S{max([len(one) for one in encoded], default=1) or 1}")
        order = np.argsort(rows, kind="stable")
        write_column(folder, name, rows[order])
        write_column(folder, f"{name}.numbers", (order + first).astype(np.int32))

    def find(self, texts: Sequence[str | None]) -> NDArray[np.int64]:
        """(rows) the number of each text; -1 for those that are not there, and for None."""
        # Bytes of another width would be compared through a copy of the whole index; a NUL at the end would be cut off.
        encoded = [_NONE if text is None else text.encode("utf-8", "replace") for text in texts]
        fits = np.array([len(one) <= self._width and not one.endswith(b"\0") for one in encoded], dtype=bool)
        if not len(self._texts):
            return np.full(len(encoded), NOWHERE, dtype=np.int64)
        wanted = np.array(encoded, dtype=self._texts.dtype)
        place = np.minimum(np.searchsorted(self._texts, wanted), len(self._texts) - 1)
        found = (self._texts[place] == wanted) & fits
        return np.where(found, self._numbers[place], NOWHERE).astype(np.int64)


def map_column(folder: Path, name: str) -> NDArray[Any]:
    """A `.npy` file mapped into memory."""
    mapped: NDArray[Any] = np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
    return mapped
