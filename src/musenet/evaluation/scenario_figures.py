"""How large scenarios are, how confident, and how people repeat in each: figures with intervals over users.

A request counts for scenario k with its probability a_k, a candidate with that of its request (times its weight, if the
log has any). Shapes: N candidates, R requests, K scenarios, U users.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from musenet.evaluation.draws import UserDraws
from musenet.evaluation.intervals import Interval
from musenet.evaluation.predictions import Floats, Predictions
from musenet.evaluation.ratios import intervals_of, resampled_ratios, sums_by_user
from musenet.evaluation.recovery import recovery
from musenet.results import Number, Result


class ScenarioFigures(Result):
    """What docs/commands.md prints of scenarios; lists have an entry per scenario."""

    count: int
    share: list[Number]
    """Mean assignment over requests."""
    mean_max_probability: Number
    """Mean over requests of the largest probability: near 1/K the scenarios have melted."""
    entropy: Number
    """Of the shares, in nats: log K if all are used alike, near 0 if one takes all."""
    repeat_probability: list[Number] | None
    """Mean p_r, requests weighted by assignment. Not identified alone: read it beside the shares and rates below."""
    repeat_share_of_positives: list[Interval]
    click_rate_on_repeats: list[Interval]
    click_rate_on_new: list[Interval]
    repeat_intention: list[Interval]
    """Click rate on repeats / (click rate on repeats + click rate on new items): .5 where both draw alike.

    Unlike p_r it is identified: it comes from the labels and the assignment alone, and what was shown does not move it.
    """
    recovery: dict[str, Number] | None
    """`ari` and `nmi` against the true scenario, where the log holds it."""

    @model_serializer(mode="wrap")
    def _as_published(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Values and bounds of the repeats' shares stand apart."""
        content: dict[str, Any] = handler(self)
        shares = content["repeat_share_of_positives"]
        content["repeat_share_of_positives"] = [share.pop("value") for share in shares]
        return content | {"repeat_share_of_positives_interval": shares}

    @model_validator(mode="before")
    @classmethod
    def _from_published(cls, content: Any) -> Any:
        if isinstance(content, dict) and "repeat_share_of_positives_interval" in content:
            pairs = zip(
                content["repeat_share_of_positives"], content["repeat_share_of_positives_interval"], strict=True
            )
            return content | {"repeat_share_of_positives": [{"value": value, **bounds} for value, bounds in pairs]}
        return content


def scenario_figures(predictions: Predictions, draws: UserDraws) -> ScenarioFigures | None:
    """The figures of a model's scenarios on one split; None for a model without scenarios.

    Args:
        predictions: of every impression of the split.
        draws: resamples of the same users.
    """
    assignment = predictions.assignment
    if assignment is None or len(assignment) == 0:
        return None
    share = assignment.mean(axis=0)
    used = share[share > 0]
    return ScenarioFigures(
        count=assignment.shape[1],
        share=share.tolist(),
        mean_max_probability=float(assignment.max(axis=1).mean()),
        entropy=float(-(used * np.log(used)).sum()),
        repeat_probability=_mean_repeat_probability(assignment, predictions.repeat_probability),
        **repeat_rates(predictions, draws),
        recovery=recovery(assignment, predictions.true_scenario),
    )


def repeat_rates(predictions: Predictions, draws: UserDraws) -> dict[str, list[Interval]]:
    """Per scenario: repeats' share of the positives, click rates on repeats and on new items, and repeat intention."""
    assert predictions.assignment is not None
    weight = predictions.assignment[predictions.place]
    if predictions.weight is not None:
        weight = weight * predictions.weight[:, None]
    clicked, repeat = predictions.label == 1, predictions.repeat_indicator
    user = draws.index(predictions.user)
    questions = {
        "repeat_share_of_positives": (clicked & repeat, clicked),
        "click_rate_on_repeats": (clicked & repeat, repeat),
        "click_rate_on_new": (clicked & ~repeat, ~repeat),
    }
    sums = {
        name: [sums_by_user(weight[rows], user[rows], draws.users) for rows in of] for name, of in questions.items()
    }
    figures = {name: resampled_ratios(part, whole, draws) for name, (part, whole) in sums.items()}
    with np.errstate(invalid="ignore"):
        on_repeats, on_new = figures["click_rate_on_repeats"], figures["click_rate_on_new"]
        figures["repeat_intention"] = on_repeats / (on_repeats + on_new)
    return {name: intervals_of(rows, draws) for name, rows in figures.items()}


def _mean_repeat_probability(assignment: Floats, repeat_probability: Floats | None) -> list[float] | None:
    if repeat_probability is None:
        return None
    with np.errstate(invalid="ignore"):
        means: Sequence[float] = ((assignment * repeat_probability).sum(axis=0) / assignment.sum(axis=0)).tolist()
    return list(means)
