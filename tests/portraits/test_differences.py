"""Standardised differences against a slow and obvious computation."""

from collections.abc import Callable

import numpy as np
import pytest

from musenet.evaluation.draws import UserDraws
from musenet.portraits.differences import Trait, standardised, telling_traits, trait_differences
from musenet.portraits.portraits import describe_scenarios
from musenet.runs.run import Run
from shown_runs import of_ranks, with_column


def test_standardised_equals_its_definition() -> None:
    random = np.random.default_rng(0)
    values, weight, user = random.normal(size=50), random.dirichlet(np.ones(3), 50), random.integers(0, 9, 50)
    found = standardised(values, weight, user, UserDraws(np.arange(9), 100))
    for k, interval in enumerate(found):
        expected = (np.average(values, weights=weight[:, k]) - values.mean()) / values.std()
        assert interval.value == pytest.approx(expected)
        assert interval.low < interval.value < interval.high


def test_a_resample_takes_whole_users() -> None:
    # One user holds all of scenario 0: every resample that has the user at all finds the same difference or none.
    values, user = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0, 0, 1, 1])
    weight = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = standardised(values, weight, user, UserDraws(user, 200))
    assert [interval.value for interval in found] == [1.0, -1.0]


def test_differences_of_numbers_and_values(make_run: Callable[..., Run]) -> None:
    run = make_run()
    predictions = run.predictions("test")
    assert predictions.assignment is not None
    draws = UserDraws(predictions.user, 50)
    traits = [
        Trait("days_ahead", "requests"),
        Trait("device", "requests", "phone"),
        Trait("city", "clicked", 'a "b" & <i>c</i>'),
        Trait("no such field", "requests"),
    ]
    found = trait_differences(run.dataset, predictions, traits, draws)
    assert [row.trait for row in found] == traits[:3]
    days = run.dataset.values(run.dataset.field("context", "days_ahead"), predictions.requests).astype(np.float64)
    phone = run.dataset.values(run.dataset.field("context", "device"), predictions.requests) == 3
    clicked = predictions.label == 1
    city = run.dataset.values(run.dataset.field("item", "city"), predictions.item[clicked]) == 4
    by_click = predictions.assignment[predictions.place[clicked]]
    for row, values, weight in zip(
        found, (days, phone, city), (predictions.assignment, predictions.assignment, by_click), strict=True
    ):
        expected = [(np.average(values, weights=column) - values.mean()) / values.std() for column in weight.T]
        assert [interval.value for interval in row.scenarios] == pytest.approx(expected)


def test_telling_traits_are_few_and_the_largest_first(make_run: Callable[..., Run]) -> None:
    portraits = describe_scenarios(make_run(), shown=40)
    traits = telling_traits(portraits, rows=3)
    assert len(traits) == 3
    assert {trait.field for trait in traits[:2]} == {"days_ahead", "distance_travelled"}


def test_the_second_of_two_values_is_left_out(make_run: Callable[..., Run]) -> None:
    run = make_run()
    column = np.asarray(run.dataset.column(run.dataset.field("context", "device"))).copy()
    dataset = with_column(run.dataset, "context", "device", np.where(column == 3, 3, 4).astype(np.int32))
    predictions = run.predictions("test")
    traits = [Trait("device", "requests", "phone"), Trait("device", "requests", "desktop")]
    found = trait_differences(dataset, predictions, traits, UserDraws(predictions.user, 20))
    assert [row.trait for row in found] == traits[:1]


def test_a_number_of_quantiles_is_found_by_its_column(make_run: Callable[..., Run]) -> None:
    """The field of its ranks has a name of its own; a contrast bears the column's."""
    run = make_run()
    predictions, traits = run.predictions("test"), [Trait("days_ahead", "requests")]
    draws = UserDraws(predictions.user, 20)
    expected = trait_differences(run.dataset, predictions, traits, draws)
    assert len(expected) == 1
    assert trait_differences(of_ranks(run.dataset, "days_ahead"), predictions, traits, draws) == expected
