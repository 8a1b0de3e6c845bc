"""A request as the graphs take it.

Shapes: U rows of the embedding table in use, N candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musenet.serving.scorer.repeats import CandidateRepeats, Places
from musenet.serving.scorer.runtime import Arrays


@dataclass(frozen=True)
class EncodedRequest:
    """A request as the graphs take it, and what was found on the way."""

    inputs: Arrays
    """By name, see `one_request.INPUTS`."""
    rows: NDArray[np.int64]
    """(U,) the rows of the embedding table that codes are places in."""
    repeats: CandidateRepeats
    unknown: dict[str, Any]


def rows_in_use(blocks: Sequence[Places]) -> tuple[Places, list[Places]]:
    """The rows of the embedding table that blocks hold, padding first, and each block as places among them.

    A row that is used twice is there twice: in one request, finding out takes longer than gathering it again.
    """
    rows = np.concatenate([np.zeros(1, dtype=np.int64), *(block.ravel() for block in blocks)])
    places = np.where(rows > 0, np.arange(len(rows)), 0)[1:]
    pieces = np.split(places, np.cumsum([block.size for block in blocks])[:-1])
    return rows, [piece.reshape(block.shape) for piece, block in zip(pieces, blocks, strict=True)]
