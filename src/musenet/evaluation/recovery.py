"""Whether scenarios found are the planted ones, and whether two trainings found the same ones.

Both measures compare partitions, so the scenarios' numbering does not matter. Requests are put in their most probable
scenario. scikit-learn is imported where it is used: it would add a second and a half to the start of every command.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


def hard(assignment: NDArray[np.float64]) -> NDArray[np.int64]:
    """(R) the most probable scenario of each request, from (R, K); the first of equals."""
    return np.asarray(assignment.argmax(axis=1), dtype=np.int64)


def recovery(
    assignment: NDArray[np.float64] | None, true_scenario: NDArray[np.int64] | None
) -> dict[str, float] | None:
    """Adjusted Rand index and normalised mutual information of found (R, K) and true (R) scenarios.

    Requests whose true scenario is unknown (-1) are left out; None where there is nothing to compare. Sources: Hubert
    and Arabie (1985), Comparing Partitions; Strehl and Ghosh (2002), with the arithmetic mean of the entropies.

    >>> recovery(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([1, 0, 1]))
    {'ari': 1.0, 'nmi': 1.0}
    """
    if assignment is None or true_scenario is None:
        return None
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    known = true_scenario >= 0
    if not known.any():
        return None
    found, truth = hard(assignment[known]), true_scenario[known]
    return {
        "ari": float(adjusted_rand_score(truth, found)),
        "nmi": float(normalized_mutual_info_score(truth, found)),
    }


def agreement(assignments: Sequence[NDArray[np.float64]]) -> float | None:
    """Mean adjusted Rand index between all pairs of trainings' assignments (R, K) of the same requests; None of one.

    Two trainings that both put every request into one scenario found nothing that they could agree on: such a pair is
    left out, and with no other pair there is None.

    >>> agreement([np.eye(2)[[0, 0, 0]], np.eye(2)[[1, 1, 1]]]) is None
    True
    """
    from sklearn.metrics import adjusted_rand_score

    partitions = [hard(assignment) for assignment in assignments]
    indices = [
        adjusted_rand_score(first, second)
        for first, second in combinations(partitions, 2)
        if len(np.unique(first)) > 1 or len(np.unique(second)) > 1
    ]
    return float(np.mean(indices)) if indices else None
