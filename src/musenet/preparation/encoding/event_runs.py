"""What came before each request, by its place among the events of its user, which are in order of time.

Once events are in order, how many lie before a moment is a binary search, and how many of these are of some kind the
difference of two running counts: nothing has to be joined.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musenet.recipe.history import Before

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class EventRuns:
    """Events in order of user and time.

    Args:
        time: (E) in microseconds.
        offset: (U + 1) where each user's events begin.
        again: (E + 1) how many of the events before each one repeat an earlier one; None if that is not asked.
    """

    time: NDArray[Any]
    offset: NDArray[Any]
    again: NDArray[Any] | None = None

    def span_of(self, user: NDArray[Any], time: Integers, span: Before) -> tuple[Integers, Integers]:
        """(R) begin and (R) end of the events of each user that lie in the span before each time."""
        begin, until = self.offset[user].astype(np.int64), self.offset[user + 1].astype(np.int64)
        end = self._first_from(begin, until, time - span.delay)
        if span.window is not None:
            begin = self._first_from(begin, end, time - span.window)
        return begin, end

    def repeat_fraction(self, user: NDArray[Any], time: Integers, span: Before) -> NDArray[np.float32]:
        """(R) share of the events in the span that repeat an earlier one; NaN where there is none."""
        assert self.again is not None
        begin, end = self.span_of(user, time, span)
        events, again = end - begin, self.again[end] - self.again[begin]
        return np.where(events > 0, again / np.maximum(events, 1), np.nan).astype(np.float32)

    def _first_from(self, low: Integers, high: Integers, moment: Integers) -> Integers:
        """(R) the first place in [low, high) whose event is not before the moment; `high` if there is none."""
        low, high = low.copy(), high.copy()
        left = np.flatnonzero(low < high)
        while len(left):
            middle = (low[left] + high[left]) >> 1
            earlier = self.time[middle] < moment[left]
            low[left[earlier]] = middle[earlier] + 1
            high[left[~earlier]] = middle[~earlier]
            left = left[low[left] < high[left]]
        return low
