"""What preparation and serving must do alike on the way from values to codes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.dataset.manifest import MISSING, PADDING

Codes = NDArray[np.int32]


def encode_lists(
    column: pa.Array | pa.ChunkedArray, width: int, encode: Callable[[pa.Array], NDArray[np.int32]]
) -> NDArray[np.int32]:
    """(rows, width) codes of the first distinct values of each list, padded; (2, 0, …) where it holds none.

    Args:
        column: of lists.
        width: how many values are kept.
        encode: gives the code of every value.
    """
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values = pc.list_flatten(flat)
    rows = pc.list_parent_indices(flat).to_numpy(zero_copy_only=False).astype(np.int64)
    if values.null_count:
        there = values.is_valid()
        rows, values = rows[there.to_numpy(zero_copy_only=False)], values.filter(there)
    distinct = values.dictionary_encode()
    pairs = rows * max(len(distinct.dictionary), 1) + distinct.indices.to_numpy(zero_copy_only=False)
    kept = np.sort(np.unique(pairs, return_index=True)[1])
    rows, codes = rows[kept], encode(values)[kept]
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    place = np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
    matrix = np.full((len(flat), width), PADDING, dtype=np.int32)
    matrix[:, 0] = MISSING
    fits = place < width
    matrix[rows[fits], place[fits]] = codes[fits]
    return matrix


def sort_ties(user: NDArray[Any], time: NDArray[Any], columns: Sequence[NDArray[Any]]) -> None:
    """Order rows of equal user and time by all columns, in place; the rows are sorted by user and time already."""
    same = np.zeros(len(time), dtype=bool)
    if len(time) > 1:
        same[1:] = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    tied = same.copy()
    tied[:-1] |= same[1:]
    rows = np.flatnonzero(tied)
    if not len(rows) or not columns:
        return
    group = np.cumsum(~same)[rows]
    flat = [part for column in columns for part in column[rows].reshape(len(rows), -1).T]
    order = np.lexsort([*flat[::-1], group])
    for column in columns:
        column[rows] = column[rows][order]


def distinct_rows(blocks: list[NDArray[np.int64]]) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """The distinct rows in order of first use, padding first, and each block as positions in them."""
    flat = np.concatenate([np.zeros(1, dtype=np.int64), *(block.ravel() for block in blocks)])
    encoded = pa.array(flat).dictionary_encode()
    positions = encoded.indices.to_numpy().astype(np.int64)[1:]
    sizes = np.cumsum([block.size for block in blocks])[:-1]
    pieces = np.split(positions, sizes)
    indices = [piece.reshape(block.shape) for piece, block in zip(pieces, blocks, strict=True)]
    return encoded.dictionary.to_numpy().copy(), indices
