"""How a simulated guest decides: which scenario a request belongs to, and whether a shown hotel is clicked.

A scenario is a property of the request. It follows from products of context and profile, such as "planned ahead × far
away", so that no single column, no linear rule and no k-means finds it. Inside a scenario a click is a coin whose
log-odds are

    repeat: log p_k + w^r_k · f + 0.25 log(earlier clicks)        new: log(1 − p_k) + w^e_k · f

plus one intercept, with f the hotel's standardised price, stars, distance to the centre, affinity and quality.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, logit, softmax

from musenet.simulators.arrays import Booleans, Doubles, Floats, Integers

FEATURES = ("price", "stars", "distance_to_centre", "affinity", "quality")
SCENARIO_NAMES = ("family holiday", "business at short notice", "weekend escape", "routine stay")

RULE_GAIN = 2.3
SHIFT_GAIN = 4.0
CLICK_COUNT_WEIGHT = 0.25

# The default four scenarios, in the order of SCENARIO_NAMES; the columns are FEATURES.
FOUR_REPEAT_PROBABILITIES = (0.45, 0.70, 0.18, 0.90)
FOUR_EXPLORE_WEIGHTS = (
    (-0.8, -0.6, 1.2, 0.8, 0.4),
    (0.4, 1.0, -1.2, 0.8, 0.4),
    (1.0, 0.8, 0.8, 0.8, 0.4),
    (-1.1, -0.8, -1.0, 0.8, 0.4),
)
UNSEEN_REPEAT_PROBABILITY = 0.3
UNSEEN_EXPLORE_WEIGHTS = (1.0, -0.8, 0.2, 0.8, 0.4)
"""Of a scenario that joins in after training: dear hotels of few stars, as nobody wanted before."""
REPEAT_WEIGHT_SHARE = 0.9  # someone who knows the hotel looks less at its facts


@dataclass(frozen=True)
class Situation:
    """What the scenario rule reads of each request (arrays of length R)."""

    days_ahead: Integers
    distance_travelled: Floats
    weekend: Booleans
    holiday: Booleans
    family: Booleans
    mobile: Booleans
    member: Booleans
    older: Booleans


def _sign(condition: Booleans) -> Floats:
    return np.where(condition, np.float32(1), np.float32(-1))


def interactions(situation: Situation) -> Floats:
    """Return the products that decide the scenario, each in [−1, 1] and about balanced (R × 4).

    The first two decide among four scenarios; up to eight use the third, more use all.
    """
    planned = np.tanh(2.0 * (np.log1p(situation.days_ahead) - 2.0) / 1.1)
    far = np.tanh(2.0 * (np.log1p(situation.distance_travelled) - 4.6) / 1.4)
    products = [
        planned * far,
        _sign(situation.weekend | situation.holiday) * _sign(situation.family),
        _sign(situation.mobile) * _sign(situation.member),
        _sign(situation.older) * _sign(situation.weekend),
    ]
    return np.stack(products, axis=1).astype(np.float32)


@dataclass(frozen=True)
class ScenarioRule:
    """Assigns requests to scenarios: the nearest corner of the cube of interactions, blurred by Gumbel noise.

    K scenarios use the ⌈log₂ K⌉ first interactions; their cube's corner c belongs to scenario c mod K.
    """

    scenarios: int
    noise: float
    offsets: Floats  # one per corner, so that corners are equally frequent

    @classmethod
    def create(cls, scenarios: int, noise: float) -> ScenarioRule:
        """Return the rule before its offsets are fitted."""
        corners = 1 << (scenarios - 1).bit_length()
        return cls(scenarios, noise, np.zeros(corners, np.float32))

    def scores(self, situation: Situation, shift: Doubles) -> Floats:
        """Return every corner's score without noise (R × corners); `shift` (R) is 0 before any drift, at most 1."""
        corners = np.arange(len(self.offsets))
        bits = (len(corners) - 1).bit_length()
        signs = 1.0 - 2.0 * ((corners[:, None] >> np.arange(bits)) & 1)
        scores = RULE_GAIN * interactions(situation)[:, :bits] @ signs.T + self.offsets
        drift = np.linspace(1.0, -1.0, self.scenarios)[corners % self.scenarios]
        drifted: Floats = (scores + (SHIFT_GAIN * shift)[:, None] * drift).astype(np.float32)
        return drifted

    def assign(self, situation: Situation, shift: Doubles, generator: np.random.Generator) -> Integers:
        """Draw each request's scenario (R)."""
        scores = self.scores(situation, shift)
        noise = self.noise * generator.gumbel(size=scores.shape)
        scenario: Integers = np.argmax(scores + noise, axis=1) % self.scenarios
        return scenario

    def probability(self, situation: Situation, shift: Doubles) -> Floats:
        """Return how probable each scenario is for who knows the rule and the situation, not the chance (R × K).

        Undefined without noise.
        """
        corners = softmax(self.scores(situation, shift) / self.noise, axis=1)
        probability = np.zeros((len(corners), self.scenarios), np.float32)
        for corner, column in enumerate(corners.T):
            probability[:, corner % self.scenarios] += column
        return probability

    def balanced(self, situation: Situation, generator: np.random.Generator, rounds: int = 20) -> ScenarioRule:
        """Return the rule with offsets that make the corners equally frequent on these requests, before any shift."""
        unshifted = np.zeros(len(situation.days_ahead))
        corners = len(self.offsets)
        noise = self.noise * generator.gumbel(size=(len(unshifted), corners))
        scores = replace(self, offsets=np.zeros(corners, np.float32)).scores(situation, unshifted) + noise
        offsets = np.zeros(corners)
        for _ in range(rounds):
            counts = np.bincount(np.argmax(scores + offsets, axis=1), minlength=corners)
            offsets -= np.log((counts + 1.0) * corners / (len(unshifted) + corners))
        return replace(self, offsets=offsets.astype(np.float32))


@dataclass(frozen=True)
class ClickModel:
    """The repeat intention p_k and the two weight vectors of every scenario, and the common intercept."""

    repeat_log_odds: Floats  # (K + 1) of p_k; the last is of the scenario that may join in after training
    repeat_weights: Floats  # (K + 1, features)
    explore_weights: Floats  # (K + 1, features)
    intercept: float

    @classmethod
    def create(cls, scenarios: int, strength: float, intercept: float = -3.5) -> ClickModel:
        """Return K scenarios that differ from their common mean by `strength` times their full difference."""
        if scenarios == len(SCENARIO_NAMES):
            probability, explore = np.array(FOUR_REPEAT_PROBABILITIES), np.array(FOUR_EXPLORE_WEIGHTS)
        else:
            probability, explore = _spread_scenarios(scenarios)
        log_odds = logit(probability)
        log_odds = log_odds.mean() + strength * (log_odds - log_odds.mean())
        explore = explore.mean(axis=0) + strength * (explore - explore.mean(axis=0))
        log_odds = np.append(log_odds, logit(UNSEEN_REPEAT_PROBABILITY))
        explore = np.concatenate([explore, [UNSEEN_EXPLORE_WEIGHTS]])
        repeat = explore * np.array([REPEAT_WEIGHT_SHARE] * 3 + [1.0, 1.0])
        return cls(log_odds.astype(np.float32), repeat.astype(np.float32), explore.astype(np.float32), intercept)

    @property
    def repeat_probability(self) -> Floats:
        """The scenarios' repeat intentions p_k (K)."""
        probability: Floats = expit(self.repeat_log_odds[:-1])
        return probability

    def log_odds(self, scenario: Integers, features: Floats, earlier_clicks: Integers) -> Floats:
        """Return the log-odds of a click (R × candidates) from scenario (R), features (R × candidates × 5), counts."""
        intention = self.repeat_log_odds[scenario][:, None]
        explore = np.einsum("rcf,rf->rc", features, self.explore_weights[scenario]) + log_expit(-intention)
        repeat = np.einsum("rcf,rf->rc", features, self.repeat_weights[scenario]) + log_expit(intention)
        repeat = repeat + CLICK_COUNT_WEIGHT * np.log(np.maximum(earlier_clicks, 1))
        chosen: Floats = (np.where(earlier_clicks > 0, repeat, explore) + self.intercept).astype(np.float32)
        return chosen

    def probability(self, scenario: Integers, features: Floats, earlier_clicks: Integers) -> Floats:
        """Return the probability of a click (R × candidates)."""
        probability: Floats = expit(self.log_odds(scenario, features, earlier_clicks))
        return probability


def _spread_scenarios(scenarios: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return repeat probabilities and explore weights for any K: spread evenly on a line and over a sphere."""
    log_odds = np.linspace(-1.5, 2.2, scenarios) if scenarios > 1 else np.zeros(1)
    # A Fibonacci sphere; its azimuth is not monotone, so neighbours in repeat intention are not neighbours in taste.
    height = 1.0 - (2.0 * np.arange(scenarios) + 1.0) / scenarios
    azimuth = np.pi * (1.0 + 5.0**0.5) * np.arange(scenarios)
    radius = np.sqrt(1.0 - height**2)
    taste = 1.6 * np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), height], axis=1)
    common = np.tile([0.8, 0.4], (scenarios, 1))
    return expit(log_odds), np.concatenate([taste, common], axis=1)
