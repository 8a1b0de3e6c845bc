"""Sums and pooling over pairs of candidates and events: values and gradients against plain expressions of torch."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from musenet.models import pairs as under_test
from musenet.models.pairs import GatedPool, Pairs, PairSums, Standardised, moments, pairs_of
from planted import hand_made_batch

CANDIDATES, EVENTS, WIDTH, HIDDEN, PAIRS = 7, 9, 4, 3, 14
BATCH = replace(
    hand_made_batch(),
    request=torch.tensor([0, 0, 1, 2, 2, 3, 4]),
    history_offset=torch.tensor([0, 2, 2, 5, 6, 9]),  # candidate 2 has no events; 3, 4 and 6 have as many
)


@pytest.fixture(params=[1, 4, 2048], ids=lambda size: f"blocks of {size}")
def block_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(under_test, "PAIRS_AT_ONCE", request.param)
    return int(request.param)


def pairs() -> Pairs:
    """Made anew, since the size of blocks decides how they lie."""
    return pairs_of(BATCH)


def places() -> tuple[Tensor, Tensor]:
    """(P,) the candidate and (P,) the event of every pair."""
    blocks = pairs().blocks
    candidates = [block.candidate.repeat_interleave(block.length) for block in blocks]
    return torch.cat(candidates), torch.cat([block.event for block in blocks])


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def standardised_by_the_pairs(s: Tensor) -> Standardised:
    variance, mean = torch.var_mean(s.detach(), dim=0, correction=0)
    return Standardised(mean, (variance + 1e-5).rsqrt(), of_batch=True)


def plain_pool(gate: Tensor, s: Tensor, k: Tensor, slope: Tensor, v: Tensor, c: Tensor) -> Tensor:
    weight = (gate * s + (1 - gate) * slope * s) @ v + c
    candidate, event = places()
    pooled = torch.zeros(CANDIDATES, k.shape[1], dtype=k.dtype)
    return pooled.index_add(0, candidate, weight[:, None] * k[event])


def assert_same_with_gradients(answer: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(answer, expected)
    direction = torch.randn_like(expected)
    found, wanted = (torch.autograd.grad((out * direction).sum(), inputs) for out in (answer, expected))
    torch.testing.assert_close(found, wanted)


def test_pairs_are_every_candidate_with_every_event_of_its_request(block_size: int):
    expected = [
        (n, t)
        for n, of in enumerate(BATCH.request.tolist())
        for t in range(int(BATCH.history_offset[of]), int(BATCH.history_offset[of + 1]))
    ]
    found, (candidate, event) = pairs(), places()
    assert sorted(zip(candidate.tolist(), event.tolist(), strict=True)) == expected
    assert (found.candidates, found.size) == (CANDIDATES, PAIRS)
    assert [block.place.start for block in found.blocks] == [
        sum(len(before.event) for before in found.blocks[:place]) for place in range(len(found.blocks))
    ]
    sizes = [len(block.event) for block in found.blocks]
    assert max(sizes) == found.largest
    assert max(sizes) <= max(block_size, 3), "a block holds a cacheful, or one candidate"


@pytest.mark.usefixtures("block_size")
def test_pair_sums_are_those_of_the_products():
    inputs = [drawn(CANDIDATES, WIDTH), drawn(EVENTS, WIDTH), drawn(CANDIDATES, HIDDEN), drawn(EVENTS, HIDDEN)]
    inputs.append(drawn(HIDDEN, WIDTH))
    q, k, a, b, weight = inputs
    n, t = places()
    assert_same_with_gradients(PairSums.apply(pairs(), *inputs), (q[n] * k[t]) @ weight.T + a[n] + b[t], inputs)


@pytest.mark.usefixtures("block_size")
@pytest.mark.parametrize("slopes", [1, HIDDEN])
def test_pooling_behind_prelu(slopes: int):
    inputs = [drawn(PAIRS, HIDDEN), drawn(EVENTS, WIDTH), drawn(slopes), drawn(HIDDEN), drawn()]
    gate = (inputs[0] > 0).double()
    assert_same_with_gradients(GatedPool.apply(pairs(), None, *inputs), plain_pool(gate, *inputs), inputs)


@pytest.mark.usefixtures("block_size")
def test_pooling_behind_dice_by_the_pairs_own_moments():
    inputs = [drawn(PAIRS, HIDDEN), drawn(EVENTS, WIDTH), drawn(HIDDEN), drawn(HIDDEN), drawn()]
    s = inputs[0]
    answer = GatedPool.apply(pairs(), standardised_by_the_pairs(s), *inputs)
    gate = torch.sigmoid(F.batch_norm(s, None, None, training=True))  # whose gradients go through the moments
    assert_same_with_gradients(answer, plain_pool(gate, *inputs), inputs)


@pytest.mark.usefixtures("block_size")
def test_pooling_behind_dice_by_fixed_statistics():
    inputs = [drawn(PAIRS, HIDDEN), drawn(EVENTS, WIDTH), drawn(HIDDEN), drawn(HIDDEN), drawn()]
    mean, scale = torch.randn(HIDDEN).double(), torch.rand(HIDDEN).double() + 0.5
    gate = torch.sigmoid((inputs[0] - mean) * scale)
    answer = GatedPool.apply(pairs(), Standardised(mean, scale, of_batch=False), *inputs)
    assert_same_with_gradients(answer, plain_pool(gate, *inputs), inputs)


@pytest.mark.usefixtures("block_size")
def test_moments_are_those_of_all_rows():
    s = drawn(PAIRS, HIDDEN)
    torch.testing.assert_close(moments(s), torch.var_mean(s, dim=0, correction=0)[::-1])


def test_candidates_without_events_pool_nothing():
    pooled = GatedPool.apply(
        pairs(), None, drawn(PAIRS, HIDDEN), drawn(EVENTS, WIDTH), drawn(1), drawn(HIDDEN), drawn()
    )
    assert (pooled[2] == 0).all()
    assert (pooled[[0, 1, 3, 4, 5, 6]] != 0).any(dim=1).all()
