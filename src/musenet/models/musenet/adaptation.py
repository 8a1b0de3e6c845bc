"""P(c) of Eq 1 and 2, used: a mix of scenarios that changes is followed by K + 2 numbers, without back-propagation.

Training fixes what a request's assignment a(x) says; a season or a campaign changes how many requests are of which
scenario while the scenarios stay what they are. Then P_new(c|x) ∝ a_c(x)^t · w_c, and w and t are estimated from
requests whose labels have become known, with a level b that is added to every scenario's logit:

    max over (log w, t, b) of  Σ_r λ_r log Σ_k softmax_k(t log a_rk + log w_k) Π_i P(y_i|x_i,k,b)  −  ridge/2 distance²

with λ_r the request's weight by age, and the distance to the trained mix, log w = 0, t = 1 and b = 0. Without b the
scenarios that are clicked more would seem to be more frequent whenever people click more than before in all of them.
What older requests say is kept in quadratic form, so that the state is a few numbers however many requests there were.

Everything is on numpy arrays in float64. Shapes: R requests, N candidates, K scenarios; "mix" is (log w, t, b),
(K + 2).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from musenet.options import Options, parse_duration

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LEAST_ASSIGNMENT = 1e-4
"""Below it no assignment is believed: a scenario that is given (0 or 1) could not be doubted otherwise."""
TOLERANCE = 1e-4
"""A step of the solver that moves nothing by more is its last; a thousand requests tell the mix to about 0.03."""
MOST_STEPS = 100


class MixOptions(Options):
    """How quickly a changing mix is followed, and how careful the guard is."""

    half_life: Annotated[int, Field(gt=0)] | str = Field(
        7000,
        description="age at which an answered request has half its weight: a number of requests, or a duration such "
        "as `2 days`",
    )
    ridge: float = Field(1.0, gt=0, description="penalty towards the trained mix")
    every: int = Field(50, ge=1, description="answered requests between updates of the mix")
    share: float = Field(
        0.001,
        gt=0,
        lt=1,
        description="share of the fixed-share forecaster: how fast the guard forgets which prediction was better",
    )

    @field_validator("half_life")
    @classmethod
    def _is_a_duration(cls, value: int | str) -> int | str:
        if isinstance(value, str) and not parse_duration(value):
            raise ValueError("a half-life must be longer than 0 seconds")
        return value

    def fade(self, requests: float | Floats, seconds: float | Floats) -> Floats:
        """What is left of a request's weight after so many more requests, or so much time."""
        if isinstance(self.half_life, str):
            return np.asarray(0.5 ** (np.asarray(seconds) / parse_duration(self.half_life)))
        return np.asarray(0.5 ** (np.asarray(requests) / self.half_life))


@dataclass(frozen=True, eq=False)
class Known:
    """What requests said of the mix, as the quadratic −½ mᵀ J m + hᵀ m."""

    information: Floats
    """(K + 2, K + 2) J, positive semi-definite."""
    pull: Floats
    """(K + 2) h."""

    @classmethod
    def nothing(cls, scenarios: int) -> "Known":
        """Of no requests."""
        return cls(np.zeros((scenarios + 2, scenarios + 2)), np.zeros(scenarios + 2))

    def faded(self, share: float) -> "Known":
        """The same of requests that count less by now."""
        return Known(share * self.information, share * self.pull)


def trained_mix(scenarios: int) -> Floats:
    """(K + 2) the mix that changes nothing: w = 1, t = 1, b = 0."""
    return np.concatenate([np.zeros(scenarios), [1.0, 0.0]])


def believed(assignment: Floats) -> Floats:
    """(R, K) log a of probabilities, none less than `LEAST_ASSIGNMENT`."""
    return np.asarray(np.log(np.maximum(assignment, LEAST_ASSIGNMENT)))


def log_prior(mix: Floats, log_assignment: Floats) -> Floats:
    """(R, K) log P_new(c|x) ∝ t log a + log w.

    >>> import numpy as np
    >>> np.exp(log_prior(np.array([np.log(3.0), 0.0, 1.0, 0.0]), np.log([[0.5, 0.5]]))).round(2)
    array([[0.75, 0.25]])
    """
    score = mix[-2] * log_assignment + mix[:-2]
    score -= score.max(1, keepdims=True)
    return np.asarray(score - np.log(np.exp(score).sum(1, keepdims=True)))


@dataclass(frozen=True, eq=False)
class Evidence:
    """How well each scenario explains requests' labels, in quadratic form about a level."""

    value: Floats
    """(R, K) Σ_i log P(y_i|x_i,k,b) at b = `level`."""
    slope: Floats
    """(R, K) its derivative by b there."""
    curvature: Floats
    """(R, K) minus its second derivative."""
    level: float = 0.0

    @classmethod
    def of(
        cls, scenario_logit: Floats, label: NDArray[Any], weight: Floats, sizes: Integers, *, level: float = 0.0
    ) -> "Evidence":
        """Of candidates (N, K) with labels and weights (N), a request's after one another, so many (R) each."""
        begin = np.cumsum(sizes) - sizes
        sign = np.where(label > 0.5, 1.0, -1.0)[:, None]
        likelihood = log_sigmoid(sign * (scenario_logit + level))
        surprise = 1 - np.exp(likelihood)
        by_candidate = (likelihood, sign * surprise, surprise - surprise**2)
        value, slope, curvature = (np.add.reduceat(weight[:, None] * each, begin, axis=0) for each in by_candidate)
        return cls(value, slope, curvature, level)

    def at(self, level: float) -> tuple[Floats, Floats]:
        """(R, K) the value at a level near by, and its derivative there."""
        moved = level - self.level
        return self.value + moved * self.slope - moved**2 / 2 * self.curvature, self.slope - moved * self.curvature


def estimate(
    log_assignment: Floats,
    evidence: Evidence,
    *,
    weight: Floats | None = None,
    ridge: float = 1.0,
    known: Known | None = None,
    start: Floats | None = None,
) -> tuple[Floats, Known]:
    """The mix that explains answered requests best, and what all of them say of it.

    Each request's term is a difference of two log-sum-exps, so that the sum is not concave. It is climbed from `start`,
    the trained mix if None, by Fisher scoring: steps of (ridge + J + Σ λ g gᵀ)⁻¹ ∇ with g a request's gradient, which
    always point upwards, halved until they do not lead down. The end is a maximum that is no worse than the start; on
    problems of this form it is the highest one unless scenarios are next to indistinguishable (tests compare with a
    search of the whole plane).

    Args:
        log_assignment: (R, K) log a, finite; see `believed`.
        evidence: how well each scenario explains the requests' labels.
        weight: (R) λ; 1 if None.
        ridge: pull towards the trained mix.
        known: what earlier requests said; nothing if None.
        start: (K + 2) where to begin.

    Returns:
        The mix (K + 2), and `known` with these requests in quadratic form about it.
    """
    scenarios = log_assignment.shape[1]
    trained, known = trained_mix(scenarios), known or Known.nothing(scenarios)
    curvature, slope = known.information + ridge * np.eye(len(trained)), known.pull + ridge * trained
    requests = _Answered(log_assignment, evidence, weight)

    def at(mix: Floats) -> Height:
        gained, gradient, information = requests.at(mix)
        value = gained + float(slope @ mix - mix @ curvature @ mix / 2)
        return value, gradient + slope - curvature @ mix, curvature + information

    mix, (_, uphill, bend) = climbed(at, trained if start is None else start)
    information, gradient = bend - curvature, uphill - slope + curvature @ mix
    return mix, Known(known.information + information, known.pull + information @ mix + gradient)


Height = tuple[float, Floats, Floats]
"""A value at a point (P), its slope (P), and a curvature (P, P), positive definite."""


def climbed(at: Callable[[Floats], Height], start: Floats) -> tuple[Floats, Height]:
    """The top (P) reached from a start by steps curvature⁻¹ slope, halved until they do not lead down; its height."""
    point, here = start, at(start)
    for _ in range(MOST_STEPS):
        step = np.linalg.solve(here[2], here[1])
        while np.abs(step).max() > TOLERANCE:
            there = at(point + step)
            if there[0] >= here[0]:
                break
            step /= 2
        else:
            break
        point, here = point + step, there
    return point, here


class _Answered:
    """Answered requests, as `estimate` asks for their likelihood."""

    def __init__(self, log_assignment: Floats, evidence: Evidence, weight: Floats | None) -> None:
        self.log_assignment, self.evidence = log_assignment, evidence
        requests, scenarios = log_assignment.shape
        self.weight = np.ones(requests) if weight is None else weight
        self.ones = np.ones(scenarios)  # a product with it is the quickest sum over so few scenarios

    def at(self, mix: Floats) -> tuple[float, Floats, Floats]:
        """The log-likelihood at a mix, its gradient (K + 2), and Σ λ g gᵀ (K + 2, K + 2)."""
        evidence, by_level = self.evidence.at(mix[-1])
        most = evidence.max(1, keepdims=True)
        before = _softmax(mix[-2] * self.log_assignment + mix[:-2])
        joint = before * np.exp(evidence - most)
        total = joint @ self.ones
        after = joint / total[:, None]
        moved = after - before
        each = np.column_stack([moved, (moved * self.log_assignment) @ self.ones, (after * by_level) @ self.ones])
        weighted = each * self.weight[:, None]
        return float(self.weight @ (np.log(total) + most[:, 0])), self.weight @ each, weighted.T @ each


def mixed_logit(log_probability: Floats, scenario_logit: Floats) -> Floats:
    """(N) logit of Σ_k P(c_k|x) σ(z_k), from log P(c|x) and z, both (N, K)."""
    click = np.logaddexp.reduce(log_probability + log_sigmoid(scenario_logit), axis=1)
    none = np.logaddexp.reduce(log_probability + log_sigmoid(-scenario_logit), axis=1)
    return np.asarray(click - none)


def label_log_likelihood(logit: Floats, label: NDArray[Any]) -> Floats:
    """log P(y|x) of labels (N) under logits (N) or (N, K), in their shape."""
    sign = np.where(label > 0.5, 1.0, -1.0)
    return log_sigmoid(logit * (sign if logit.ndim == 1 else sign[:, None]))


def log_sigmoid(logit: Floats) -> Floats:
    """log σ, without overflow."""
    return np.asarray(np.minimum(logit, 0.0) - np.log1p(np.exp(-np.abs(logit))))


def _softmax(score: Floats) -> Floats:
    """(R, K) e^score, in parts of 1 over K."""
    power = np.exp(score - score.max(1, keepdims=True))
    return np.asarray(power / power.sum(1, keepdims=True))
