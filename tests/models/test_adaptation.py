"""Following a changing mix: the estimate against brute force, the guard against its bound, state across a restart."""

import json
import pickle

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.optimize import minimize
from scipy.special import expit, logit

from musenet.models.musenet.adaptation import (
    Evidence,
    Floats,
    Integers,
    Known,
    MixOptions,
    believed,
    estimate,
    label_log_likelihood,
    log_prior,
    mixed_logit,
    trained_mix,
)
from musenet.models.musenet.following import Adaptation, AdaptationState, shared_trust
from musenet.models.musenet.objectives import mix_probabilities

CANDIDATES = 10


def drifted_requests(seed: int, requests: int, mix: Floats, apart: float = 1.5) -> tuple[Floats, Evidence]:
    """log a (R, K) and evidence of requests whose scenarios were drawn from a mix other than the trained one."""
    random = np.random.default_rng(seed)
    scenarios = len(mix) - 2
    log_assignment = believed(random.dirichlet(np.ones(scenarios), requests))
    chance = np.exp(log_prior(mix, log_assignment))
    scenario = (random.random((requests, 1)) > chance.cumsum(1)).sum(1).clip(max=scenarios - 1)
    logits = apart * random.normal(size=(requests, CANDIDATES, scenarios)) - 1
    own = np.take_along_axis(logits, scenario[:, None, None], axis=2)[:, :, 0]
    label = (random.random((requests, CANDIDATES)) < expit(own + mix[-1])).astype(float)
    sizes, rows = np.full(requests, CANDIDATES), requests * CANDIDATES
    return log_assignment, Evidence.of(logits.reshape(rows, -1), label.reshape(rows), np.ones(rows), sizes)


def rows_of(evidence: Evidence, rows: slice | Integers) -> Evidence:
    """Of these requests alone."""
    return Evidence(evidence.value[rows], evidence.slope[rows], evidence.curvature[rows], evidence.level)


def telling(value: Floats) -> Evidence:
    """Evidence that says nothing of the level."""
    return Evidence(value, np.zeros_like(value), np.zeros_like(value))


def objective(mix: Floats, log_assignment: Floats, evidence: Evidence, weight: Floats, ridge: float) -> float:
    """The sum that `estimate` maximises, written out."""
    score = mix[-2] * log_assignment + mix[:-2]
    likelihood = evidence.value + mix[-1] * evidence.slope - mix[-1] ** 2 / 2 * evidence.curvature
    each = np.log(np.exp(score + likelihood).sum(1)) - np.log(np.exp(score).sum(1))
    return float(weight @ each - ridge / 2 * (mix[:-2] @ mix[:-2] + (mix[-2] - 1) ** 2 + mix[-1] ** 2))


@pytest.mark.parametrize("seed", range(8))
def test_estimate_finds_what_brute_force_finds(seed: int) -> None:
    random = np.random.default_rng(seed)
    scenarios = 2 + seed % 3
    mix = np.concatenate([random.normal(scale=1.5, size=scenarios), [random.uniform(0, 2), random.normal(scale=0.3)]])
    log_assignment, evidence = drifted_requests(seed, 20 if seed < 4 else 200, mix)
    weight = random.random(len(log_assignment))
    found, _ = estimate(log_assignment, evidence, weight=weight, ridge=0.5)
    arguments = (log_assignment, evidence, weight, 0.5)
    anywhere = random.normal(scale=3, size=(300, scenarios + 2))
    starts = sorted(anywhere, key=lambda m: -objective(m, *arguments))[:4]
    searched = [minimize(lambda m: -objective(m, *arguments), start, method="BFGS").x for start in starts]
    best = max(searched, key=lambda m: objective(m, *arguments))
    assert objective(found, *arguments) == pytest.approx(objective(best, *arguments), abs=1e-4)
    assert found == pytest.approx(best, abs=2e-2)


def test_estimate_of_two_scenarios_is_the_highest_point_of_the_whole_plane() -> None:
    log_assignment, evidence = drifted_requests(3, 60, np.array([1.5, -1.5, 0.4, 0.0]))
    evidence = telling(evidence.value)
    found, _ = estimate(log_assignment, evidence, ridge=1.0)
    # Only the difference of log w matters to the likelihood, and the ridge halves it between the two.
    line, temperatures = np.linspace(-4, 4, 81), np.linspace(-3, 3, 61)
    values = [
        objective(np.array([half, -half, t, 0.0]), log_assignment, evidence, np.ones(60), 1.0)
        for half in line
        for t in temperatures
    ]
    place = divmod(int(np.argmax(values)), len(temperatures))
    assert found == pytest.approx([line[place[0]], -line[place[0]], temperatures[place[1]], 0.0], abs=0.1)
    assert objective(found, log_assignment, evidence, np.ones(60), 1.0) >= max(values)


def test_a_planted_mix_is_recovered() -> None:
    planted = np.array([1.2, 0.2, -0.3, -1.1, 0.6, 0.0])
    log_assignment, evidence = drifted_requests(1, 20_000, planted)
    found, _ = estimate(log_assignment, evidence)
    assert found == pytest.approx(planted, abs=0.1)


@pytest.mark.parametrize("level", [0.8, -1.5])
def test_a_level_that_moved_everywhere_is_no_change_of_the_mix(level: float) -> None:
    planted = np.array([0.0, 0.0, 1.0, level])
    adaptation, size = Adaptation(2, MixOptions(half_life=10**9)), 500
    random = np.random.default_rng(0)
    for _ in range(40):
        log_assignment = believed(random.dirichlet(np.ones(2), size))
        scenario = (random.random(size) > np.exp(log_assignment[:, 0])).astype(int)
        # The first scenario is clicked less than the second: without the level, its share would seem to have changed.
        logits = np.array([-1.0, 0.5]) + random.normal(size=(size, 2))
        label = (random.random(size) < expit(logits[np.arange(size), scenario] + level)).astype(float)
        evidence = Evidence.of(logits, label, np.ones(size), np.ones(size, dtype=int), level=adaptation.level)
        adaptation.learn(log_assignment, evidence, np.zeros((size, 2)), np.zeros(size))
    assert adaptation.mix == pytest.approx(planted, abs=0.15)


def test_evidence_is_the_likelihood_of_the_labels_and_its_derivatives() -> None:
    logits, label = np.array([[0.3, -1.0], [2.0, 0.0], [-0.5, 1.0]]), np.array([1.0, 0.0, 1.0])
    weight, sizes = np.array([1.0, 0.5, 2.0]), np.array([2, 1])

    def value(level: float) -> Floats:
        each = weight[:, None] * np.log(np.where(label[:, None] > 0, expit(logits + level), expit(-logits - level)))
        return np.array([each[:2].sum(0), each[2]])

    found = Evidence.of(logits, label, weight, sizes, level=0.4)
    small = 1e-3
    assert found.value == pytest.approx(value(0.4))
    assert found.slope == pytest.approx((value(0.4 + small) - value(0.4 - small)) / (2 * small), abs=1e-6)
    second = (value(0.4 + small) - 2 * value(0.4) + value(0.4 - small)) / small**2
    assert found.curvature == pytest.approx(-second, abs=1e-5)
    near, by_level = found.at(0.41)
    assert near == pytest.approx(value(0.41), abs=1e-6)
    assert by_level == pytest.approx((value(0.41 + small) - value(0.41 - small)) / (2 * small), abs=1e-4)


def test_a_weight_counts_as_so_many_requests() -> None:
    log_assignment, evidence = drifted_requests(5, 50, np.array([1.0, -1.0, 1.0, 0.0]))
    weight = np.arange(50) % 3
    found, known = estimate(log_assignment, evidence, weight=weight.astype(float))
    every = np.repeat(np.arange(50), weight)
    again, as_known = estimate(log_assignment[every], rows_of(evidence, every))
    assert found == pytest.approx(again, abs=1e-3)
    assert known.information.diagonal() == pytest.approx(as_known.information.diagonal(), rel=0.01)


def test_without_requests_that_tell_anything_the_mix_stays_as_trained() -> None:
    log_assignment, _ = drifted_requests(5, 50, np.array([0.0, 0.0, 1.0, 0.0]))
    found, known = estimate(log_assignment, telling(np.full((50, 2), -3.0)))
    assert found == pytest.approx([0, 0, 1, 0])
    assert np.abs(known.information).max() == pytest.approx(0, abs=1e-12)


def test_evidence_beyond_all_floating_point_is_no_matter() -> None:
    log_assignment, _ = drifted_requests(5, 4, np.array([0.0, 0.0, 1.0, 0.0]))
    evidence = telling(np.array([[-2000.0, -5000.0]] * 4))
    found, _ = estimate(log_assignment, evidence)
    assert np.isfinite(found).all()
    assert found[0] > found[1]


def test_requests_kept_in_quadratic_form_lead_where_all_of_them_would() -> None:
    planted = np.array([1.2, 0.2, -0.3, -1.1, 0.6, 0.2])
    log_assignment, evidence = drifted_requests(2, 4000, planted)
    whole, _ = estimate(log_assignment, evidence)
    mix, known = trained_mix(4), Known.nothing(4)
    for begin in range(0, 4000, 50):
        rows = slice(begin, begin + 50)
        mix, known = estimate(log_assignment[rows], rows_of(evidence, rows), known=known, start=mix)
    assert mix == pytest.approx(whole, abs=0.15)
    value, best = (objective(m, log_assignment, evidence, np.ones(4000), 1.0) for m in (mix, whole))
    assert value > best - 2  # of six numbers from 4000 requests, chance alone moves 3


def test_mixed_logit_is_the_models_own_mixture() -> None:
    random = np.random.default_rng(0)
    scenario_logit = random.normal(scale=4, size=(20, 3))
    log_probability = np.log(random.dirichlet(np.ones(3), 20))
    expected = mix_probabilities(torch.tensor(log_probability), torch.tensor(scenario_logit)).numpy()
    assert mixed_logit(log_probability, scenario_logit) == pytest.approx(expected)


def test_evidence_is_of_the_labels() -> None:
    found = label_log_likelihood(np.array([[0.0, 2.0], [1.0, -1.0]]), np.array([1.0, 0.0]))
    assert found == pytest.approx(np.log([[0.5, expit(2)], [expit(-1), expit(1)]]))


def test_guard_follows_the_plain_fixed_share_forecaster() -> None:
    loss, share = np.random.default_rng(0).exponential(size=(300, 2)), 0.01
    weights = np.array([0.5, 0.5])
    for each in loss:
        weights = weights * np.exp(-each)
        weights = (1 - share) * weights / weights.sum() + share / 2
    assert expit(shared_trust(0.0, loss, share)) == pytest.approx(weights[0])


@pytest.mark.parametrize("stretches", [1, 2, 5])
def test_guards_regret_stays_within_its_bound(stretches: int) -> None:
    random, requests, share = np.random.default_rng(stretches), 1000, 0.001
    better = np.repeat(np.arange(stretches) % 2, requests // stretches)
    probability = np.where(better[:, None] == [0, 1], 0.8, 0.3) * random.random((len(better), 2))
    trust, mixed = 0.0, 0.0
    for each in probability:
        weight = expit(trust)
        mixed -= np.log(weight * each[0] + (1 - weight) * each[1])
        trust = shared_trust(trust, -np.log(each)[None], share)
    best = -np.log(probability)[np.arange(len(better)), better].sum()
    switches = stretches - 1
    bound = (switches + 1) * np.log(2) - switches * np.log(share) - len(better) * np.log1p(-share / 2)
    assert mixed - best <= bound


def test_adapted_logit_is_the_mixture_at_the_level() -> None:
    adaptation = Adaptation(2, MixOptions())
    adaptation.mix[-1] = 0.7
    log_probability, scenario_logit = np.log([[0.25, 0.75]]), np.array([[1.0, -2.0]])
    expected = 0.25 * expit(1.7) + 0.75 * expit(-1.3)
    assert expit(adaptation.adapted(log_probability, scenario_logit)) == pytest.approx([expected])


def test_guarded_prediction_is_the_mixture_of_both() -> None:
    adaptation = Adaptation(2, MixOptions())
    adaptation.trust = float(logit(0.8))
    adapted, unadapted = np.array([0.3, -2.0]), np.array([1.0, 0.5])
    found = adaptation.guarded(adapted, unadapted)
    assert expit(found) == pytest.approx(0.8 * expit(adapted) + 0.2 * expit(unadapted))


def test_older_requests_count_less() -> None:
    first, second = np.array([2.0, -2.0, 1.0, 0.0]), np.array([-2.0, 2.0, 1.0, 0.0])
    by_half_life = {}
    for half_life in (100, 100_000):
        adaptation = Adaptation(2, MixOptions(half_life=half_life))
        for seed, planted in enumerate([first] * 10 + [second] * 10):
            log_assignment, evidence = drifted_requests(seed, 100, planted)
            adaptation.learn(log_assignment, evidence, np.zeros((100, 2)), np.arange(100.0) + 100 * seed)
        by_half_life[half_life] = adaptation.mix[0]
    assert by_half_life[100] < -1
    assert by_half_life[100_000] > by_half_life[100] + 0.5


def test_a_half_life_may_be_a_time() -> None:
    hourly = MixOptions(half_life="1 hour")
    assert hourly.fade(10**9, 7200) == pytest.approx(0.25)
    assert MixOptions(half_life=50).fade(100, 0) == pytest.approx(0.25)
    for wrong in ("soon", "0 days", 0):
        with pytest.raises(ValidationError, match=r"half_life"):
            MixOptions(half_life=wrong)


def test_state_survives_a_restart_and_goes_on_to_the_same_numbers() -> None:
    options = MixOptions(half_life="2 days")
    whole = Adaptation(3, options)
    for seed in range(6):
        if seed == 3:
            kept = json.dumps(whole.state.to_json())
            went_on = Adaptation(3, options, AdaptationState.model_validate_json(kept))
        for one in [whole] if seed < 3 else [whole, went_on]:
            log_assignment, evidence = drifted_requests(seed, 40, np.array([1.0, 0.0, -1.0, 0.5, 0.1]))
            loss = np.random.default_rng(seed).random((40, 2))
            one.learn(log_assignment, evidence, loss, np.arange(40.0) * 1000 + 40_000 * seed)
    assert went_on.state == whole.state
    assert whole.requests == 240


def test_state_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="of 3 scenarios, the model has 4"):
        Adaptation(4, MixOptions(), Adaptation(3, MixOptions()).state)


@pytest.mark.slow
def test_memory_does_not_grow_with_a_million_requests() -> None:
    adaptation, (log_assignment, evidence) = Adaptation(4, MixOptions()), drifted_requests(0, 10_000, trained_mix(4))
    loss, time = np.zeros((10_000, 2)), np.arange(10_000.0)
    adaptation.learn(log_assignment, evidence, loss, time)
    held = len(pickle.dumps(adaptation))
    for block in range(1, 100):
        adaptation.learn(log_assignment, evidence, loss, time + 10_000 * block)
    assert adaptation.requests == 1_000_000
    assert len(pickle.dumps(adaptation)) == pytest.approx(held, abs=20)
    assert len(adaptation.state.model_dump_json()) < 2000
