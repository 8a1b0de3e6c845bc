"""Follows the mix of scenarios, answer by answer: the estimate of `adaptation`, its memory, and the guard.

A guard scores the adapted and the unadapted prediction of every request before it is learned from, and mixes the two by
how well they did.

Shapes: R requests, N candidates, K scenarios.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from musenet.models.musenet.adaptation import (
    Evidence,
    Floats,
    Integers,
    Known,
    MixOptions,
    estimate,
    label_log_likelihood,
    log_prior,
    log_sigmoid,
    mixed_logit,
    trained_mix,
)
from musenet.results import Result

MOST_DIFFERENCE = 600.0
"""Of two losses, in nats: e to this and to the largest trust, ln(2 / share), can still be computed."""


class AdaptationState(Result):
    """All that adaptation knows: some (K + 2)² numbers, to be kept where it has to survive a restart."""

    written_by: ClassVar[str] = "adaptation"

    requests: int
    """Answered so far."""
    time: float | None
    """Of the last of them, in seconds."""
    mix: list[float]
    information: list[list[float]]
    pull: list[float]
    trust: float
    """Log-odds of the adapted prediction against the unadapted one."""

    @property
    def weight(self) -> float:
        """Of the adapted prediction in what is answered, in (0, 1)."""
        return share_of(self.trust)


@dataclass(frozen=True, eq=False)
class FollowedPrediction:
    """Requests as predicted while the mix is followed."""

    logit: Floats
    """(N) the guard's mixture of `adapted` and the unadapted prediction."""
    adapted: Floats
    """(N) by the mix alone."""
    assignment: Floats
    """(R, K) P(c|x), mixed likewise."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Requests whose labels have become known, in order of time, and how they had been predicted.

    A request's candidates stand one after another.
    """

    time: Floats
    """(R) of the requests, in seconds, ascending."""
    sizes: Integers
    """(R) candidates of each."""
    log_assignment: Floats
    """(R, K) log a, see `believed`."""
    scenario_logit: Floats
    """(N, K)."""
    adapted: Floats
    """(N) logit before the request was learned from."""
    unadapted: Floats
    """(N) logit of the model as trained."""
    label: NDArray[Any]
    """(N) 0 or 1."""
    weight: Floats
    """(N) importance."""


class Adaptation:
    """Follows the mix of one model's scenarios.

    Args:
        scenarios: K.
        options: how quickly.
        state: what an earlier one knew; raises `ValueError` if that is of another number of scenarios.
    """

    def __init__(self, scenarios: int, options: MixOptions, state: AdaptationState | None = None) -> None:
        self.scenarios, self.options = scenarios, options
        self.mix, self.known = trained_mix(scenarios), Known.nothing(scenarios)
        self.requests, self.time = 0, None if state is None else state.time
        self.trust = 0.0
        if state is not None:
            if len(state.mix) != scenarios + 2:
                raise ValueError(f"the state is of {len(state.mix) - 2} scenarios, the model has {scenarios}")
            self.mix, self.known = np.array(state.mix), Known(np.array(state.information), np.array(state.pull))
            self.requests, self.trust = state.requests, state.trust

    @property
    def state(self) -> AdaptationState:
        """What it knows by now."""
        return AdaptationState(
            requests=self.requests,
            time=self.time,
            mix=self.mix.tolist(),
            information=self.known.information.tolist(),
            pull=self.known.pull.tolist(),
            trust=self.trust,
        )

    @property
    def level(self) -> float:
        """b, added to every scenario's logit."""
        return float(self.mix[-1])

    def prior(self, log_assignment: Floats) -> Floats:
        """(R, K) log P_new(c|x)."""
        return log_prior(self.mix, log_assignment)

    def predict(
        self, log_assignment: Floats, scenario_logit: Floats, unadapted: Floats, sizes: Integers
    ) -> FollowedPrediction:
        """What requests are answered by now; arguments as in `Answers`."""
        prior, share = self.prior(log_assignment), share_of(self.trust)
        adapted = self.adapted(np.repeat(prior, sizes, axis=0), scenario_logit)
        trained = log_prior(trained_mix(self.scenarios), log_assignment)
        assignment = share * np.exp(prior) + (1 - share) * np.exp(trained)
        return FollowedPrediction(self.guarded(adapted, unadapted), adapted, assignment)

    def learn_from(self, answers: Answers) -> None:
        """Learn from answered requests, the guard first."""
        both = np.column_stack([answers.adapted, answers.unadapted])
        loss = _mean_by_request(-label_log_likelihood(both, answers.label), answers.weight, answers.sizes)
        evidence = Evidence.of(answers.scenario_logit, answers.label, answers.weight, answers.sizes, level=self.level)
        self.learn(answers.log_assignment, evidence, loss, answers.time)

    def adapted(self, log_prior: Floats, scenario_logit: Floats) -> Floats:
        """(N) logit under log P_new(c|x) and the trained scenarios' logits, both (N, K)."""
        return mixed_logit(log_prior, scenario_logit + self.level)

    def guarded(self, adapted: Floats, unadapted: Floats) -> Floats:
        """(N) logit of the two predictions' mixture, from their logits (N)."""
        ours, theirs = -math.log1p(math.exp(-self.trust)), -math.log1p(math.exp(self.trust))
        click = np.logaddexp(ours + log_sigmoid(adapted), theirs + log_sigmoid(unadapted))
        return np.asarray(click - np.logaddexp(ours + log_sigmoid(-adapted), theirs + log_sigmoid(-unadapted)))

    def learn(self, log_assignment: Floats, evidence: Evidence, loss: Floats, time: Floats) -> None:
        """Learn from requests whose labels have become known, in order of time; the guard first.

        Args:
            log_assignment: (R, K).
            evidence: of these requests, best about the present `level`.
            loss: (R, 2) mean log-loss over a request's candidates, of the adapted and the unadapted prediction, both as
                made before the request was learned from.
            time: (R) of the requests, in seconds, ascending.
        """
        self.trust = shared_trust(self.trust, loss, self.options.share)
        left, last = np.arange(len(time), dtype=np.float64)[::-1], float(time[-1])
        passed = 0.0 if self.time is None else max(last - self.time, 0.0)
        earlier = self.known.faded(float(self.options.fade(len(time), passed)))
        self.mix, self.known = estimate(
            log_assignment,
            evidence,
            weight=self.options.fade(left, last - time),
            ridge=self.options.ridge,
            known=earlier,
            start=self.mix,
        )
        self.requests, self.time = self.requests + len(time), last


def share_of(trust: float) -> float:
    """The weight of the first of two forecasters, in (0, 1), from its log-odds."""
    return 1 / (1 + math.exp(-trust))


def shared_trust(trust: float, loss: Floats, share: float) -> float:
    """Log-odds of the first of two forecasters after these losses (R, 2): Herbster and Warmuth's fixed share (1998).

    Each request multiplies the forecasters' weights by exp(−loss) and then gives `share` of all weight back to both
    evenly. With the loss a mean of log-losses, exp(−loss) is a geometric mean and so concave in the weights: over R
    requests the mixture's summed loss exceeds that of the better forecaster, even if that changes S times, by at most
    (S + 1) ln 2 − S ln share − R ln(1 − share / 2).
    """
    even = share / 2
    for worse in (loss[:, 0] - loss[:, 1]).clip(-MOST_DIFFERENCE, MOST_DIFFERENCE).tolist():
        weight = even + (1 - share) / (1 + math.exp(worse - trust))
        trust = math.log(weight / (1 - weight))
    return trust


def _mean_by_request(values: Floats, weight: Floats, sizes: Integers) -> Floats:
    """(R, …) weighted means of values (N, …); 0 where nothing has a weight."""
    begin = np.cumsum(sizes) - sizes
    total = np.add.reduceat(weight, begin)
    sums = np.add.reduceat(values * weight[:, None], begin, axis=0)
    return np.asarray(sums / np.where(total > 0, total, 1.0)[:, None])
