"""How columns are distributed, and how far that lies from how they were: the population stability index.

PSI = Σ_b (q_b − p_b) log(q_b / p_b) over bins b, p before and q now; half a row is put into each bin, so that none is
empty. Shapes: rows of one side, requests or candidates.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from musenet.dataset.manifest import UNSEEN, Field
from musenet.results import Result

Integers = NDArray[np.int64]
MOST_VALUES = 20
"""Of a vocabulary, those that have a bin of their own; the others share one."""
QUANTILES = 10
Side = Literal["request", "candidate"]


class Column(Result):
    """How an encoded column was distributed."""

    name: str
    side: Side
    place: int
    """Of its first code, or of its number, among those of its side."""
    width: int = 1
    values: list[int] | None = None
    """Embedding rows with a bin of their own, before the bin of all others; None for numbers."""
    edges: list[float] | None = None
    """Of the bins of numbers."""
    unseen: int | None = None
    """The embedding row of unseen values; None for numbers."""
    counts: list[int] = []
    unseen_share: float = 0.0
    """In the period that unseen shares are compared with."""

    def binned(self, codes: Integers, numbers: NDArray[np.floating]) -> Integers:
        """(bins) how many rows lie in each."""
        if self.edges is not None:
            places = np.searchsorted(np.array(self.edges), numbers[:, self.place].astype(np.float64), side="right")
            return np.bincount(places, minlength=len(self.edges) + 1)
        own = codes[:, self.place : self.place + self.width].ravel()
        own = own[own > 0]  # padding of lists
        known = np.array(self.values, dtype=np.int64)
        at = np.minimum(np.searchsorted(known, own), len(known) - 1)
        return np.bincount(np.where(known[at] == own, at, len(known)), minlength=len(known) + 1)

    def unseen_in(self, codes: Integers) -> tuple[int, int]:
        """How many values are unseen ones, of how many."""
        own = codes[:, self.place : self.place + self.width].ravel()
        return int((own == self.unseen).sum()), int((own > 0).sum())


def columns_of(fields: Sequence[Field], side: Side, offset: dict[str, int]) -> Iterator[Column]:
    """The columns of one side, without bins yet; left out are positions, which scoring fixes, and vectors.

    Args:
        fields: of it, in the order of the codes and numbers.
        side: of requests or of candidates.
        offset: embedding row before each vocabulary's first code.
    """
    codes = numbers = 0
    for field in fields:
        if field.kind == "dense":
            yield Column(name=field.name, side=side, place=numbers, edges=[])
            numbers += 1
            continue
        if not field.has_codes:  # a vector
            continue
        if not field.is_position:
            first = offset[field.vocabulary or field.name]
            yield Column(name=field.name, side=side, place=codes, width=field.width, values=[], unseen=first + UNSEEN)
        codes += field.width


def with_bins(column: Column, codes: Integers, numbers: NDArray[np.floating], *, of_ids: bool) -> Column:
    """The column with bins that these rows fill, and how many lie in each; ids get none, everybody is a new one."""
    if column.edges is not None:
        own = numbers[:, column.place].astype(np.float64)
        edges = np.unique(np.quantile(own, np.arange(1, QUANTILES) / QUANTILES))
        column = column.model_copy(update={"edges": edges.tolist()})
    elif not of_ids:
        values = codes[:, column.place : column.place + column.width].ravel()
        found, counts = np.unique(values[values > 0], return_counts=True)
        most = found[np.argsort(-counts, kind="stable")[:MOST_VALUES]]
        column = column.model_copy(update={"values": np.sort(most).tolist()})
    if not column.values and not column.edges:
        return column
    return column.model_copy(update={"counts": column.binned(codes, numbers).tolist()})


def stability(before: Sequence[float], now: Sequence[float]) -> float:
    """The population stability index of counts in the same bins.

    >>> round(stability([500, 500], [600, 400]), 3)
    0.041
    """
    p, q = (np.asarray(counts, dtype=np.float64) + 0.5 for counts in (before, now))
    first, second = p / p.sum(), q / q.sum()
    return float(np.sum((second - first) * np.log(second / first)))


def by_chance(bins: int, users_before: int, users_now: int) -> float:
    """What the index is on average where nothing moved and each user's rows are alike.

    Then n m / (n + m) times the index is about chi-squared of bins − 1 degrees of freedom (Yurdakul, 2018).
    """
    return (bins - 1) * (1 / max(users_before, 1) + 1 / max(users_now, 1))
