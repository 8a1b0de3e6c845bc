"""What a candidate's scenarios say: a P(click) each, which mix to its score however that came about."""

import numpy as np
import pytest

from musenet.serving.scorer.explanation import in_scenarios


def sigmoid(logit: object) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.asarray(logit, dtype=np.float64))))


def test_two_scenarios_that_lie_as_far_on_both_sides_of_the_score_stay_so():
    """By hand: shares alike, logits ±2 about their middle, so that the mixture's logit is the middle."""
    found = in_scenarios(np.array([-1.0]), np.array([[3.0, 7.0]]), np.array([0.5, 0.5]))
    assert (found.mean(1) - sigmoid([-1.0])).item() == pytest.approx(0, abs=1e-15)
    middle = in_scenarios(np.array([0.0]), np.array([[3.0, 7.0]]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(middle, sigmoid([[-2.0, 2.0]]), atol=1e-12)


def test_the_scenario_that_alone_counts_has_the_score():
    found = in_scenarios(np.array([0.25, -9.0]), np.array([[4.0, 1.0], [0.0, 30.0]]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(found, sigmoid([[3.25, 0.25], [-39.0, -9.0]]), rtol=1e-12)


def test_all_are_moved_alike_in_logits_and_mix_to_the_score():
    random = np.random.default_rng(3)
    for scenarios in (1, 2, 5, 30):
        shares = random.dirichlet(np.full(scenarios, 0.3))
        own, logit = random.normal(0, 4, (200, scenarios)), random.normal(-2, 5, 200)
        found = in_scenarios(logit, own.astype(np.float32), shares)
        np.testing.assert_allclose(found @ shares, sigmoid(logit), rtol=1e-11)
        moved = np.log(found) - np.log1p(-found) - own
        moved[np.abs(moved + own) > 20] = np.nan  # what is left of 1 is too little to tell
        told = ~np.isnan(moved).all(1)
        spread = np.nanmax(moved[told], axis=1) - np.nanmin(moved[told], axis=1)
        assert told.sum() > 150
        assert spread.max() < 1e-5
