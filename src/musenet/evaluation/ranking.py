"""How well each request's list is ranked, by the names that training may be told to watch."""

import numpy as np
from numpy.typing import ArrayLike

from musenet.metrics import grouped_auc, ndcg_by_group


def ranking_score(name: str, label: ArrayLike, score: ArrayLike, request: ArrayLike) -> float:
    """GAUC, MRR, NDCG@k or recall@k; larger is better, nan where no request has one.

    All but GAUC (see `grouped_auc`) are means over the requests that hold a positive and more than one candidate.
    Recall@k is the share of a request's positives among its first k. MRR takes 1 / r, r being the rank of its first
    positive. Candidates of one score share their ranks: recall@k and NDCG@k take the mean over their orders, MRR the
    middle one of their ranks.

    Args:
        name: as `training.monitor` allows, but `auc` and `logloss`.
        label: (N) 0 or 1.
        score: (N).
        request: (N) which request each candidate is of.

    >>> [ranking_score(name, [0, 1, 1, 0], [4, 3, 2, 1], [7, 7, 7, 7]) for name in ("mrr", "recall@2")]
    [0.5, 0.5]
    """
    if name == "gauc":
        return float(grouped_auc(label, score, request).value)
    what, _, k = name.partition("@")
    if what == "ndcg":
        _, values = ndcg_by_group(label, score, request, int(k))
        return _mean(values)
    positive, values, groups = (np.asarray(column) for column in (label, score, request))
    order = np.lexsort((-values, groups))
    positive, values, groups = positive[order] > 0, values[order], groups[order]
    begins = np.r_[True, groups[1:] != groups[:-1]]
    first = np.flatnonzero(begins)
    of = np.cumsum(begins) - 1
    place = np.arange(len(groups)) - first[of]  # from 0
    block = np.cumsum(begins | np.r_[True, values[1:] != values[:-1]]) - 1
    begin, size = place[np.flatnonzero(np.r_[True, block[1:] != block[:-1]])], np.bincount(block)
    positives = np.bincount(of, weights=positive)
    defined = (positives > 0) & (np.bincount(of) > 1)
    if what == "mrr":
        middle = (begin + (size + 1) / 2)[block]
        best = np.full(len(first), np.inf)
        np.minimum.at(best, of[positive], middle[positive])
        return _mean((1 / best)[defined])
    within = (np.clip(int(k) - begin, 0, size) / size)[block]  # the chance to be among the first k
    found = np.bincount(of, weights=within * positive)
    return _mean((found / np.maximum(positives, 1))[defined])


def larger_is_better(monitor: str) -> bool:
    """Whether more of it is better; of the loss, less is."""
    return monitor != "logloss"


def is_of_lists(monitor: str) -> bool:
    """Whether it is measured within requests, by `ranking_score`."""
    return monitor not in ("auc", "logloss")


def _mean(values: np.ndarray) -> float:
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else float("nan")
