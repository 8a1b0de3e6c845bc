"""Why a request's candidates got their scores: its scenarios, and each candidate's repeat and explore branch.

Shapes: N candidates, K scenarios.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from musenet.serving.scorer.repeats import CandidateRepeats
from musenet.serving.scorer.runtime import Arrays


def explained(found: Arrays, repeats: CandidateRepeats, moved: NDArray[np.float64]) -> dict[str, Any]:
    """`scenarios`, `repeat_probability` and `candidates` of a `ScoreResponse`; what the model has not is left out.

    Args:
        found: `Runtime.explain`.
        repeats: of the candidates.
        moved: (N,) added to each candidate's logits, where the answer is recalibrated or corrected.
    """
    answer: dict[str, Any] = {}
    shares = np.exp(found["log_assignment"].astype(np.float64)) if "log_assignment" in found else None  # (1 or N, K)
    if shares is not None:
        answer["scenarios"] = shares.mean(0).tolist()
    if "repeat_probability" in found:
        probability = found["repeat_probability"].astype(np.float64)  # (1, K)
        mean = probability.mean() if shares is None else (shares.mean(0) * probability[0]).sum()
        answer["repeat_probability"] = float(mean)
    columns: dict[str, list[Any]] = {"repeat": (repeats.count > 0).tolist(), "repeat_count": repeats.count.tolist()}
    for name in ("repeat_score", "explore_score"):
        if name in found and shares is not None:
            columns[name] = (shares * found[name]).sum(1).tolist()
    if "scenario_logit" in found:
        columns["scenarios"] = _probability(found["scenario_logit"] + moved[:, None]).tolist()
    answer["candidates"] = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return answer


def _probability(logit: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-logit.astype(np.float64))))
