"""What brings a simulated log to its published figures."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from musenet.simulators.arrays import Doubles, Floats


def shift_to_mean(log_odds: Doubles | Floats, target: float) -> float:
    """Return what must be added to all log-odds for their mean probability to be the target, by bisection."""
    low, high = -20.0 - float(log_odds.max()), 20.0 - float(log_odds.min())
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(log_odds + middle).mean(dtype=np.float64) < target else (low, middle)
    return (low + high) / 2
