"""How the last days of a simulated hotel log differ from the days before.

sudden      the shares of the scenarios change at once and stay
slow        they change evenly, until the last moment
returning   they change until the middle, and come back until the end
unseen      a scenario joins in that was never there: `shift` of all requests
taste       people in all scenarios lose their taste for price, stars and distance; beyond half, the opposite grows
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from musenet.simulators.arrays import Doubles, Floats, Integers
from musenet.simulators.hotels.world import BURN_IN_DAYS, DAY, LOG_DAYS

Drift = Literal["sudden", "slow", "returning", "unseen", "taste"]
TASTES_THAT_TURN = 3
"""Price, stars and distance, the first features of the click model."""


@dataclass(frozen=True)
class Drifting:
    """A drift of some kind in the last days.

    Args:
        kind: see above.
        shift: how much changes, 0 to 1.
        days: how many last days.
    """

    kind: Drift = "sudden"
    shift: float = 0.0
    days: int = 7

    def of_shares(self, seconds: Integers) -> Doubles:
        """How much the scenario rule is shifted at each moment (R), in seconds since the burn-in began."""
        return self._amount(seconds) if self.kind in ("sudden", "slow", "returning") else np.zeros(len(seconds))

    def with_unseen(
        self, scenario: Integers, scenarios: int, seconds: Integers, generator: np.random.Generator
    ) -> Integers:
        """The requests' scenarios (R), some of them the one that was never there, number K."""
        if self.kind != "unseen":
            return scenario
        # A generator of its own: what else is drawn stays as without the drift.
        joins = generator.spawn(1)[0].random(len(scenario)) < self._amount(seconds)
        joined: Integers = np.where(joins, scenarios, scenario)
        return joined

    def of_tastes(self, features: Floats, seconds: Integers) -> Floats:
        """The hotels' features as people feel them at each moment (R × candidates × features)."""
        if self.kind == "taste":
            features[..., :TASTES_THAT_TURN] *= (1 - 2 * self._amount(seconds)).astype(np.float32)[:, None, None]
        return features

    def _amount(self, seconds: Integers) -> Doubles:
        """What has changed at each moment (R), 0 to `shift`."""
        length = self.days * DAY
        into = seconds - (BURN_IN_DAYS + LOG_DAYS) * DAY + length
        passed = np.clip(into / length, 0.0, 1.0)
        shape = {"slow": passed, "returning": 1 - np.abs(2 * passed - 1)}.get(self.kind, (into >= 0).astype(np.float64))
        return self.shift * shape
