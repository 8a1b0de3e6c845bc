"""The situation that is typical of a scenario: a few conditions on the request that hold together.

Scenarios often differ in no feature alone, but in how features go together: far ahead with the family, far ahead
without. So conditions are tried together, up to four of them, by beam search. Kept is what makes the scenario most
frequent among many requests: its surplus there, times the root of the share of requests where the conditions hold
(Klösgen's measure, 1996). It is searched on half of the users and measured on the others.

Shapes: R requests, C conditions, K scenarios.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import MISSING, PADDING, UNSEEN, Field
from musenet.evaluation.predictions import Floats, Predictions
from musenet.portraits.contrasts import label_of, value_names
from musenet.portraits.request_words import number_words
from musenet.portraits.words import field_words

REQUESTS = 20_000
RAREST = 0.03
"""Of the requests: rarer values make no condition."""
BEAM = 20
MOST_CONDITIONS = 4
SMALLEST_LIFT = 1.25
STANDARD_ERRORS = 3
BORDERS = (0.25, 0.5, 0.75)
"""Quantiles at which a number is cut."""


@dataclass(frozen=True)
class Situation:
    """Conditions in words, how often the scenario is the case where all hold, and overall."""

    conditions: list[str]
    share: float
    overall: float


@dataclass(frozen=True)
class _Condition:
    words: str
    field: str
    holds: NDArray[np.bool_]


def typical_situations(dataset: Dataset, predictions: Predictions) -> list[Situation | None]:
    """For each of K scenarios, the situation most typical of it; None where there is none worth telling."""
    assert predictions.assignment is not None
    chosen = np.linspace(0, len(predictions.requests) - 1, min(REQUESTS, len(predictions.requests))).astype(np.int64)
    requests, assignment = predictions.requests[chosen], predictions.assignment[chosen]
    conditions = list(_conditions(dataset, requests))
    searched = dataset.requests.user[requests] % 2 == 0
    if not conditions or searched.all() or not searched.any():
        return [None] * assignment.shape[1]
    holds = np.stack([condition.holds for condition in conditions], axis=1)
    fields = np.array([condition.field for condition in conditions])
    found = []
    for own in assignment.T:
        rule = best_rule(holds[searched], fields, own[searched])
        where = holds[:, rule].all(axis=1) & ~searched
        told = (
            Situation(
                [conditions[place].words for place in rule], float(own[where].mean()), float(own[~searched].mean())
            )
            if where.any()
            else None
        )
        found.append(told if told is not None and _is_telling(told, own[~searched], int(where.sum())) else None)
    return found


def _is_telling(situation: Situation, own: Floats, requests: int) -> bool:
    """Whether the scenario is clearly more frequent in the situation, by more than chance among so many requests."""
    surplus = situation.share - situation.overall
    by_chance = STANDARD_ERRORS * float(own.std()) / requests**0.5
    return bool(situation.conditions) and surplus > max(by_chance, (SMALLEST_LIFT - 1) * situation.overall)


def best_rule(holds: NDArray[np.bool_], fields: NDArray[np.str_], own: Floats) -> list[int]:
    """Places of the best conditions together, on different fields; empty if none makes the scenario more frequent.

    Args:
        holds: (R, C) whether a condition holds for a request.
        fields: (C) what a condition is about.
        own: (R) probability of the scenario.
    """
    hold = holds.astype(np.float64)
    gain, fewest = own - own.mean(), RAREST * len(own)
    nothing: tuple[float, list[int]] = (0.0, [])
    beam, best = [nothing], nothing
    for _ in range(MOST_CONDITIONS):
        longer: dict[tuple[int, ...], float] = {}
        for _, rule in beam:
            so_far = hold[:, rule].prod(axis=1)
            counts = so_far @ hold
            surplus = ((so_far * gain) @ hold) / np.sqrt(np.maximum(counts, 1))
            allowed = (counts >= fewest) & ~np.isin(fields, fields[rule])
            for place in np.flatnonzero(allowed).tolist():
                longer[tuple(sorted([*rule, place]))] = float(surplus[place])
        # Every condition is tried beside every other; only the best pairs and threes are gone on from.
        width = len(fields) if beam == [nothing] else BEAM
        ordered = sorted(longer, key=lambda rule: (-longer[rule], rule))
        beam = [(longer[rule], list(rule)) for rule in ordered[:width]]
        if not beam:
            break
        best = max(best, beam[0], key=lambda one: one[0])
    return best[1]


def _conditions(dataset: Dataset, requests: NDArray[np.int64]) -> Iterator[_Condition]:
    """Values and halves of every feature of the user and the context, ids left out."""
    for field in dataset.fields("user", "context"):
        if field.is_id or field.is_bucketed or field.kind == "vector" or field.name.endswith(".missing"):
            continue
        values = dataset.values(field, dataset.rows_of(field.side, requests))
        found = _of_number(dataset, field, values) if field.kind == "dense" else _of_values(dataset, field, values)
        yield from (one for one in found if RAREST <= one.holds.mean() <= 1 - RAREST)


def _of_number(dataset: Dataset, field: Field, values: Floats) -> Iterator[_Condition]:
    name = field_words(label_of(field))
    for border in np.unique(np.quantile(values, BORDERS)):
        told = number_words(dataset, field, float(border))
        yield _Condition(f"{name} above {told}", field.name, values > border)
        yield _Condition(f"{name} up to {told}", field.name, values <= border)


def _of_values(dataset: Dataset, field: Field, codes: NDArray[np.int32]) -> Iterator[_Condition]:
    names = value_names(dataset, field)
    kinds: Sequence[int] = np.unique(codes).tolist()
    for code in kinds:
        if code not in (PADDING, UNSEEN, MISSING):
            has = codes == code
            holds = has.any(axis=1) if has.ndim == 2 else has
            yield _Condition(f"{field_words(label_of(field))} = {names[code]}", field.name, holds)
