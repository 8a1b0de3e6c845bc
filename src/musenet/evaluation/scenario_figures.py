"""How large scenarios are, how confident, and how people repeat in each: figures with intervals over users.

A request counts for scenario k with its probability a_k, a candidate with that of its request (times its weight, if the
log has any). Shapes: N candidates, R requests, K scenarios, U users.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musenet.evaluation.draws import UserDraws
from musenet.evaluation.intervals import LEVEL, Interval
from musenet.evaluation.predictions import Floats, Predictions
from musenet.evaluation.recovery import recovery


@dataclass(frozen=True)
class ScenarioFigures:
    """What docs/commands.md prints of scenarios; lists have an entry per scenario."""

    count: int
    share: list[float]
    """Mean assignment over requests."""
    mean_max_probability: float
    """Mean over requests of the largest probability: near 1/K the scenarios have melted."""
    entropy: float
    """Of the shares, in nats: log K if all are used alike, near 0 if one takes all."""
    repeat_probability: list[float] | None
    """Mean p_r, requests weighted by assignment. Not identified alone: read it beside the shares and rates below."""
    repeat_share_of_positives: list[Interval]
    click_rate_on_repeats: list[Interval]
    click_rate_on_new: list[Interval]
    repeat_intention: list[Interval]
    """Click rate on repeats / (click rate on repeats + click rate on new items): .5 where both draw alike.

    Unlike p_r it is identified: it comes from the labels and the assignment alone, and what was shown does not move it.
    """
    recovery: dict[str, float] | None
    """`ari` and `nmi` against the true scenario, where the log holds it."""

    def to_json(self) -> dict[str, Any]:
        """With the keys of docs/commands.md; `repeat_share_of_positives` holds the values, `…_interval` the bounds."""
        content = asdict(self)
        content["repeat_share_of_positives"] = [interval.value for interval in self.repeat_share_of_positives]
        content["repeat_share_of_positives_interval"] = [
            {"low": interval.low, "high": interval.high} for interval in self.repeat_share_of_positives
        ]
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
    rates = repeat_rates(predictions, draws)
    return ScenarioFigures(
        count=assignment.shape[1],
        share=share.tolist(),
        mean_max_probability=float(assignment.max(axis=1).mean()),
        entropy=float(-(used * np.log(used)).sum()),
        repeat_probability=_mean_repeat_probability(assignment, predictions.repeat_probability),
        repeat_share_of_positives=rates["repeat_share_of_positives"],
        click_rate_on_repeats=rates["click_rate_on_repeats"],
        click_rate_on_new=rates["click_rate_on_new"],
        repeat_intention=rates["repeat_intention"],
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
    shares = {name: _shares(weight, part, whole, user, draws) for name, (part, whole) in questions.items()}
    with np.errstate(invalid="ignore"):
        on_repeats, on_new = shares["click_rate_on_repeats"], shares["click_rate_on_new"]
        shares["repeat_intention"] = on_repeats / (on_repeats + on_new)
    return {name: _intervals(rows, draws) for name, rows in shares.items()}


def share_intervals(
    weight: Floats, part: NDArray[np.bool_], whole: NDArray[np.bool_], user: NDArray[np.int64], draws: UserDraws
) -> list[Interval]:
    """Σ_{i in part} w_ik / Σ_{i in whole} w_ik for each of K columns, bounds from the bootstrap over users.

    Args:
        weight: (N, K).
        part: (N) rows of the numerator, among those of `whole`.
        whole: (N) rows of the denominator.
        user: (N) place of each row's user among the draws.
        draws: the resamples.
    """
    return _intervals(_shares(weight, part, whole, user, draws), draws)


def _shares(
    weight: Floats, part: NDArray[np.bool_], whole: NDArray[np.bool_], user: NDArray[np.int64], draws: UserDraws
) -> Floats:
    """(1 + resamples, K) the shares of `share_intervals`: on all users, then on each resample."""
    sums = [
        np.stack([np.bincount(user[rows], column[rows], draws.users) for column in weight.T], axis=1)
        for rows in (part, whole)
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        whole_log = (sums[0].sum(axis=0) / sums[1].sum(axis=0))[None]
        resampled = [(counts @ sums[0]) / (counts @ sums[1]) for counts in draws.blocks()]
    return np.concatenate([whole_log, *resampled])


def _intervals(shares: Floats, draws: UserDraws) -> list[Interval]:
    return [_interval(float(column[0]), column[1:], draws) for column in shares.T]


def _interval(value: float, resampled: Floats, draws: UserDraws) -> Interval:
    defined = resampled[np.isfinite(resampled)]
    if draws.users < 2 or len(defined) == 0:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def _mean_repeat_probability(assignment: Floats, repeat_probability: Floats | None) -> list[float] | None:
    if repeat_probability is None:
        return None
    with np.errstate(invalid="ignore"):
        means: Sequence[float] = ((assignment * repeat_probability).sum(axis=0) / assignment.sum(axis=0)).tolist()
    return list(means)
