"""Mix or taste, told from answers alone: on clicks drawn from scenarios whose mix and taste are known."""

from typing import Any

import numpy as np
import pytest
from scipy.special import expit, softmax

from musenet.config.drift import DriftOptions
from musenet.serving.drift.moves import Answered, Bent, bent, moves, trained_numbers

SCENARIOS, CANDIDATES, REQUESTS = 3, 8, 3000


def drawn(
    seed: int, *, mix: float = 0.0, taste: float = 0.0, scenarios: int = SCENARIOS, miscalibrated: float = 0.3
) -> Answered:
    """Requests of a world in which a model knows the scenarios' shares and logits, but for a level."""
    random = np.random.default_rng([seed, 7])
    score = random.normal(size=(REQUESTS, scenarios)) * 1.5
    told = np.log(softmax(score, axis=1))
    towards = np.linspace(mix, -mix, scenarios)
    scenario = (score + towards + random.gumbel(size=score.shape)).argmax(axis=1)
    facts = random.normal(size=(REQUESTS * CANDIDATES, scenarios)) * 1.3
    logit = -2 + facts
    felt = -2 + miscalibrated + (1 - taste) * facts
    own = np.repeat(scenario, CANDIDATES)
    label = random.random(len(own)) < expit(felt[np.arange(len(own)), own])
    sizes = np.full(REQUESTS, CANDIDATES)
    return Answered(told, logit, label.astype(np.float64), sizes, np.arange(REQUESTS) // 3)


@pytest.fixture(scope="module")
def reference() -> Bent:
    return Bent.model_validate_json(bent(drawn(1000)).model_dump_json())


@pytest.mark.parametrize(
    ("truth", "how"),
    [
        ("", {}),
        ("mix", {"mix": 0.6}),
        ("taste", {"taste": 0.4}),
        ("taste", {"miscalibrated": -0.2}),
        ("mix taste", {"mix": 1.2, "taste": 0.27}),
    ],
)
def test_what_moved_is_named_on_nine_logs_of_ten(reference: Bent, truth: str, how: dict[str, Any]) -> None:
    found = [moves(drawn(seed, **how), reference, DriftOptions()) for seed in range(10)]
    named = [" ".join(name for name in ("mix", "taste") if getattr(one, name)) for one in found]
    assert named.count(truth) >= 9, named


def test_shares_and_slopes_are_those_of_the_world(reference: Bent) -> None:
    log = drawn(3, mix=1.0)
    found = moves(log, reference, DriftOptions())
    truth = softmax(log.log_assignment + np.linspace(1, -1, SCENARIOS), axis=1).mean(0)
    np.testing.assert_allclose(found.share_now, truth, atol=0.04)
    np.testing.assert_allclose(found.share_before, np.exp(log.log_assignment).mean(0), atol=0.04)
    weaker = moves(drawn(3, taste=0.4), reference, DriftOptions())
    np.testing.assert_allclose(weaker.slope, -0.4, atol=0.15)
    bolder = moves(drawn(3, miscalibrated=0.9), reference, DriftOptions())
    np.testing.assert_allclose(bolder.level, 0.6, atol=0.25)


def test_a_model_without_scenarios_has_a_taste_alone() -> None:
    reference = bent(drawn(1000, scenarios=1))
    assert not moves(drawn(1, scenarios=1), reference, DriftOptions()).taste
    found = moves(drawn(1, scenarios=1, taste=0.4), reference, DriftOptions())
    assert (found.mix, found.taste) == (False, True)
    assert found.share_now == found.share_before == [1.0]
    with pytest.raises(ValueError, match="of 1 scenarios, the log's answers are of 3"):
        moves(drawn(1), reference, DriftOptions())


def test_thresholds_decide(reference: Bent) -> None:
    log = drawn(2, mix=0.6)
    assert moves(log, reference, DriftOptions()).mix
    assert not moves(log, reference, DriftOptions(loss=0.5)).mix
    assert not moves(log, reference, DriftOptions(p=1e-300)).mix
    assert moves(log, reference, DriftOptions(own=1e-9)).taste


def test_gradients_are_those_of_the_likelihood() -> None:
    log, random = drawn(5), np.random.default_rng(0)
    numbers = trained_numbers(SCENARIOS) + random.normal(size=3 * SCENARIOS + 1) * 0.3
    middle = log.scenario_logit.mean(axis=0)
    _, gradient, _ = log.at(numbers, middle)
    for place in range(len(numbers)):
        step = np.zeros(len(numbers))
        step[place] = 1e-5
        slope = (log.at(numbers + step, middle)[0] - log.at(numbers - step, middle)[0]) / 2e-5
        assert gradient[:, place].sum() == pytest.approx(slope, rel=1e-4, abs=1e-3)
