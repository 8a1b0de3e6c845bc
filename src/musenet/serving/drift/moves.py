"""Mix or taste: which of P(c|x) and P(y|x,c) differs between two periods of answered requests.

A period is described by how far the model's scenarios have to be bent to explain its answers best:

    P(c|x) ∝ a_c(x)^t · w_c          the mix: log w and t, as `models.musenet.adaptation` has them
    z_k + α_k + β_k (z_k − z̄_k)      the taste: each scenario's level and slope, z̄_k its mean logit in the reference

by maximum likelihood of whole requests, Σ_r log Σ_k P(c_k|x_r) Π_i P(y_i|x_i,c_k). The numbers of the reference period
(which are not zero, no model is perfect) and those of the log are compared by a Wald test whose covariances allow for
requests of one user that resemble each other. How well the log is explained by the reference's numbers, by a new mix
alone, by a new taste alone and by both says which of them moved.

Everything is on numpy arrays. Shapes: R requests, N candidates, K scenarios, P = 3K + 1 numbers: log w, t, α, β.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from musenet.config.drift import DriftOptions
from musenet.models.musenet.adaptation import Height, climbed, log_prior, log_sigmoid
from musenet.results import Number, Result

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
RIDGE = 1.0
"""Pull towards where a fit begins, as weak as one request."""


@dataclass(frozen=True, eq=False)
class Answered:
    """Requests whose answers are known; a model without scenarios has K = 1."""

    log_assignment: Floats
    """(R, K), finite."""
    scenario_logit: Floats
    """(N, K), a request's candidates after one another."""
    label: Floats
    """(N,) 0 or 1."""
    sizes: Integers
    """(R,) candidates of each, at least 1."""
    user: Integers
    """(R,) whose."""

    @cached_property
    def begin(self) -> Integers:
        """(R,) each request's first candidate."""
        return np.cumsum(self.sizes) - self.sizes

    def at(self, numbers: Floats, middle: Floats) -> tuple[float, Floats, Floats]:
        """The log-likelihood, each request's gradient (R, P), and P(c|x) (R, K)."""
        k = self.log_assignment.shape[1]
        level, slope = numbers[k + 1 : 2 * k + 1], numbers[2 * k + 1 :]
        prior = np.exp(log_prior(np.append(numbers[: k + 1], 0.0), self.log_assignment))
        off = self.scenario_logit - middle
        sign = np.where(self.label > 0.5, 1.0, -1.0)[:, None]
        likelihood = log_sigmoid(sign * (self.scenario_logit + level + slope * off))
        surprise = sign * (1 - np.exp(likelihood))
        evidence, by_level, by_slope = (
            np.add.reduceat(each, self.begin, axis=0) for each in (likelihood, surprise, surprise * off)
        )
        most = evidence.max(1, keepdims=True)
        joint = prior * np.exp(evidence - most)
        total = joint.sum(1, keepdims=True)
        after = joint / total
        moved = after - prior
        by_temperature = (moved * self.log_assignment).sum(1, keepdims=True)
        gradient = np.concatenate([moved, by_temperature, after * by_level, after * by_slope], axis=1)
        return float(np.sum(np.log(total) + most)), gradient, prior


class Bent(Result):
    """How far a model's scenarios have to be bent to explain a period."""

    numbers: list[float]
    """(P) log w, t, α, β."""
    covariance: list[list[float]]
    """(P, P)."""
    middle: list[float]
    """(K) z̄."""
    requests: int


def trained_numbers(scenarios: int) -> Floats:
    """(P) the numbers that bend nothing."""
    return np.concatenate([np.zeros(scenarios), [1.0], np.zeros(2 * scenarios)])


def bent(answered: Answered) -> Bent:
    """What explains a period best, and how sure that is."""
    middle = answered.scenario_logit.mean(axis=0)
    start = trained_numbers(answered.log_assignment.shape[1])
    numbers, covariance = _fit(answered, start, middle, np.arange(len(start)))
    return Bent(
        numbers=numbers.tolist(), covariance=covariance.tolist(), middle=middle.tolist(), requests=len(answered.sizes)
    )


class Moves(Result):
    """Whether mix or taste moved between a reference and a log."""

    mix: bool
    taste: bool
    p: Number
    """Of differences as large as these if neither moved."""
    saved: Number
    """Share of the log's logloss that both new would save, beyond what chance gives."""
    own_mix: Number
    """What of that is lost if the mix stays: its own part, in (0, 1)."""
    own_taste: Number
    share_before: list[Number]
    """(K) mean P(c|x) of the log's requests, by the reference's mix."""
    share_now: list[Number]
    """(K) by the log's own, taste as it was."""
    level: list[Number]
    """(K) log-odds by which clicks in each scenario became more frequent."""
    slope: list[Number]
    """(K) by how much of itself the model's logit counts more (below 0: less) than in the reference."""


def moves(answered: Answered, reference: Bent, options: DriftOptions) -> Moves:
    """Compare a log with the reference; the one that explains more alone is named first.

    Raises:
        ValueError: if the reference is of another number of scenarios.
    """
    k = answered.log_assignment.shape[1]
    before, middle = np.array(reference.numbers), np.array(reference.middle)
    if len(middle) != k:
        raise ValueError(f"the reference is of {len(middle)} scenarios, the log's answers are of {k}")
    of_mix, of_taste = (np.arange(k + 1) if k > 1 else np.arange(0)), np.arange(k + 1, 3 * k + 1)
    fitted = {
        name: _fit(answered, before, middle, free)
        for name, free in (("mix", of_mix), ("taste", of_taste), ("both", np.concatenate([of_mix, of_taste])))
    }
    unbent = answered.at(before, middle)[0]
    gain = {name: answered.at(numbers, middle)[0] - unbent for name, (numbers, _) in fitted.items()}
    numbers, covariance = fitted["both"]
    free = np.concatenate([of_mix, of_taste])
    p, freedom = _wald((numbers - before)[free], (covariance + np.array(reference.covariance))[np.ix_(free, free)])
    chance = freedom / 2 * (1 + len(answered.sizes) / reference.requests)
    loss = -unbent
    saved = max(gain["both"] - chance, 0.0) / loss
    own = {one: max(gain["both"] - gain[other], 0.0) for one, other in (("mix", "taste"), ("taste", "mix"))}
    part = {name: each / gain["both"] if gain["both"] > 0 else 0.0 for name, each in own.items()}
    moved = saved >= options.loss and p < options.p
    # Each with its fair share of chance taken off: k numbers of a mix (one of them is redundant), 2k of a taste.
    first = "mix" if k > 1 and gain["mix"] - k / 2 > gain["taste"] - k else "taste"
    named = {name: moved and (name == first or part[name] >= options.own) for name in part}
    return Moves(
        mix=named["mix"],
        taste=named["taste"],
        p=p,
        saved=saved,
        own_mix=part["mix"],
        own_taste=part["taste"],
        share_before=answered.at(before, middle)[2].mean(0).tolist(),
        share_now=answered.at(fitted["mix"][0], middle)[2].mean(0).tolist(),
        level=(numbers - before)[k + 1 : 2 * k + 1].tolist(),
        slope=(numbers - before)[2 * k + 1 :].tolist(),
    )


def _fit(answered: Answered, start: Floats, middle: Floats, free: Integers) -> tuple[Floats, Floats]:
    """The likeliest numbers (P), those that are not free as at the start, and their covariance (P, P)."""
    covariance: Floats = np.zeros((len(start), len(start)))
    if not len(free):
        return start, covariance
    pull = RIDGE * np.eye(len(free))

    def whole(chosen: Floats) -> Floats:
        numbers = start.copy()
        numbers[free] = chosen
        return numbers

    def at(chosen: Floats) -> Height:
        value, every, _ = answered.at(whole(chosen), middle)
        gradient, off = every[:, free], chosen - start[free]
        return value - float(off @ pull @ off) / 2, gradient.sum(axis=0) - pull @ off, pull + gradient.T @ gradient

    chosen, (_, _, curvature) = climbed(at, start[free])
    gradient, inverse = answered.at(whole(chosen), middle)[1][:, free], np.linalg.inv(curvature)
    _, of_user = np.unique(answered.user, return_inverse=True)
    by_user = np.stack([np.bincount(of_user, weights=column) for column in gradient.T], axis=1)
    covariance[np.ix_(free, free)] = inverse @ (by_user.T @ by_user) @ inverse
    return whole(chosen), covariance


def _wald(off: Floats, covariance: Floats) -> tuple[float, int]:
    """The probability of a difference like this one, and its degrees of freedom; log w has one that says nothing."""
    from scipy.stats import chi2

    values, vectors = np.linalg.eigh(covariance)
    told = values > 1e-6 * values.max()
    statistic = float(np.sum((vectors.T @ off)[told] ** 2 / values[told]))
    return float(chi2.sf(statistic, int(told.sum()))), int(told.sum())
