"""What training may watch within requests, against scikit-learn and against counting all orders of ties."""

import itertools
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import ndcg_score, roc_auc_score

from musenet.config.training import TrainingOptions
from musenet.evaluation.ranking import ranking_score


def lists(seed: int, ties: bool) -> list[tuple[Any, Any]]:
    """Labels and scores of requests of one to seven candidates, some without a positive."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 8, 40)
    return [
        ((random.random(n) < 0.4).astype(int), random.integers(0, 3, n) if ties else random.random(n)) for n in sizes
    ]


def score(name: str, of: list[tuple[Any, Any]], seed: int = 0) -> float:
    """Of the candidates of all requests, mixed."""
    request = np.concatenate([np.full(len(label), place) for place, (label, _) in enumerate(of)])
    label, scores = (np.concatenate([one[part] for one in of]) for part in (0, 1))
    mixed = np.random.default_rng(seed).permutation(len(label))
    return ranking_score(name, label[mixed], scores[mixed], request[mixed])


def counted(label: Any, scores: Any) -> list[tuple[Any, ...]]:
    """The labels in every order that the scores allow."""
    orders = [
        order
        for order in itertools.permutations(range(len(label)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    return [tuple(label[list(order)]) for order in orders]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_recall_is_the_mean_over_all_orders(k: int, ties: bool) -> None:
    of = lists(1, ties)
    wanted = [
        np.mean([sum(order[:k]) / sum(order) for order in counted(label, scores)])
        for label, scores in of
        if label.any() and len(label) > 1
    ]
    assert score(f"recall@{k}", of) == pytest.approx(np.mean(wanted))


def test_the_reciprocal_rank_of_the_first_positive() -> None:
    of = lists(2, ties=False)
    wanted = [1 / (counted(label, scores)[0].index(1) + 1) for label, scores in of if label.any() and len(label) > 1]
    assert score("mrr", of) == pytest.approx(np.mean(wanted))
    assert ranking_score("mrr", [1, 0, 0], [5, 5, 5], [1, 1, 1]) == 1 / 2, "one score for all is no good order"


def test_ndcg_and_gauc_are_those_of_scikit_learn() -> None:
    of = lists(3, ties=False)
    gains = [ndcg_score([label], [scores], k=3) for label, scores in of if label.any() and len(label) > 1]
    assert score("ndcg@3", of) == pytest.approx(np.mean(gains))
    both = [(label, scores) for label, scores in of if 0 < label.sum() < len(label)]
    areas = [roc_auc_score(label, scores) for label, scores in both]
    assert score("gauc", of) == pytest.approx(np.average(areas, weights=[len(label) for label, _ in both]))


def test_without_a_list_there_is_nothing_to_measure() -> None:
    assert all(np.isnan(ranking_score(name, [1, 0], [1, 2], [1, 2])) for name in ("gauc", "mrr", "ndcg@5", "recall@5"))


@pytest.mark.parametrize("name", ["ndcg", "recall@0", "precision@5", "AUC"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="monitor"):
        TrainingOptions.model_validate({"monitor": name})
