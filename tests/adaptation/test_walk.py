"""The walk through a period: what counts for whom, and that nothing of the future does."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit

from musenet.adaptation.intercept import follow_intercept
from musenet.adaptation.mix import Followed, follow_mix
from musenet.adaptation.walk import Period
from musenet.config.adaptation import AdaptOptions
from musenet.evaluation.predictions import Predictions
from musenet.metrics import logloss_from_logit
from musenet.models.musenet.adaptation import Evidence, believed, label_log_likelihood, log_prior, mixed_logit
from musenet.models.musenet.following import Adaptation

SECOND = 1_000_000
DRIFTED = np.array([1.5, 0.0, -1.5, 1.0, 0.0])
Requests = list[tuple[int, np.ndarray]]


def predictions_of(seed: int, requests: int, mix: np.ndarray, weighted: bool = False) -> Predictions:
    """Of a model that knows the scenarios' click rates but not the mix that the requests were drawn from.

    Requests have 0 to 6 candidates and come in any order of time, some at the same.
    """
    random = np.random.default_rng(seed)
    scenarios, sizes = len(mix) - 2, random.integers(0, 7, requests)
    place = np.repeat(np.arange(requests), sizes)
    assignment = random.dirichlet(np.ones(scenarios), requests)
    chance = np.exp(log_prior(mix, believed(assignment)))
    scenario = (random.random((requests, 1)) > chance.cumsum(1)).sum(1).clip(max=scenarios - 1)
    scenario_logit = 2 * random.normal(size=(len(place), scenarios)) - 1
    own = scenario_logit[np.arange(len(place)), scenario[place]]
    return Predictions(
        request=100 + place,
        user=place % 7,
        item=place,
        time=random.integers(0, 3 * requests, requests)[place] * SECOND,
        label=(random.random(len(place)) < expit(own)).astype(np.int8),
        logit=mixed_logit(np.log(assignment)[place], scenario_logit),
        weight=random.random(len(place)) if weighted else None,
        repeat_indicator=np.zeros(len(place), dtype=np.bool_),
        requests=100 + np.arange(requests),
        assignment=assignment,
        repeat_probability=None,
        true_scenario=None,
        scenario_logit=scenario_logit,
    )


def by_request(predictions: Predictions) -> Requests:
    """Time and candidates' rows of each request, in order of time."""
    rows = [np.flatnonzero(predictions.request == request) for request in predictions.requests]
    shown = [(int(predictions.time[own[0]]), own) for own in rows if len(own)]
    return sorted(shown, key=lambda request: request[0])


def there_before(requests: Requests, time: int, answers_after: float) -> int:
    return sum(earlier + answers_after * SECOND < time for earlier, _ in requests)


@pytest.mark.parametrize(("every", "answers_after"), [(1, 0), (4, 0), (4, 25), (7, 10_000)])
def test_an_answer_counts_for_requests_strictly_after_it_came(every: int, answers_after: float) -> None:
    predictions = predictions_of(3, 60, DRIFTED)
    period, requests = Period.of(predictions), by_request(predictions)
    learned: list[int] = []
    seen: dict[int, int] = {}
    period.walk(
        answers_after,
        every,
        learn=lambda block: learned.extend(range(block.start, block.stop)),
        predict=lambda asked: seen.update(dict.fromkeys(range(asked.start, asked.stop), len(learned))),
    )
    assert learned == list(range(len(learned)))
    for place, (time, own) in enumerate(requests):
        assert seen[place] == there_before(requests, time, answers_after) // every * every
        assert period.candidates[period.candidates_of(slice(place, place + 1))].tolist() == own.tolist()


@pytest.mark.parametrize("weighted", [False, True])
def test_following_the_mix_equals_going_through_it_request_by_request(weighted: bool) -> None:
    predictions, options = predictions_of(1, 80, DRIFTED, weighted), AdaptOptions(every=5, answers_after=20)
    followed = follow_mix(predictions, options)
    requests, adaptation, answered = by_request(predictions), Adaptation(3, options), 0
    weight = np.ones(len(predictions.label)) if predictions.weight is None else predictions.weight
    assert predictions.assignment is not None
    assert predictions.scenario_logit is not None
    log_assignment = [believed(predictions.assignment[predictions.place[rows[:1]]])[0] for _, rows in requests]
    losses: list[list[float]] = []
    for place, (time, rows) in enumerate(requests):
        while answered + 5 <= there_before(requests, time, 20):
            block = slice(answered, answered + 5)
            times = np.array([when / SECOND for when, _ in requests[block]])
            own = np.concatenate([rows for _, rows in requests[block]])
            sizes = np.array([len(rows) for _, rows in requests[block]])
            evidence = Evidence.of(
                predictions.scenario_logit[own], predictions.label[own], weight[own], sizes, level=adaptation.level
            )
            adaptation.learn(np.array(log_assignment[block]), evidence, np.array(losses[block]), times)
            answered += 5
        adapted = adaptation.adapted(adaptation.prior(log_assignment[place][None]), predictions.scenario_logit[rows])
        expected = adaptation.guarded(adapted, predictions.logit[rows])
        assert followed.predictions.logit[rows] == pytest.approx(expected, abs=1e-9)
        both = [-label_log_likelihood(logit, predictions.label[rows]) for logit in (adapted, predictions.logit[rows])]
        losses.append([float(np.average(loss, weights=weight[rows])) for loss in both])
    assert followed.state is not None
    assert followed.state.mix == pytest.approx(adaptation.mix)
    assert followed.state.trust == pytest.approx(adaptation.trust)


@pytest.mark.parametrize("follow", [follow_mix, follow_intercept])
def test_no_answer_of_the_future_moves_a_prediction(follow: Callable[[Predictions, AdaptOptions], Followed]) -> None:
    predictions, options = predictions_of(2, 120, DRIFTED), AdaptOptions(every=3, answers_after=30)
    middle = int(np.median(predictions.time))
    other = np.where(predictions.time >= middle - 30 * SECOND, 1 - predictions.label, predictions.label)
    first, second = (follow(replace(predictions, label=label), options) for label in (predictions.label, other))
    before = predictions.time <= middle
    assert np.array_equal(first.predictions.logit[before], second.predictions.logit[before])
    assert not np.allclose(first.predictions.logit[~before], second.predictions.logit[~before])


def test_a_mix_that_changed_is_worth_following_and_one_that_did_not_costs_next_to_nothing() -> None:
    def gained(mix: np.ndarray) -> float:
        predictions = predictions_of(5, 4000, mix)
        followed = follow_mix(predictions, AdaptOptions()).predictions
        before, after = (logloss_from_logit(one.label, one.logit) for one in (predictions, followed))
        return before - after

    assert gained(DRIFTED) > 0.01
    assert gained(np.array([0.0, 0.0, 0.0, 1.0, 0.0])) > -0.0005


def test_assignments_are_what_was_answered_by() -> None:
    predictions = predictions_of(5, 3000, DRIFTED)
    assert predictions.assignment is not None
    assignment = follow_mix(predictions, AdaptOptions()).predictions.assignment
    assert assignment is not None
    assert assignment.sum(1) == pytest.approx(1)
    late = np.unique(predictions.place[predictions.time > np.quantile(predictions.time, 0.7)])
    expected = np.exp(log_prior(DRIFTED, believed(predictions.assignment)))[late].mean(0)
    assert np.abs(predictions.assignment[late].mean(0) - expected).max() > 0.2
    assert assignment[late].mean(0) == pytest.approx(expected, abs=0.05)


def test_the_intercept_is_the_one_that_the_answers_so_far_call_for() -> None:
    predictions = predictions_of(7, 400, DRIFTED)
    predictions = replace(predictions, logit=predictions.logit - 1)
    options = AdaptOptions(intercept=True, every=10, answers_after=0, half_life=10**9, ridge=1.0)
    found = follow_intercept(predictions, options).predictions.logit - predictions.logit
    requests = by_request(predictions)
    for place in (0, 5, 150, len(requests) - 1):
        time, rows = requests[place]
        answered = requests[: there_before(requests, time, 0) // 10 * 10]
        known = np.concatenate([np.zeros(0, dtype=int), *(own for _, own in answered)])

        def worse(intercept: float, known: np.ndarray = known) -> float:
            likelihood = label_log_likelihood(predictions.logit[known] + intercept, predictions.label[known])
            return float(intercept**2 / 2 - likelihood.sum())

        assert found[rows] == pytest.approx(np.full(len(rows), minimize_scalar(worse).x), abs=0.02)
