"""Events of users, in order of time, put behind those that the same users had."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musenet.dataset.column_files import BLOCK

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class JoinedRuns:
    """Where events of the past and added ones stand together.

    Args:
        before: (U before + 1) where each user's events begin.
        added: (E added) the row of each added event's user, by the rows of now.
        users: of now, the unseen one included.
    """

    before: Integers
    added: Integers
    users: int

    @cached_property
    def order(self) -> Integers:
        """(E added) the added events in order of their users' rows; each user's stay in order of time."""
        return np.argsort(self.added, kind="stable")

    @cached_property
    def offset(self) -> Integers:
        """(users + 1) where each user's events begin now."""
        sizes = np.bincount(self.added, minlength=self.users)
        sizes[: len(self.before) - 1] += np.diff(self.before)
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])

    @cached_property
    def shift(self) -> Integers:
        """(U before) by how many rows each user's earlier events move."""
        return self.offset[: len(self.before) - 1] - self.before[:-1]

    @cached_property
    def _added_offset(self) -> Integers:
        sizes = np.bincount(self.added, minlength=self.users)
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])

    def rows_before(self, rows: Integers) -> Integers:
        """(rows) where events of the past stand now."""
        user = np.searchsorted(self.before, rows, side="right") - 1
        return rows + self.shift[user]

    @cached_property
    def rows_added(self) -> Integers:
        """(E added) where the added events stand now."""
        place = np.empty(len(self.added), dtype=np.int64)
        user = self.added[self.order]
        within = np.arange(len(user)) - self._added_offset[user]
        place[self.order] = self.offset[user + 1] - np.diff(self._added_offset)[user] + within
        return place

    def joined(self, before: NDArray[Any], added: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """A column of both, block by block."""
        in_order = added[self.order]
        first = 0
        while first < self.users:
            # As many users as fill a block, one at least.
            until = int(np.searchsorted(self.offset, self.offset[first] + BLOCK, side="right")) - 1
            until = min(max(until, first + 1), self.users)
            yield self._block(before, in_order, first, until)
            first = until

    def _block(self, before: NDArray[Any], added: NDArray[Any], first: int, until: int) -> NDArray[Any]:
        base, size = int(self.offset[first]), int(self.offset[until] - self.offset[first])
        block = np.empty((size, *before.shape[1:]), dtype=before.dtype)
        of_past = np.zeros(size, dtype=bool)
        known = min(until, len(self.before) - 1)
        if first < known:
            low, high = int(self.before[first]), int(self.before[known])
            shifts = np.repeat(self.shift[first:known], np.diff(self.before[first : known + 1]))
            of_past[np.arange(low, high) + shifts - base] = True
            block[of_past] = before[low:high]
        low, high = int(self._added_offset[first]), int(self._added_offset[until])
        block[~of_past] = added[low:high]
        return block
