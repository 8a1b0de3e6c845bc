"""MUSENET's objective (Eq 10 to 13 and docs/model.md) against numbers worked out by hand with plain floats."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from musenet.models.layers import weighted_cross_entropy
from musenet.models.musenet import objectives
from planted import hand_made_batch

ASSIGNMENT = [[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]
SCENARIO_LOGIT = [[1.5, -0.5, 0.2], [-2.0, 0.3, 1.0]]
LABEL = [1.0, 0.0]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def mixture_probability(assignment: list[float], logits: list[float]) -> float:
    return sum(a * sigmoid(z) for a, z in zip(assignment, logits, strict=True))


def log_of(assignment: list[list[float]]) -> Tensor:
    return torch.tensor(assignment).log()


def cross_entropy(probability: float, label: float) -> float:
    return -math.log(probability if label else 1 - probability)


def kl_from_uniform(distribution: list[float]) -> float:
    return sum(p * math.log(p * len(distribution)) for p in distribution if p)


def test_mixture_logit_belongs_to_the_mixed_probability():
    expected = []
    for assignment, logits in zip(ASSIGNMENT, SCENARIO_LOGIT, strict=True):
        probability = mixture_probability(assignment, logits)
        expected.append(math.log(probability / (1 - probability)))
    mixed = objectives.mix_probabilities(log_of(ASSIGNMENT), torch.tensor(SCENARIO_LOGIT))
    torch.testing.assert_close(mixed, torch.tensor(expected))


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_cross_entropy_on_the_mixture_logit_is_the_mixture_likelihood(label: float):
    mixed = objectives.mix_probabilities(log_of(ASSIGNMENT), torch.tensor(SCENARIO_LOGIT))
    losses = F.binary_cross_entropy_with_logits(mixed, torch.full((2,), label), reduction="none")
    expected = [
        cross_entropy(mixture_probability(a, z), label) for a, z in zip(ASSIGNMENT, SCENARIO_LOGIT, strict=True)
    ]
    torch.testing.assert_close(losses, torch.tensor(expected))


@pytest.mark.parametrize(
    ("assignment", "logits", "expected"),
    [
        ([0.3, 0.7], [80.0, 80.0], 80.0),
        ([0.3, 0.7], [-80.0, -80.0], -80.0),
        ([0.5, 0.5], [80.0, -80.0], 0.0),
        ([0.9, 0.1], [80.0, -80.0], math.log(9)),
        ([0.0, 1.0], [80.0, -80.0], -80.0),
        ([1.0, 0.0], [80.0, -80.0], 80.0),
        ([1.0, 0.0], [0.4, -80.0], 0.4),
    ],
)
def test_mixture_logit_is_right_at_the_extremes(assignment: list[float], logits: list[float], expected: float):
    log_assignment = log_of([assignment])
    scenario_logit = torch.tensor([logits], requires_grad=True)
    mixed = objectives.mix_probabilities(log_assignment, scenario_logit)
    assert mixed.item() == pytest.approx(expected, abs=1e-5)
    F.binary_cross_entropy_with_logits(mixed, torch.ones(1)).backward()
    assert scenario_logit.grad is not None
    assert torch.isfinite(scenario_logit.grad).all()


def test_mixture_logit_is_the_only_scenarios_logit():
    logits = torch.tensor([[-3.0], [0.0], [12.0]])
    torch.testing.assert_close(objectives.mix_probabilities(torch.zeros(3, 1), logits), logits[:, 0])


def test_mix_logits_is_the_weighted_sum_of_3_2_3():
    expected = [sum(a * z for a, z in zip(*row, strict=True)) for row in zip(ASSIGNMENT, SCENARIO_LOGIT, strict=True)]
    mixed = objectives.mix_logits(log_of(ASSIGNMENT), torch.tensor(SCENARIO_LOGIT))
    torch.testing.assert_close(mixed, torch.tensor(expected))


@pytest.mark.parametrize("weight", [None, [0.5, 3.0]])
def test_click_loss_is_eq_11_averaged_over_candidates(weight: list[float] | None):
    logits = [0.7, -0.2]
    each = [cross_entropy(sigmoid(z), y) for z, y in zip(logits, LABEL, strict=True)]
    expected = sum(w * loss for w, loss in zip(weight or [1.0, 1.0], each, strict=True)) / 2
    given = None if weight is None else torch.tensor(weight)
    loss = weighted_cross_entropy(torch.tensor(logits), torch.tensor(LABEL), given)
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("weight", [None, [0.5, 3.0]])
def test_bound_loss_is_the_expected_cross_entropy_of_eq_2(weight: list[float] | None):
    each = [
        sum(a * cross_entropy(sigmoid(z), y) for a, z in zip(assignment, logits, strict=True))
        for assignment, logits, y in zip(ASSIGNMENT, SCENARIO_LOGIT, LABEL, strict=True)
    ]
    expected = sum(w * loss for w, loss in zip(weight or [1.0, 1.0], each, strict=True)) / 2
    given = None if weight is None else torch.tensor(weight)
    loss = objectives.bound_loss(log_of(ASSIGNMENT), torch.tensor(SCENARIO_LOGIT), torch.tensor(LABEL), given)
    assert loss.item() == pytest.approx(expected)


def test_bound_is_no_smaller_than_the_mixture_likelihood():
    log_assignment, logits, label = log_of(ASSIGNMENT), torch.tensor(SCENARIO_LOGIT), torch.tensor(LABEL)
    mixture = weighted_cross_entropy(objectives.mix_probabilities(log_assignment, logits), label, None)
    assert objectives.bound_loss(log_assignment, logits, label, None) > mixture


@pytest.mark.parametrize("weight", [None, [0.5, 3.0, 2.0]])
def test_request_loss_is_the_likelihood_of_whole_requests(weight: list[float] | None):
    logits, label = [[1.5, -0.5, 0.2], [-2.0, 0.3, 1.0], [0.4, 0.0, -1.0]], [1.0, 0.0, 1.0]
    evidence = [[sigmoid(z if y else -z) for z in row] for row, y in zip(logits, label, strict=True)]
    powers = weight or [1.0] * 3
    likelihoods = []
    for r, own in enumerate([[0, 1], [2]]):
        products = [math.prod(evidence[n][k] ** powers[n] for n in own) for k in range(3)]
        likelihoods.append(sum(a * p for a, p in zip(ASSIGNMENT[r], products, strict=True)))
    expected = -sum(math.log(likelihood) for likelihood in likelihoods) / 3
    batch = replace(hand_made_batch(), weight=None if weight is None else torch.tensor(weight))
    loss = objectives.request_loss(log_of(ASSIGNMENT), torch.tensor(logits), batch)
    assert loss.item() == pytest.approx(expected)


def test_auxiliary_loss_is_eq_10_with_its_sign_mended():
    probability, fraction = [[0.1, 0.5, 0.9], [0.3, 0.4, 0.2]], [0.6, 0.1]
    errors = [
        r - sum(a * p for a, p in zip(assignment, row, strict=True))
        for r, assignment, row in zip(fraction, ASSIGNMENT, probability, strict=True)
    ]
    expected = sum(error**2 for error in errors) / 2
    loss = objectives.auxiliary_loss(torch.tensor(ASSIGNMENT), torch.tensor(probability), torch.tensor(fraction))
    assert loss.item() == pytest.approx(expected)
    assert expected > 0, "a loss: being wrong costs"


def test_auxiliary_loss_leaves_out_requests_without_events():
    probability = torch.tensor([[0.1, 0.5, 0.9], [0.3, 0.4, 0.2]], requires_grad=True)
    loss = objectives.auxiliary_loss(torch.tensor(ASSIGNMENT), probability, torch.tensor([0.6, math.nan]))
    loss.backward()
    assert loss.item() == pytest.approx((0.6 - (0.7 * 0.1 + 0.2 * 0.5 + 0.1 * 0.9)) ** 2)
    assert probability.grad is not None
    assert (probability.grad[0] != 0).all()
    assert (probability.grad[1] == 0).all()


def test_auxiliary_loss_is_nothing_if_nobody_has_events():
    loss = objectives.auxiliary_loss(torch.tensor(ASSIGNMENT), torch.full((2, 3), 0.5), torch.full((2,), math.nan))
    assert loss.item() == 0


def test_divergence_is_eq_12():
    expected = sum(kl_from_uniform(row) for row in ASSIGNMENT) / 2
    assert objectives.divergence_from_uniform(log_of(ASSIGNMENT)).item() == pytest.approx(expected)


def test_divergence_is_nothing_when_even_and_log_k_when_certain():
    assert objectives.divergence_from_uniform(torch.full((5, 4), 0.25).log()).item() == pytest.approx(0, abs=1e-6)
    certain = torch.tensor([[0.0, -math.inf, -math.inf, -math.inf]])
    assert objectives.divergence_from_uniform(certain).item() == pytest.approx(math.log(4))


def test_eq_12_charges_for_information_beside_balance():
    """E_x KL(Q(c|x) ‖ uniform) = I(x; c) + KL(E_x Q(c|x) ‖ uniform), docs/model.md."""
    mean = [sum(row[k] for row in ASSIGNMENT) / 2 for k in range(3)]
    information = sum(a * math.log(a / mean[k]) for row in ASSIGNMENT for k, a in enumerate(row)) / 2
    divergence = objectives.divergence_from_uniform(log_of(ASSIGNMENT)).item()
    assert divergence == pytest.approx(information + kl_from_uniform(mean))
    balance = objectives.balance_loss(torch.tensor(ASSIGNMENT)).item()
    assert divergence - balance == pytest.approx(information)
    assert information > 0.05


def test_balance_charges_for_dead_scenarios_alone():
    confident = torch.eye(3)
    assert objectives.balance_loss(confident).item() == pytest.approx(0, abs=1e-6)
    dead = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]], requires_grad=True)
    loss = objectives.balance_loss(dead)
    loss.backward()
    assert loss.item() == pytest.approx(kl_from_uniform([0.75, 0.25, 0.0]))
    assert dead.grad is not None
    assert torch.isfinite(dead.grad).all()
    assert (dead.grad[:, 2] < dead.grad[:, 1]).all(), "most of all, the dead one should be used"


def test_entropy_in_nats():
    expected = -sum(a * math.log(a) for row in ASSIGNMENT for a in row) / 2
    assert objectives.entropy(log_of(ASSIGNMENT)).item() == pytest.approx(expected)
    assert objectives.entropy(torch.tensor([[0.0, -math.inf]])).item() == 0


@pytest.mark.parametrize(
    ("progress", "start", "expected"),
    [(0.0, 0.6, 0.0), (0.6, 0.6, 0.0), (0.7, 0.6, 0.25), (1.0, 0.6, 1.0), (0.5, 0.0, 0.5)],
)
def test_late_schedule_rises_evenly_from_its_start(progress: float, start: float, expected: float):
    assert objectives.late(progress, start) == pytest.approx(expected)


def test_request_posterior_is_the_mean_evidence_of_its_candidates():
    assignment = ASSIGNMENT
    logits = [[1.5, -0.5, 0.2], [-2.0, 0.3, 1.0], [0.4, 0.0, -1.0]]
    label, request = [1.0, 0.0, 1.0], [0, 0, 1]
    expected = []
    for r in range(2):
        own = [n for n in range(3) if request[n] == r]
        joint = [
            assignment[r][k] * sum(sigmoid(logits[n][k] if label[n] else -logits[n][k]) for n in own) / len(own)
            for k in range(3)
        ]
        expected.append([j / sum(joint) for j in joint])
    posterior = objectives.request_posterior(
        log_of(assignment), torch.tensor(logits), torch.tensor(label), torch.tensor(request)
    )
    torch.testing.assert_close(posterior, torch.tensor(expected))
    assert expected[0][1] < expected[1][1], "scenario 1 explains the second request better than the first"
