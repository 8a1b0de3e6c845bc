"""Copies of copies: what a simulated user does again."""

from __future__ import annotations

import numpy as np

from musenet.simulators.arrays import Integers


def originals(copied_from: Integers) -> Integers:
    """Return where each chain of copies begins, by pointer doubling; an original is copied from itself."""
    while True:
        further: Integers = copied_from[copied_from]
        if np.array_equal(further, copied_from):
            return copied_from
        copied_from = further
