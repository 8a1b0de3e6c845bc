"""A map of the metric space: some requests of each scenario and the prototypes, laid out in two dimensions by t-SNE.

Shapes: R requests of the split, n requests drawn, K scenarios, M dimensions of the metric space.
"""

from dataclasses import dataclass

import numpy as np

from musenet.dataset.dataset import Dataset
from musenet.evaluation.predictions import Floats, Integers, Predictions
from musenet.models.interface import ClickModel
from musenet.portraits.points import points_of, prototypes_of
from musenet.portraits.request_words import RequestWords

PER_SCENARIO = 100
CONFIDENT = 0.8
FEWEST = 10
"""With fewer confident requests than this, a scenario is shown by its most confident ones instead."""
SEED = 0


@dataclass(frozen=True)
class MappedRequest:
    """A dot of the map."""

    scenario: int
    probability: float
    x: float
    y: float
    words: list[str]


@dataclass(frozen=True)
class RequestMap:
    """All dots, the prototypes if the model has any, and the scenarios that lack confident requests."""

    requests: list[MappedRequest]
    prototypes: list[tuple[float, float]]
    unsure: list[int]
    """Scenarios shown by their most confident requests, though few or none of them pass `CONFIDENT`."""


def map_requests(
    model: ClickModel, dataset: Dataset, predictions: Predictions, per_scenario: int = PER_SCENARIO
) -> RequestMap | None:
    """Draw requests, lay them out and put each into words; None for a model without a metric space.

    Args:
        model: that made the predictions.
        dataset: that they are of.
        predictions: with an assignment.
        per_scenario: requests drawn of each scenario at most.
    """
    assert predictions.assignment is not None
    chosen, unsure = choose_requests(predictions.assignment, per_scenario)
    points = points_of(model, dataset, predictions.requests[chosen])
    if points is None:
        return None
    prototypes = prototypes_of(model)
    every = points if prototypes is None else np.concatenate([points, prototypes])
    if len(every) < 4:
        return None
    laid_out = lay_out(every)
    words = RequestWords(dataset)
    assignment = predictions.assignment[chosen]
    return RequestMap(
        requests=[
            MappedRequest(int(row.argmax()), float(row.max()), float(x), float(y), words.lines(int(request)))
            for row, (x, y), request in zip(assignment, laid_out, predictions.requests[chosen], strict=False)
        ],
        prototypes=[(float(x), float(y)) for x, y in laid_out[len(chosen) :]],
        unsure=unsure,
    )


def choose_requests(assignment: Floats, per_scenario: int) -> tuple[Integers, list[int]]:
    """Rows (n) to draw, ascending: confident ones by chance; and the scenarios that have too few of those.

    A request is confident if its likeliest scenario has a probability above `CONFIDENT`. A scenario with fewer than
    `FEWEST` of them is shown by its most confident requests.
    """
    random = np.random.default_rng(SEED)
    likeliest, probability = assignment.argmax(axis=1), assignment.max(axis=1)
    chosen, unsure = [], []
    for k in range(assignment.shape[1]):
        own = np.flatnonzero(likeliest == k)
        confident = own[probability[own] > CONFIDENT]
        if len(confident) < min(FEWEST, per_scenario):
            if len(own):
                unsure.append(k)
            chosen.append(own[np.argsort(-probability[own], kind="stable")[:per_scenario]])
        else:
            chosen.append(random.choice(confident, min(per_scenario, len(confident)), replace=False))
    return np.sort(np.concatenate(chosen)), unsure


def lay_out(points: Floats) -> Floats:
    """(n, 2) by t-SNE, the same whenever it is asked for; `points` (n, M), n at least 4."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(points) - 1) / 3)
    start = "pca" if points.shape[1] > 1 else "random"
    found = TSNE(perplexity=perplexity, init=start, random_state=SEED).fit_transform(points.astype(np.float32))
    return np.asarray(found, dtype=np.float64)
