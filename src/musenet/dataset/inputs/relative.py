"""A candidate's place among the candidates of its own request, as numbers of the candidate.

People choose among what they see: the cheapest of a list is cheap whatever it costs, and the one touched a moment ago
is the latest whenever that was. Nothing here depends on other requests, and training and serving share it to the bit.

Shapes: R requests, N candidates, C numeric columns.
"""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musenet.dataset.manifest import Field

PLACE = "place in the list"
"""The one column that all of this counts as, where columns are told of."""
COMPARISONS = ("rank in the list", "difference to the list's mean")
REPEATS = ("repeat count", "repeat recency")
TOUCHED = ("touched last of the list", "how many of the list were touched")
LENGTH = "length of the list"
Numbers = NDArray[np.float32]
Floats = NDArray[np.float64]
Places = NDArray[np.int64]


class Relative:
    """The numbers that are appended to those of candidates.

    Args:
        fields: of the dataset; its dense ones of items and candidates are compared, but not those that say that a
            number is missing.
        fitted: names of the numeric features and vectors.
        has_repeats: whether candidates have repeat features, which are compared too.
    """

    def __init__(self, fields: Iterable[Field], fitted: Collection[str], has_repeats: bool) -> None:
        flags = {f"{name}.missing" for name in fitted}
        names = [one.name for one in fields if one.side in ("item", "candidate") and one.kind == "dense"]
        self._compared = [place for place, name in enumerate(names) if name not in flags]
        self._has_repeats = has_repeats
        compared = [names[place] for place in self._compared] + (list(REPEATS) if has_repeats else [])
        told = [f"{name}, {what}" for name in compared for what in COMPARISONS]
        told += [*(TOUCHED if has_repeats else []), LENGTH]
        self.fields = tuple(Field(name=name, side="candidate", kind="dense", column=PLACE) for name in told)
        """What is appended, in order."""

    def append(self, dense: Numbers, repeats: Numbers, offset: Places) -> Numbers:
        """(N, D + fields) the numbers of candidates with their places in the list.

        Args:
            dense: (N, D) those of items and candidates.
            repeats: (N, 3) of `repeat_features`.
            offset: (R + 1,) where each request's candidates begin.
        """
        own = relative_features(dense[:, self._compared], repeats if self._has_repeats else None, offset)
        return np.concatenate([dense, own], axis=1)


def relative_features(numbers: Numbers, repeats: Numbers | None, offset: Places) -> Numbers:
    """(N, 2C + 1, or 2C + 7 with repeats) rank in the list and difference to its mean by each number, and more.

    Ranks are mid-ranks from 0, the least, to 1, the greatest; .5 where there is one candidate. By recency the latest
    touched is the greatest, those never touched are the least, and differ by 0 from the mean, which is of the others.
    Then, if candidates have repeat features: whether a candidate was touched last (several are, if at one moment), and
    log(1 + how many were touched). At the end log(how many candidates there are).

    Args:
        numbers: (N, C) a missing one counts as what it was filled with.
        repeats: (N, 3) of `repeat_features`, or None.
        offset: (R + 1,) where each request's candidates begin.
    """
    lengths = np.diff(offset)
    request = np.repeat(np.arange(len(lengths)), lengths)
    every = np.ones(len(request), dtype=bool)
    columns: list[NDArray[Any]] = []
    for values in numbers.T.astype(np.float64):
        columns += [_ranks(values, request, offset), _differences(values, every, request)]
    if repeats is not None:
        indicator, count, ago = repeats.T.astype(np.float64)
        touched = indicator > 0
        recent = np.where(touched, -ago, -np.inf)
        columns += [_ranks(count, request, offset), _differences(count, every, request)]
        columns += [_ranks(recent, request, offset), _differences(-ago, touched, request)]
        latest = np.full(len(lengths), -np.inf)
        np.maximum.at(latest, request, recent)
        columns += [touched & (recent == latest[request])]
        columns += [np.log1p(np.bincount(request, touched, len(lengths)))[request]]
    columns.append(np.log(lengths[request]))
    return np.stack(columns, axis=1).astype(np.float32)


def _ranks(values: Floats, request: Places, offset: Places) -> Floats:
    """(N,) mid-ranks within each request, scaled to [0, 1]."""
    order = np.lexsort((values, request))
    ordered = values[order]
    begins = np.ones(len(order), dtype=bool)  # of runs of ties; the candidates of a request stay where they were
    begins[1:] = (ordered[1:] != ordered[:-1]) | (request[1:] != request[:-1])
    first = np.flatnonzero(begins)
    sizes = np.diff(first, append=len(order))
    ranks = np.empty(len(order))
    ranks[order] = np.repeat(first + (sizes - 1) / 2, sizes) - offset[request]
    others = np.diff(offset)[request] - 1
    return np.where(others > 0, ranks / np.maximum(others, 1), 0.5)


def _differences(values: Floats, among: NDArray[np.bool_], request: Places) -> Floats:
    """(N,) what each differs from the mean of those of its request that are `among`; 0 for the others."""
    sums, counts = np.bincount(request, np.where(among, values, 0)), np.bincount(request, among)
    return np.where(among, values - (sums / np.maximum(counts, 1))[request], 0)
