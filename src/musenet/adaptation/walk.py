"""The walk through a period in order of time: a request is predicted before its answer counts.

Shapes: R requests, N candidates.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from musenet.dataset.roles import MICROSECONDS
from musenet.evaluation.predictions import Floats, Integers, Predictions


@dataclass(frozen=True, eq=False)
class Period:
    """A split's requests in order of time, those without candidates left out, and their candidates in that order."""

    requests: Integers
    """(R) rows of the predictions' requests."""
    candidates: Integers
    """(N) rows of the predictions' candidates."""
    time: Integers
    """(R) in microseconds, ascending."""
    sizes: Integers
    """(R) candidates of each."""
    begin: Integers
    """(R + 1) where each request's candidates begin."""

    @classmethod
    def of(cls, predictions: Predictions) -> "Period":
        """The period that these predictions are of."""
        shown, first, sizes = np.unique(predictions.place, return_index=True, return_counts=True)
        order = np.argsort(predictions.time[first], kind="stable")
        requests, first, sizes = shown[order], first[order], sizes[order]
        begin = np.concatenate([[0], np.cumsum(sizes)])
        candidates = np.arange(begin[-1]) + np.repeat(first - begin[:-1], sizes)
        return cls(requests, candidates, predictions.time[first], sizes, begin)

    def candidates_of(self, requests: slice) -> slice:
        """Places in `candidates` of these consecutive requests."""
        return slice(int(self.begin[requests.start]), int(self.begin[requests.stop]))

    def back(self, values: Floats) -> Floats:
        """(N) of values in order of time, as the predictions' candidates stand."""
        placed = np.empty_like(values)
        placed[self.candidates] = values
        return placed

    def walk(
        self, answers_after: float, every: int, learn: Callable[[slice], None], predict: Callable[[slice], None]
    ) -> None:
        """Predict every request by what was learned from answers that were there before.

        A request's answer is there so much later than the request, and counts for requests strictly after that. It is
        learned from as soon as a block of answers is full.

        Args:
            answers_after: seconds.
            every: requests of a block.
            learn: called with each block, in order of time.
            predict: called with the requests to predict, in order of time.
        """
        answered = np.searchsorted(self.time, self.time - round(answers_after * MICROSECONDS), side="left")
        blocks, begins = np.unique(answered // every, return_index=True)
        learned = 0
        for block, begin, end in zip(blocks.tolist(), begins, [*begins[1:], len(self.time)], strict=True):
            while learned < block:
                learn(slice(learned * every, (learned + 1) * every))
                learned += 1
            predict(slice(int(begin), int(end)))
