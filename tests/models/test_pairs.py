"""Sums and pooling over pairs of candidates and events: values and gradients against plain expressions of torch."""

import pytest
import torch
from torch import Tensor

from musenet.models import pairs as under_test
from musenet.models.pairs import Events, GatedPool, Pairs, PairSums, Standardised, distinct_events, moments, pairs_of

CANDIDATES, EVENTS, WIDTH, HIDDEN = 7, 9, 4, 3
REQUEST = torch.tensor([0, 0, 1, 2, 2, 3, 4])
OFFSET = torch.tensor([0, 2, 2, 5, 6, 9])  # candidate 2 has no events; 3, 4 and 6 have as many
TIMES = torch.tensor([1, 3, 1, 2, 1, 4, 1, 1, 2])


@pytest.fixture(params=[(1, 512), (4, 1), (2048, 0), (2048, 512)], ids=lambda of: "of {}, {} to spare".format(*of))
def block_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    size, spare = request.param
    monkeypatch.setattr(under_test, "PAIRS_AT_ONCE", size)
    monkeypatch.setattr(under_test, "SPARE_PAIRS", spare)
    return int(size)


def pairs() -> Pairs:
    """Made anew, since the size of blocks decides how they lie."""
    return pairs_of(REQUEST, Events(torch.zeros(EVENTS, 1), OFFSET, TIMES))


def places() -> tuple[Tensor, Tensor]:
    """(P,) the candidate and (P,) the event of every pair, those to spare included."""
    blocks = pairs().blocks
    candidates = [block.candidate.repeat_interleave(block.length) for block in blocks]
    return torch.cat(candidates), torch.cat([block.event for block in blocks])


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def each_as_often(s: Tensor) -> Tensor:
    """Every pair's row as often as its event occurs."""
    return s.repeat_interleave(pairs().times, dim=0)


def standardised_by_the_pairs(s: Tensor) -> Standardised:
    variance, mean = torch.var_mean(each_as_often(s.detach()), dim=0, correction=0)
    return Standardised(mean, (variance + 1e-5).rsqrt(), of_batch=True)


def plain_pool(gate: Tensor, s: Tensor, k: Tensor, slope: Tensor, v: Tensor, c: Tensor) -> Tensor:
    candidate, event = places()
    weight = ((gate * s + (1 - gate) * slope * s) @ v + c) * pairs().times
    pooled = torch.zeros(CANDIDATES, k.shape[1], dtype=k.dtype)
    return pooled.index_add(0, candidate, weight[:, None] * k[event])


def assert_same_with_gradients(answer: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(answer, expected)
    direction = torch.randn_like(expected)
    found, wanted = (torch.autograd.grad((out * direction).sum(), inputs) for out in (answer, expected))
    torch.testing.assert_close(found, wanted)


def test_pairs_are_every_candidate_with_every_event_of_its_request(block_size: int):
    expected = [(n, t) for n, of in enumerate(REQUEST.tolist()) for t in range(int(OFFSET[of]), int(OFFSET[of + 1]))]
    found, (candidate, event) = pairs(), places()
    stands = found.times > 0
    assert sorted(zip(candidate[stands].tolist(), event[stands].tolist(), strict=True)) == expected
    assert found.times[stands].tolist() == TIMES[event[stands]].tolist()
    assert (found.candidates, found.size) == (CANDIDATES, len(event))
    assert [block.place.start for block in found.blocks] == [
        sum(len(before.event) for before in found.blocks[:place]) for place in range(len(found.blocks))
    ]
    sizes = [len(block.event) for block in found.blocks]
    assert max(sizes) == found.largest
    assert max(sizes) <= max(block_size, 3), "a block holds a cacheful, or one candidate"
    assert (~stands).sum() <= under_test.SPARE_PAIRS * len(sizes)


def test_candidates_with_about_as_many_events_share_a_block_and_others_do_not():
    offset = torch.tensor([0, 30, 59, 87, 88, 89, 89])
    events = Events(torch.zeros(89, 1), offset, torch.ones(89))
    blocks = pairs_of(torch.arange(6).repeat_interleave(10), events).blocks
    assert [(len(block.candidate), block.length) for block in blocks] == [(30, 30), (20, 1)]


def test_events_that_are_alike_stand_once_in_their_request():
    codes = torch.tensor([[7, 1], [7, 2], [7, 1], [7, 1], [3, 1], [7, 1], [7, 1]])
    found = distinct_events(codes, torch.tensor([0, 4, 4, 7]))
    assert found.offset.tolist() == [0, 2, 2, 4]
    counted = list(zip(found.codes.tolist(), found.times.tolist(), strict=True))
    assert sorted(counted[:2]) == [([7, 1], 3), ([7, 2], 1)]
    assert sorted(counted[2:]) == [([3, 1], 1), ([7, 1], 2)]


def test_no_events_are_none():
    found = distinct_events(torch.zeros(0, 2, dtype=torch.long), torch.tensor([0, 0, 0]))
    assert found.offset.tolist() == [0, 0, 0]
    assert len(found.codes) == len(found.times) == 0


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
    inputs = [drawn(pairs().size, HIDDEN), drawn(EVENTS, WIDTH), drawn(slopes), drawn(HIDDEN), drawn()]
    gate = (inputs[0] > 0).double()
    assert_same_with_gradients(GatedPool.apply(pairs(), None, *inputs), plain_pool(gate, *inputs), inputs)


@pytest.mark.usefixtures("block_size")
def test_pooling_behind_dice_by_the_pairs_own_moments():
    inputs = [drawn(pairs().size, HIDDEN), drawn(EVENTS, WIDTH), drawn(HIDDEN), drawn(HIDDEN), drawn()]
    s = inputs[0]
    answer = GatedPool.apply(pairs(), standardised_by_the_pairs(s), *inputs)
    variance, mean = torch.var_mean(each_as_often(s), dim=0, correction=0)
    gate = torch.sigmoid((s - mean) / (variance + 1e-5).sqrt())  # whose gradients go through the moments
    assert_same_with_gradients(answer, plain_pool(gate, *inputs), inputs)


@pytest.mark.usefixtures("block_size")
def test_pooling_behind_dice_by_fixed_statistics():
    inputs = [drawn(pairs().size, HIDDEN), drawn(EVENTS, WIDTH), drawn(HIDDEN), drawn(HIDDEN), drawn()]
    mean, scale = torch.randn(HIDDEN).double(), torch.rand(HIDDEN).double() + 0.5
    gate = torch.sigmoid((inputs[0] - mean) * scale)
    answer = GatedPool.apply(pairs(), Standardised(mean, scale, of_batch=False), *inputs)
    assert_same_with_gradients(answer, plain_pool(gate, *inputs), inputs)


@pytest.mark.usefixtures("block_size")
def test_moments_are_those_of_all_rows():
    s = drawn(pairs().size, HIDDEN)
    expected = torch.var_mean(each_as_often(s), dim=0, correction=0)[::-1]
    mean, variance, rows = moments(s, pairs().times)
    torch.testing.assert_close((mean, variance), expected)
    assert rows == len(each_as_often(s))


def test_candidates_without_events_pool_nothing():
    pooled = GatedPool.apply(
        pairs(), None, drawn(pairs().size, HIDDEN), drawn(EVENTS, WIDTH), drawn(1), drawn(HIDDEN), drawn()
    )
    assert (pooled[2] == 0).all()
    assert (pooled[[0, 1, 3, 4, 5, 6]] != 0).any(dim=1).all()
