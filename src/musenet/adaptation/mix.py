"""Following the mix of scenarios through a period: `musenet.models.musenet.following`, request by request.

Shapes: R requests, N candidates, K scenarios.
"""

from dataclasses import dataclass, replace

import numpy as np

from musenet.adaptation.walk import Period
from musenet.config.adaptation import AdaptOptions
from musenet.evaluation.predictions import Predictions
from musenet.models.musenet.adaptation import believed
from musenet.models.musenet.following import Adaptation, AdaptationState, Answers


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
    logit, adapted, answered = np.empty(len(label)), np.empty(len(label)), assignment.copy()

    def predict(requests: slice) -> None:
        own = period.candidates_of(requests)
        answer = adaptation.predict(
            log_assignment[requests], scenario_logit[own], unadapted[own], period.sizes[requests]
        )
        logit[own], adapted[own], answered[period.requests[requests]] = answer.logit, answer.adapted, answer.assignment

    def learn(requests: slice) -> None:
        own = period.candidates_of(requests)
        adaptation.learn_from(
            Answers(
                time=seconds[requests],
                sizes=period.sizes[requests],
                log_assignment=log_assignment[requests],
                scenario_logit=scenario_logit[own],
                adapted=adapted[own],
                unadapted=unadapted[own],
                label=label[own],
                weight=weight[own],
            )
        )

    period.walk(options.answers_after, options.every, learn, predict)
    return Followed(replace(predictions, logit=period.back(logit), assignment=answered), adaptation.state)
