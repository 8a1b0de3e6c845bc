"""Negatives for a log of positives alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from musenet.errors import DataError
from musenet.preparation.relations.event_stream import whole_runs
from musenet.preparation.relations.requests import ITEM_ROW, REQUEST_ROW

IntArray = NDArray[np.int64]
_ROUNDS = 20
_CHUNK = 1 << 22


@dataclass(frozen=True)
class NegativeSampler:
    """Draws distinct items for requests that they did not take, one after another without replacement.

    What a request draws depends on the seed and its own number alone: neither on other requests nor on who draws.

    Args:
        weight: (items) how readily each item is drawn; 0 for never.
        per_request: how many each request gets; 0 for none.
        seed: decides the draw.
    """

    weight: NDArray[Any]
    per_request: int
    seed: int

    def refuse_too_few(self, most: int) -> None:
        """Check that there are enough items to draw from, if a request took at most so many of them.

        Raises:
            DataError: if there are too few.
        """
        drawable = int(np.count_nonzero(self.weight > 0))
        if drawable < self.per_request + most:
            raise DataError(
                f"negatives.per_request is {self.per_request}, but only {drawable} items can be drawn and a request "
                f"took up to {most} of them: ask for at most {max(drawable - most, 0)}"
            )

    def __call__(self, chunks: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """`_request_row` and `_item_row` of the negatives, of such rows of what was taken, in order of requests."""
        for chunk in whole_runs(chunks, [REQUEST_ROW]):
            request, item = (chunk[name].to_numpy().astype(np.int64) for name in (REQUEST_ROW, ITEM_ROW))
            drawn = self.draw(np.unique(request), request, item)
            yield pa.table(dict(zip((REQUEST_ROW, ITEM_ROW), drawn, strict=True)))

    def draw(self, requests: IntArray, taken_request: IntArray, taken_item: IntArray) -> tuple[IntArray, IntArray]:
        """Request and item of each negative (R · per_request), by request.

        Args:
            requests: (R) ascending.
            taken_request: (P) the request of each positive.
            taken_item: (P) its item.
        """
        drawable = np.flatnonzero(self.weight > 0)
        items = np.int64(len(self.weight))
        taken = np.unique(taken_request * items + taken_item)
        cumulative = np.cumsum(self.weight[drawable], dtype=np.float64)
        chunk = max(1, _CHUNK // max(1, self.per_request))
        drawn = [np.zeros(0, dtype=np.int64)]
        for begin in range(0, len(requests), chunk):
            rows = requests[begin : begin + chunk]
            low, high = np.searchsorted(taken, [rows[0] * items, (rows[-1] + 1) * items])
            drawn.append(_draw(rows, taken[low:high], drawable, cumulative, items, self.per_request, self.seed))
        pairs = np.concatenate(drawn)
        return pairs // items, pairs % items


def _draw(
    rows: IntArray,
    taken: IntArray,
    drawable: IntArray,
    cumulative: NDArray[np.float64],
    items: np.int64,
    per_request: int,
    seed: int,
) -> IntArray:
    """Pairs request · items + item of these requests, `per_request` each, by request."""
    accepted = np.zeros(0, dtype=np.int64)
    lacking = np.full(len(rows), per_request)
    for attempt in range(_ROUNDS):
        open_rows = rows[lacking > 0]
        if not len(open_rows):
            break
        uniform = _uniform(seed, open_rows, np.arange(attempt * per_request, (attempt + 1) * per_request))
        item = drawable[np.searchsorted(cumulative, uniform * cumulative[-1], side="right").clip(max=len(drawable) - 1)]
        pairs = (open_rows[:, None] * items + item).ravel()
        first = np.unique(pairs, return_index=True)[1]
        pairs = pairs[np.sort(first)]
        pairs = pairs[~np.isin(pairs, taken) & ~np.isin(pairs, accepted)]
        place = _place_in_run(pairs // items)
        pairs = pairs[place < lacking[np.searchsorted(rows, pairs // items)]]
        lacking -= np.bincount(np.searchsorted(rows, pairs // items), minlength=len(rows))
        accepted = np.concatenate([accepted, pairs])
    for row, number in zip(rows[lacking > 0], lacking[lacking > 0], strict=True):
        # Few: almost every item that is readily drawn is taken already.
        barred = np.concatenate([taken, accepted])
        barred = barred[barred // items == row] % items
        left = ~np.isin(drawable, barred)
        weights = np.diff(cumulative, prepend=0.0)[left]
        rank = np.log(_uniform(seed, np.array([row]), np.arange(1 << 40, (1 << 40) + len(weights)))[0]) / weights
        chosen = drawable[left][np.argsort(-rank, kind="stable")[:number]]
        accepted = np.concatenate([accepted, row * items + chosen])
    return np.sort(accepted)


def _place_in_run(groups: IntArray) -> IntArray:
    """How many rows of the same group come before each row; groups are ascending."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))


def _uniform(seed: int, rows: IntArray, attempts: IntArray) -> NDArray[np.float64]:
    """(rows, attempts) numbers in (0, 1), each a function of seed, row and attempt: SplitMix64's mixing, chained."""
    mixed = _mix(_mix(np.array([seed], dtype=np.uint64))[0] ^ rows.astype(np.uint64))
    bits = _mix(mixed[:, None] ^ attempts.astype(np.uint64)[None, :])
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
