"""What is resampled: a model's predictions, and how often each user is drawn."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musenet.metrics import FloatArray, IntArray

RESAMPLES = 400
CACHED_BYTES = 2**28
BLOCK_VALUES = 2**21


@dataclass(frozen=True, eq=False)
class Sample:
    """One model's predictions: a row per impression, all arrays (N).

    Label is 0 or 1, the logit finite; user and request are ids, a request belonging to one user; weight, if given,
    says how many impressions a row stands for. What cannot be measured on is a `ValueError`.
    """

    label: FloatArray
    logit: FloatArray
    user: NDArray[Any]
    request: NDArray[Any]
    weight: FloatArray | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__  # the way to normalise a frozen dataclass's own fields
        put(self, "label", np.asarray(self.label, dtype=np.float64))
        put(self, "logit", np.asarray(self.logit, dtype=np.float64))
        put(self, "user", np.asarray(self.user))
        put(self, "request", np.asarray(self.request))
        if self.weight is not None:
            put(self, "weight", np.asarray(self.weight, dtype=np.float64))
        self._check()

    def _check(self) -> None:
        if self.label.size == 0:
            raise ValueError("the sample is empty: there are no impressions to resample")
        columns = {"logit": self.logit, "user": self.user, "request": self.request, "weight": self.weight}
        for name, column in columns.items():
            if column is not None and column.shape != (self.label.size,):
                raise ValueError(f"{name} has shape {column.shape}, label {self.label.shape}; all must be (N,) alike")
        if not np.isin(self.label, (0, 1)).all():
            raise ValueError("label must be 0 or 1 in every row")
        if not np.isfinite(self.logit).all():
            raise ValueError(f"logit must be finite; {int((~np.isfinite(self.logit)).sum())} rows are not")
        if self.weight is not None and not (np.isfinite(self.weight).all() and self.weight.min() >= 0):
            raise ValueError("weight must be finite and at least 0 in every row")

    @cached_property
    def weights(self) -> FloatArray:
        """The weight, or ones: (N)."""
        return np.ones(len(self.label)) if self.weight is None else self.weight

    def part(self, rows: NDArray[np.bool_] | NDArray[np.intp] | slice) -> "Sample":
        """The same of some rows, by a mask (N), by their places, or as a slice."""
        weight = None if self.weight is None else self.weight[rows]
        return Sample(self.label[rows], self.logit[rows], self.user[rows], self.request[rows], weight)


class UserDraws:
    """The resamples: how often each user is drawn in each, the same whenever they are asked for again.

    `user` holds ids, repeated or not; `ids` are the distinct ones in order. Every resample draws as many users as
    there are, with replacement. The counts are kept if they fit in 256 MiB and drawn afresh in each pass if not.
    """

    def __init__(self, user: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> None:
        self.ids: NDArray[Any] = np.unique(np.asarray(user))
        if len(self.ids) == 0:
            raise ValueError("there are no users to draw from")
        if resamples < 1:
            raise ValueError(f"resamples is {resamples}; at least one is needed")
        self.resamples = resamples
        self.seed = seed

    @property
    def users(self) -> int:
        """The number of distinct users, U."""
        return len(self.ids)

    def index(self, user: ArrayLike) -> IntArray:
        """The place of each user among the ids; `ValueError` unless the users are exactly those of the draws."""
        asked = np.asarray(user)
        place = np.minimum(np.searchsorted(self.ids, asked), self.users - 1).astype(np.int64)
        strangers = np.unique(asked[self.ids[place] != asked])
        absent = self.users - len(np.unique(place))
        if len(strangers) or absent:
            raise ValueError(
                f"the draws are of other users: {len(strangers)} of the sample's are not among the draws' {self.users},"
                f" {absent} of those are not in the sample; models are compared on the same impressions"
            )
        return place

    def blocks(self) -> Iterator[FloatArray]:
        """All resamples' counts in turn, several at a time: (B × U) each."""
        size = max(1, min(self.resamples, BLOCK_VALUES // self.users))
        if self.resamples * self.users <= CACHED_BYTES:
            for start in range(0, self.resamples, size):
                yield self._counts[start : start + size].astype(np.float64)
            return
        drawn = self._draw()
        for start in range(0, self.resamples, size):
            yield np.stack([next(drawn) for _ in range(min(size, self.resamples - start))]).astype(np.float64)

    def seeds(self, count: int, stream: int = 0) -> IntArray:
        """Which of `count` training seeds each resample draws: (resamples × count). Streams are independent."""
        generator = np.random.default_rng([self.seed, 1, stream, count])
        return generator.integers(count, size=(self.resamples, count))

    @cached_property
    def _counts(self) -> NDArray[np.uint8]:
        # The chance that one of U users is drawn more than 255 times in U draws is below 1e-500.
        return np.stack([counts.astype(np.uint8) for counts in self._draw()])

    def _draw(self) -> Iterator[IntArray]:
        generator = np.random.default_rng([self.seed, 0])
        for _ in range(self.resamples):
            yield np.bincount(generator.integers(self.users, size=self.users), minlength=self.users)
