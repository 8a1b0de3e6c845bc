"""Following the mix of scenarios through a period: `musenet.models.musenet.adaptation`, request by request.

Shapes: R requests, N candidates, K scenarios.
"""

from dataclasses import dataclass, replace

import numpy as np

from musenet.adaptation.walk import Period
from musenet.config.adaptation import AdaptOptions
from musenet.evaluation.predictions import Floats, Integers, Predictions
from musenet.models.musenet.adaptation import (
    Adaptation,
    AdaptationState,
    Evidence,
    believed,
    label_log_likelihood,
)


@dataclass(frozen=True, eq=False)
class Followed:
    """A period that was walked through."""

    predictions: Predictions
    """As answered on the way; the assignment too."""
    state: AdaptationState | None = None
    """At the end, where the mix was followed."""


def follow_mix(predictions: Predictions, options: AdaptOptions) -> Followed:
    """What a model with scenarios answers if the mix of its scenarios is followed, guarded.

    Args:
        predictions: of the unadapted model, with scenario logits.
        options: how quickly, and how late answers come.
    """
    assignment, scenario_logit = predictions.assignment, predictions.scenario_logit
    assert assignment is not None and scenario_logit is not None
    period = Period.of(predictions)
    adaptation = Adaptation(assignment.shape[1], options)
    seconds = period.time / 1e6
    log_assignment, scenario_logit = believed(assignment[period.requests]), scenario_logit[period.candidates]
    unadapted, label = predictions.logit[period.candidates], predictions.label[period.candidates]
    weight = np.ones(len(label)) if predictions.weight is None else predictions.weight[period.candidates]
    logit, adapted, prior = np.empty(len(label)), np.empty(len(label)), np.empty_like(log_assignment)

    def predict(requests: slice) -> None:
        own, trust = period.candidates_of(requests), adaptation.state.weight
        new = adaptation.prior(log_assignment[requests])
        adapted[own] = adaptation.adapted(np.repeat(new, period.sizes[requests], axis=0), scenario_logit[own])
        logit[own] = adaptation.guarded(adapted[own], unadapted[own])
        prior[requests] = trust * np.exp(new) + (1 - trust) * assignment[period.requests[requests]]

    def learn(requests: slice) -> None:
        own = period.candidates_of(requests)
        both = np.column_stack([adapted[own], unadapted[own]])
        loss = _mean_by_request(-label_log_likelihood(both, label[own]), weight[own], period.sizes[requests])
        evidence = Evidence.of(
            scenario_logit[own], label[own], weight[own], period.sizes[requests], level=adaptation.level
        )
        adaptation.learn(log_assignment[requests], evidence, loss, seconds[requests])

    period.walk(options.answers_after, options.every, learn, predict)
    answered = assignment.copy()
    answered[period.requests] = prior
    return Followed(replace(predictions, logit=period.back(logit), assignment=answered), adaptation.state)


def _mean_by_request(values: Floats, weight: Floats, sizes: Integers) -> Floats:
    """(R, …) weighted means of values (N, …); 0 where nothing has a weight."""
    begin = np.cumsum(sizes) - sizes
    total = np.add.reduceat(weight, begin)
    sums = np.add.reduceat(values * weight[:, None], begin, axis=0)
    return np.asarray(sums / np.where(total > 0, total, 1.0)[:, None])
