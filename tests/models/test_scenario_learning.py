"""Scenario learning (Eq 3, 4, 7, 8, 14 to 16) against numbers worked out by hand, and docs/model.md's contraction."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from musenet.models.musenet.assigners import Prototypes, clustering_loss, largest_eigenvalue, one_hot_log
from musenet.models.musenet.versions import gumbel_softmax, harden

POSITIONS = [[0.5, -1.0], [2.0, 0.25], [-0.3, 0.8]]
CENTRES = [[0.0, 0.0], [1.0, -1.0], [-2.0, 0.5]]
SCALE = 0.4


def prototypes_at(centres: Any, scale: float) -> Prototypes:
    centres = torch.as_tensor(centres)
    prototypes = Prototypes(len(centres), centres.shape[1], scale)
    prototypes.centres.data = centres.clone()
    return prototypes


def squared_distance(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def softmax(logits: list[float]) -> list[float]:
    total = sum(math.exp(z) for z in logits)
    return [math.exp(z) / total for z in logits]


def test_soft_assignment_is_eq_3():
    expected = [softmax([-SCALE * squared_distance(x, c) for c in CENTRES]) for x in POSITIONS]
    assignment = prototypes_at(CENTRES, SCALE)(torch.tensor(POSITIONS)).exp()
    torch.testing.assert_close(assignment, torch.tensor(expected))


def test_distances_are_scaled_squared_euclidean():
    expected = [[SCALE * squared_distance(x, c) for c in CENTRES] for x in POSITIONS]
    distances = prototypes_at(CENTRES, SCALE).distances(torch.tensor(POSITIONS))
    torch.testing.assert_close(distances, torch.tensor(expected))


def test_the_linear_model_of_eq_15_and_16_is_the_same_assignment():
    def linear(x: list[float]) -> list[float]:
        """w_k x + b_k with w_k = 2 s c_k and b_k = -s c_k c_k."""
        return [
            2 * SCALE * sum(a * b for a, b in zip(c, x, strict=True)) - SCALE * sum(b * b for b in c) for c in CENTRES
        ]

    expected = [softmax(linear(x)) for x in POSITIONS]
    assignment = prototypes_at(CENTRES, SCALE)(torch.tensor(POSITIONS)).exp()
    torch.testing.assert_close(assignment, torch.tensor(expected))


def test_assignment_is_finite_far_away_from_every_prototype():
    log_assignment = prototypes_at(CENTRES, 1.0)(torch.tensor([[1e4, 0.0], [-1e4, 0.0]]))
    assert torch.isfinite(log_assignment).all()
    torch.testing.assert_close(log_assignment.exp(), torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))


def test_hard_assignment_is_eq_4():
    log_assignment = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]).log()
    assert harden(log_assignment).exp().tolist() == [[0, 1, 0], [1, 0, 0]]
    assert harden(log_assignment)[0, 0] == -math.inf


def test_relaxed_sample_is_eq_7():
    pi, noise, temperature = [0.2, 0.5, 0.3], [0.9, -0.4, 0.1], 0.5
    expected = softmax([(math.log(p) + g) / temperature for p, g in zip(pi, noise, strict=True)])
    sample = gumbel_softmax(torch.tensor([pi]).log(), temperature, torch.tensor([noise])).exp()
    torch.testing.assert_close(sample, torch.tensor([expected]))


def test_relaxed_sample_draws_each_scenario_as_often_as_its_probability():
    pi = torch.tensor([0.2, 0.5, 0.3])
    samples = gumbel_softmax(pi.log().expand(20_000, 3), 0.1).exp()
    shares = torch.bincount(samples.argmax(1), minlength=3) / len(samples)
    torch.testing.assert_close(shares, pi, atol=0.015, rtol=0)
    assert samples.amax(1).mean() > 0.9, "tau = 0.1 is nearly discrete"


def test_relaxed_sample_passes_gradients_to_the_assignment():
    log_assignment = torch.tensor([[0.2, 0.5, 0.3]]).log().requires_grad_()
    gumbel_softmax(log_assignment, 1.0)[0, 0].backward()
    assert log_assignment.grad is not None
    assert (log_assignment.grad != 0).all()


def test_clustering_loss_is_eq_8():
    assignment, distance = [[0.7, 0.3], [0.1, 0.9]], [[2.0, 1.0], [0.5, 4.0]]
    expected = ((0.7 * 2.0 + 0.3 * 1.0) + (0.1 * 0.5 + 0.9 * 4.0)) / 2
    assert clustering_loss(torch.tensor(assignment), torch.tensor(distance)).item() == pytest.approx(expected)


def test_move_is_a_step_of_eq_14():
    weights, rate = [[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.0, 0.5, 0.5]], 0.2
    expected = []
    for k, centre in enumerate(CENTRES):
        total = sum(w[k] for w in weights)
        mean = [sum(w[k] * x[m] for w, x in zip(weights, POSITIONS, strict=True)) / total for m in range(2)]
        expected.append([(1 - rate) * c + rate * f for c, f in zip(centre, mean, strict=True)])
    prototypes = prototypes_at(CENTRES, SCALE)
    prototypes.move(torch.tensor(POSITIONS), torch.tensor(weights), rate)
    torch.testing.assert_close(prototypes.centres.detach(), torch.tensor(expected))


def test_move_repeated_with_fixed_weights_minimises_eq_8():
    assignment = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.0, 0.5, 0.5]]).double()
    position, prototypes = torch.tensor(POSITIONS).double(), prototypes_at(CENTRES, 1.0).double()
    losses = []
    for _ in range(50):
        losses.append(clustering_loss(assignment, prototypes.distances(position)).item())
        prototypes.move(position, assignment, 0.2)
    assert losses == sorted(losses, reverse=True)
    best = losses[-1]
    prototypes.centres.data += 0.01
    assert clustering_loss(assignment, prototypes.distances(position)).item() > best


def test_a_prototype_without_any_weight_stays_where_it_is():
    prototypes = prototypes_at(CENTRES, SCALE)
    prototypes.move(torch.tensor(POSITIONS), torch.tensor([[1.0, 0.0, 0.0]]).expand(3, 3), 0.2)
    torch.testing.assert_close(prototypes.centres[1:].detach(), torch.tensor(CENTRES[1:]))


def sample_with_covariance(variances: list[float], count: int = 4000) -> Tensor:
    """(count, M) positions whose mean is 1 and whose covariance is exactly diagonal with these variances."""
    drawn = torch.randn(count, len(variances), generator=torch.Generator().manual_seed(1), dtype=torch.double)
    drawn -= drawn.mean(0)
    white = drawn @ torch.linalg.inv(torch.linalg.cholesky(drawn.T @ drawn / count)).T
    return 1 + white * torch.tensor(variances, dtype=torch.double).sqrt()


def growth_per_step(scale: float, variances: list[float], spread: float, steps: int = 5) -> float:
    """By how much a step of Eq 14, weighted with a alone, multiplies what separates nearly equal prototypes."""
    position = sample_with_covariance(variances)
    offsets = torch.zeros(4, len(variances), dtype=torch.double)
    offsets[:, 0] = spread * torch.tensor([-1.5, -0.5, 0.5, 1.5])  # along the direction of lambda_max
    prototypes = prototypes_at(1 + offsets, scale).double()
    before = prototypes.centres[3, 0] - prototypes.centres[0, 0]
    for _ in range(steps):
        prototypes.move(position, prototypes(position).exp(), 0.2)
    after = prototypes.centres[3, 0] - prototypes.centres[0, 0]
    return float((after / before) ** (1 / steps))


@pytest.mark.parametrize(
    ("scale", "largest", "predicted"),
    [(1.0, 0.21, 0.884), (1.0, 0.45, 0.98), (0.1, 0.21, 0.8084), (1.0, 1.0, 1.2), (5.0, 0.21, 1.22)],
)
def test_eq_14_multiplies_separation_by_what_design_5_1_predicts(scale: float, largest: float, predicted: float):
    """(1 - alpha) + 2 s alpha lambda_max: below 1 prototypes melt together, above 1 they come apart."""
    assert predicted == pytest.approx(0.8 + 2 * scale * 0.2 * largest)
    assert growth_per_step(scale, [largest, 0.1, 0.05], spread=1e-3) == pytest.approx(predicted, abs=0.01)


def test_contraction_melts_prototypes_for_good():
    position, spread = sample_with_covariance([0.21, 0.1, 0.05]), 0.1
    prototypes = prototypes_at(1 + spread * torch.randn(4, 3).double(), 1.0).double()
    for _ in range(80):
        prototypes.move(position, prototypes(position).exp(), 0.2)
    assert float((prototypes.centres - prototypes.centres.mean(0)).abs().max()) < 5e-5
    torch.testing.assert_close(prototypes(position).exp(), torch.full((4000, 4), 0.25).double(), atol=1e-4, rtol=0)


def test_fitted_scale_reaches_the_asked_expansion():
    position = sample_with_covariance([0.21, 0.1, 0.05]).float()
    prototypes = prototypes_at(torch.zeros(4, 3), 1.0)
    prototypes.fit_scale(position, expansion=1.5)
    assert float(prototypes.scale) == pytest.approx(1.5 / (2 * 0.21), rel=1e-3)
    assert largest_eigenvalue(position) == pytest.approx(0.21, rel=1e-3)
    assert growth_per_step(float(prototypes.scale), [0.21, 0.1, 0.05], 1e-3) == pytest.approx(0.8 + 0.3, abs=0.01)


def test_a_given_scenario_is_certain_and_an_unknown_one_shared_evenly():
    assignment = one_hot_log(torch.tensor([1, -1, 0]), 4).exp()
    expected = torch.tensor([[0, 1, 0, 0], [0.25] * 4, [1, 0, 0, 0]])
    torch.testing.assert_close(assignment, expected)
