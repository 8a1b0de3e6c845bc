"""Texts and their numbers on disk, found by binary search without being read into memory.

Texts of up to eight bytes, as most ids are, are kept as whole numbers of the same order, which compare faster. Texts
that are themselves whole numbers, and close enough to each other, also stand in a table, in which they are looked up
rather than searched for.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.dataset.column_files import write_column

NOWHERE = -1
SHORT = 8
SPARSEST = 8
"""A table may have this many places for each text."""
_NONE = b"\0"
LONGEST = 19
"""Digits that surely fit into 64 bits are fewer."""
_WHOLE = re.compile("0|-?[1-9][0-9]{0,18}")
"""Texts of whole numbers of up to 64 bits, as `str` writes them."""
_FEW_DIGITS = f"^(0|[1-9][0-9]{{0,{LONGEST - 2}}})$"


class TextIndex:
    """Sorted texts, each with a number: `<name>.npy` holds their bytes, `<name>.numbers.npy` the numbers.

    `<name>.table.npy`, if there is one, holds the number of the text `0`, of `1`, …; the last place is of no text.

    Args:
        folder: where the files lie.
        name: of the files.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._texts = map_column(folder, name)
        self._numbers = map_column(folder, f"{name}.numbers")
        self._table = map_column(folder, f"{name}.table") if (folder / f"{name}.table.npy").is_file() else None
        self._width = self._texts.dtype.itemsize
        self._short = self._texts.dtype.kind == "u"

    @staticmethod
    def write(folder: Path, name: str, texts: pa.Array, first: int = 0) -> None:
        """Write an index of these distinct texts; their numbers count up from `first`."""
        table = _table(texts.to_pylist(), first)
        if table is not None:
            write_column(folder, f"{name}.table", table)
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

    def find(self, texts: Sequence[str | None] | pa.Array) -> NDArray[np.int64]:
        """(rows) the number of each text, or of the text of each whole number of an array; -1 where there is none."""
        whole = _whole_numbers_of if isinstance(texts, pa.Array) else _whole_numbers
        wanted = None if self._table is None else whole(texts)
        if self._table is None or wanted is None:
            return self._of_texts(texts.cast(pa.string()) if isinstance(texts, pa.Array) else texts)
        last = len(self._table) - 1
        return self._table.take(np.where((wanted >= 0) & (wanted < last), wanted, last)).astype(np.int64)

    def _of_texts(self, texts: Sequence[str | None] | pa.Array) -> NDArray[np.int64]:
        if not len(self._texts) or not len(texts):
            return np.full(len(texts), NOWHERE, dtype=np.int64)
        encoded, fits = self._bytes_of(texts) if isinstance(texts, pa.Array) else self._bytes(texts)
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

    def _bytes_of(self, texts: pa.Array) -> tuple[NDArray[np.bytes_], NDArray[np.bool_]]:
        """As `_bytes`, of an array of text."""
        fits = pc.and_not(pc.less_equal(pc.binary_length(texts), self._width), pc.ends_with(texts, "\0"))
        fits = pc.fill_null(fits, False)
        padded = pc.ascii_rpad(pc.if_else(fits, texts, ""), self._width, "\0")
        encoded = np.frombuffer(padded.buffers()[2], dtype=f"S{self._width}", count=len(texts))
        return encoded, fits.to_numpy(zero_copy_only=False)


def _as_numbers(texts: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """Whole numbers in the order of these texts of eight bytes."""
    return texts.view(">u8").astype(np.uint64)


def _whole_numbers(texts: Sequence[str | None]) -> NDArray[np.int64] | None:
    """The numbers that the texts are; None where one is missing, or not a whole number as `str` writes it."""
    if set(map(type, texts)) != {str}:
        return None
    together = "".join(texts)  # type: ignore[arg-type]
    if not (together.isascii() and together.isdigit() and all(texts) and max(map(len, texts)) < LONGEST):  # type: ignore[arg-type]
        return None
    numbers = list(map(int, texts))  # type: ignore[arg-type]
    return np.array(numbers, dtype=np.int64) if list(map(str, numbers)) == texts else None


def _whole_numbers_of(texts: pa.Array) -> NDArray[np.int64] | None:
    """As `_whole_numbers`, of an array of whole numbers or of text; nothing is -1."""
    if not pa.types.is_integer(texts.type):
        if pc.all(pc.match_substring_regex(texts, _FEW_DIGITS)).as_py() is False:
            return None
        texts = texts.cast(pa.int64())
    numbers: NDArray[np.int64] = texts.cast(pa.int64(), safe=False).fill_null(NOWHERE).to_numpy(zero_copy_only=False)
    return numbers


def _table(texts: Sequence[str], first: int) -> NDArray[np.int32] | None:
    """The number of each text by the whole number that it is, NOWHERE between and after, texts of none left out.

    None where a number is negative, or too many places would be empty.
    """
    places = {int(text): place + first for place, text in enumerate(texts) if _WHOLE.fullmatch(text)}
    size = max(places, default=-1) + 1
    if min(places, default=-1) < 0 or size > SPARSEST * len(places):
        return None
    table = np.full(size + 1, NOWHERE, dtype=np.int32)
    table[list(places)] = list(places.values())
    return table


def map_column(folder: Path, name: str) -> NDArray[Any]:
    """A `.npy` file mapped into memory."""
    mapped: NDArray[Any] = np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
    return mapped
