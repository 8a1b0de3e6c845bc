"""Why a request's candidates got their scores: its scenarios, and each candidate's repeat and explore branch.

Shapes: N candidates, K scenarios.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from musenet.models.musenet.adaptation import mixed_logit
from musenet.serving.scorer.repeats import CandidateRepeats
from musenet.serving.scorer.runtime import Arrays

HALVINGS = 50
"""Of an interval of some ten logits: what is left of it is nothing beside a float's own error."""


def explained(found: Arrays, repeats: CandidateRepeats, logit: NDArray[np.float64]) -> dict[str, Any]:
    """`scenarios`, `repeat_probability` and `candidates` of a `ScoreResponse`; what the model has not is left out.

    Args:
        found: `Runtime.explain`.
        repeats: of the candidates.
        logit: (N,) of the scores.
    """
    answer: dict[str, Any] = {}
    shares = np.exp(found["log_assignment"].astype(np.float64)) if "log_assignment" in found else None  # (1 or N, K)
    mean = None if shares is None else shares.mean(0) / shares.mean(0).sum()  # float32's own error left out
    if mean is not None:
        answer["scenarios"] = mean.tolist()
    if "repeat_probability" in found:
        probability = found["repeat_probability"].astype(np.float64)  # (1, K)
        answer["repeat_probability"] = float(probability.mean() if mean is None else (mean * probability[0]).sum())
    columns: dict[str, list[Any]] = {"repeat": (repeats.count > 0).tolist(), "repeat_count": repeats.count.tolist()}
    for name in ("repeat_score", "explore_score"):
        if name in found and shares is not None:
            columns[name] = (shares * found[name]).sum(1).tolist()
    if "scenario_logit" in found and mean is not None:
        columns["scenarios"] = in_scenarios(logit, found["scenario_logit"], mean).tolist()
    answer["candidates"] = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return answer


def in_scenarios(
    logit: NDArray[np.float64], scenario_logit: NDArray[Any], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N, K) P(click) in each scenario, whose mean weighted by the request's shares is the score.

    Recalibration, the correction for sampled negatives and the guard of a followed mix change the mixture's logit, of
    which no part belongs to one scenario: a candidate's scenarios are moved alike, in logits, by what makes them mix to
    its score. There is one such move, since the mixture rises with it.

    Args:
        logit: (N,) of the scores.
        scenario_logit: (N, K) the model's own.
        shares: (K,) of the request in the scenarios, sum 1.
    """
    own = scenario_logit.astype(np.float64)
    with np.errstate(divide="ignore"):  # a share of 0
        log_share = np.log(shares)[None]
    counts = shares > 0
    # Moved by `low` no scenario that counts lies above the score, moved by `high` none below.
    low, high = logit - own[:, counts].max(1), logit - own[:, counts].min(1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        is_above = mixed_logit(log_share, own + middle[:, None]) > logit
        low, high = np.where(is_above, low, middle), np.where(is_above, middle, high)
    return np.asarray(1 / (1 + np.exp(-(own + low[:, None]))))
