"""Sums and pooling over pairs of candidates and events: values and gradients against plain expressions of torch."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from musenet.models import pairs as under_test
from musenet.models.pairs import GatedPool, Pairs, PairSums, Standardised, moments

CANDIDATES, EVENTS, WIDTH, HIDDEN = 6, 5, 4, 3
PAIRS = Pairs(
    candidate=torch.tensor([0, 0, 1, 1, 3, 3, 3, 4, 4, 4, 5]),  # candidate 2 has no events
    event=torch.tensor([0, 1, 0, 1, 2, 3, 4, 2, 3, 4, 4]),
    offset=torch.tensor([0, 2, 4, 4, 7, 10]),
)


@pytest.fixture(params=[1, 4, 2048], ids=lambda size: f"blocks of {size}")
def block_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(under_test, "PAIRS_AT_ONCE", request.param)
    return int(request.param)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def standardised_by_the_pairs(s: Tensor) -> Standardised:
    variance, mean = torch.var_mean(s.detach(), dim=0, correction=0)
    return Standardised(mean, (variance + 1e-5).rsqrt(), of_batch=True)


def plain_pool(gate: Tensor, s: Tensor, k: Tensor, slope: Tensor, v: Tensor, c: Tensor) -> Tensor:
    weight = (gate * s + (1 - gate) * slope * s) @ v + c
    pooled = torch.zeros(CANDIDATES, k.shape[1], dtype=k.dtype)
    return pooled.index_add(0, PAIRS.candidate, weight[:, None] * k[PAIRS.event])


def assert_same_with_gradients(answer: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(answer, expected)
    direction = torch.randn_like(expected)
    found, wanted = (torch.autograd.grad((out * direction).sum(), inputs) for out in (answer, expected))
    torch.testing.assert_close(found, wanted)


@pytest.mark.usefixtures("block_size")
def test_pair_sums_are_those_of_the_products():
    inputs = [drawn(CANDIDATES, WIDTH), drawn(EVENTS, WIDTH), drawn(CANDIDATES, HIDDEN), drawn(EVENTS, HIDDEN)]
    inputs.append(drawn(HIDDEN, WIDTH))
    q, k, a, b, weight = inputs
    n, t = PAIRS.candidate, PAIRS.event
    assert_same_with_gradients(PairSums.apply(PAIRS, *inputs), (q[n] * k[t]) @ weight.T + a[n] + b[t], inputs)


@pytest.mark.usefixtures("block_size")
@pytest.mark.parametrize("slopes", [1, HIDDEN])
def test_pooling_behind_prelu(slopes: int):
    inputs = [drawn(len(PAIRS.event), HIDDEN), drawn(EVENTS, WIDTH), drawn(slopes), drawn(HIDDEN), drawn()]
    gate = (inputs[0] > 0).double()
    assert_same_with_gradients(GatedPool.apply(PAIRS, None, *inputs), plain_pool(gate, *inputs), inputs)


@pytest.mark.usefixtures("block_size")
def test_pooling_behind_dice_by_the_pairs_own_moments():
    inputs = [drawn(len(PAIRS.event), HIDDEN), drawn(EVENTS, WIDTH), drawn(HIDDEN), drawn(HIDDEN), drawn()]
    s = inputs[0]
    answer = GatedPool.apply(PAIRS, standardised_by_the_pairs(s), *inputs)
    gate = torch.sigmoid(F.batch_norm(s, None, None, training=True))  # whose gradients go through the moments
    assert_same_with_gradients(answer, plain_pool(gate, *inputs), inputs)


@pytest.mark.usefixtures("block_size")
def test_pooling_behind_dice_by_fixed_statistics():
    inputs = [drawn(len(PAIRS.event), HIDDEN), drawn(EVENTS, WIDTH), drawn(HIDDEN), drawn(HIDDEN), drawn()]
    mean, scale = torch.randn(HIDDEN).double(), torch.rand(HIDDEN).double() + 0.5
    gate = torch.sigmoid((inputs[0] - mean) * scale)
    answer = GatedPool.apply(PAIRS, Standardised(mean, scale, of_batch=False), *inputs)
    assert_same_with_gradients(answer, plain_pool(gate, *inputs), inputs)


@pytest.mark.usefixtures("block_size")
def test_moments_are_those_of_all_rows():
    s = drawn(len(PAIRS.event), HIDDEN)
    mean, variance, rows = moments(s)
    torch.testing.assert_close((mean, variance), torch.var_mean(s, dim=0, correction=0)[::-1])
    assert rows == len(s)


def test_candidates_without_events_pool_nothing():
    pooled = GatedPool.apply(
        PAIRS, None, drawn(len(PAIRS.event), HIDDEN), drawn(EVENTS, WIDTH), drawn(1), drawn(HIDDEN), drawn()
    )
    assert (pooled[2] == 0).all()
    assert (pooled[[0, 1, 3, 4, 5]] != 0).any(dim=1).all()
