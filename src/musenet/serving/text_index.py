"""Texts and their numbers on disk, found by binary search without being read into memory.

Texts of up to eight bytes, as most ids are, are kept as whole numbers of the same order, which compare faster.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from musenet.data.column_files import write_column

NOWHERE = -1
SHORT = 8
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
        self._short = self._texts.dtype.kind == "u"

    @staticmethod
    def write(folder: Path, name: str, texts: pa.Array, first: int = 0) -> None:
        """Write an index of these distinct texts; their numbers count up from `first`."""
        encoded = [text.encode() for text in texts.to_pylist()]
        width = max(SHORT, *(len(one) for one in encoded)) if encoded else SHORT
        rows = np.array(encoded, dtype=f"S{width}")
        rows = _as_numbers(rows) if width == SHORT else rows
        order = np.argsort(rows, kind="stable")
        write_column(folder, name, rows[order])
        write_column(folder, f"{name}.numbers", (order + first).astype(np.int32))

    def first(self, count: int) -> list[str]:
        """The texts of the smallest numbers, in their order: of a vocabulary, the most frequent values."""
        chosen = self._texts[np.argsort(self._numbers, kind="stable")[:count]]
        texts = chosen.astype(">u8").view(f"S{SHORT}") if self._short else chosen
        return [text.decode() for text in texts.tolist()]

    def find(self, texts: Sequence[str | None]) -> NDArray[np.int64]:
        """(rows) the number of each text; -1 for those that are not there, and for None."""
        if not len(self._texts) or not len(texts):
            return np.full(len(texts), NOWHERE, dtype=np.int64)
        encoded, fits = self._bytes(texts)
        wanted = _as_numbers(encoded) if self._short else encoded
        place = np.minimum(np.searchsorted(self._texts, wanted), len(self._texts) - 1)
        found = (self._texts[place] == wanted) & fits
        return np.where(found, self._numbers[place], NOWHERE).astype(np.int64)

    def _bytes(self, texts: Sequence[str | None]) -> tuple[NDArray[np.bytes_], NDArray[np.bool_]]:
        """The texts in the index's width, and which of them are as they were: too long ones are cut, as are NULs."""
        kind = f"S{self._width}"
        try:
            whole = "".join(texts)  # type: ignore[arg-type]
            if "\0" not in whole and max(map(len, texts)) <= self._width:  # type: ignore[arg-type]
                return np.array(texts, dtype=kind), np.ones(len(texts), dtype=bool)
        except (TypeError, UnicodeEncodeError):  # None, or more than ASCII
            pass
        encoded = [_NONE if text is None else text.encode("utf-8", "replace") for text in texts]
        fits = [len(one) <= self._width and not one.endswith(b"\0") for one in encoded]
        return np.array(encoded, dtype=kind), np.array(fits, dtype=bool)


def _as_numbers(texts: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """Whole numbers in the order of these texts of eight bytes."""
    return texts.view(">u8").astype(np.uint64)


def map_column(folder: Path, name: str) -> NDArray[Any]:
    """A `.npy` file mapped into memory."""
    mapped: NDArray[Any] = np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
    return mapped
