"""Every candidate of a batch with every event of its request, and what is computed of such pairs.

Shapes: R requests, N candidates, T distinct events of all requests, P pairs, H history columns, D embedding; C
candidates of a block, L places for events of each.
"""

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from musenet.distributed import workers

PAIRS_AT_ONCE = 8192
"""Pairs whose products stay in a CPU's cache, and are enough for two cores to share them."""
SPARE_PAIRS = 512
"""Pairs that take as long as the calls for one more block."""


class Block(NamedTuple):
    """C candidates whose requests have L events, or little fewer."""

    candidate: Tensor
    """(C,)."""
    event: Tensor
    """(C·L,) the events of the first candidate, then the second's, …; in places to spare the last one again."""
    place: slice
    """Of these pairs among all."""

    @property
    def length(self) -> int:
        """L."""
        return len(self.event) // len(self.candidate)


class Pairs(NamedTuple):
    """All pairs of a batch. Candidates with about as many events stand together: a block of them is one tensor."""

    blocks: list[Block]
    candidates: int
    """N, those without events included."""
    size: int
    """P, those to spare included."""
    largest: int
    """Pairs of the largest block."""
    times: Tensor
    """(P,) how often the pair's event occurs; 0 to spare."""


class Events(NamedTuple):
    """The events of each request that differ from one another."""

    codes: Tensor
    """(T, H)."""
    offset: Tensor
    """(R + 1,) where each request's events begin."""
    times: Tensor
    """(T,) how often each occurs in its request."""


def distinct_events(codes: Tensor, offset: Tensor) -> Events:
    """What occurs several times in a history is looked at once; order is lost.

    Args:
        codes: (T', H) events of all requests.
        offset: (R + 1,) where each request's events begin.
    """
    request = torch.repeat_interleave(offset.diff())
    same, times, most = request, request, int(codes.max()) + 1 if len(codes) else 1
    for column in codes.unbind(1):
        _, same, times = torch.unique(same * most + column, return_inverse=True, return_counts=True)
    place = torch.empty_like(times).scatter_(0, same, torch.arange(len(same), device=same.device))
    counts = torch.bincount(request.index_select(0, place), minlength=len(offset) - 1)
    return Events(codes.index_select(0, place), F.pad(counts.cumsum(0), (1, 0)), times)


def pairs_of(request: Tensor, events: Events) -> Pairs:
    """Every candidate with every event of its request.

    Args:
        request: (N,) the candidate's.
        events: of all requests.
    """
    counts, order = events.offset.diff().index_select(0, request).sort(stable=True, descending=True)
    shapes = list(_shapes(*_runs(counts), _pairs_at_once(counts)))
    sizes = [prod(shape) for shape in shapes]
    candidates, lengths = counts.new_tensor(shapes).view(-1, 2).unbind(1)
    lengths = lengths.repeat_interleave(candidates)
    order, counts = order[: len(lengths)], counts[: len(lengths)]  # the others have no events
    row = torch.repeat_interleave(lengths)
    place = torch.arange(len(row), device=row.device) - (lengths.cumsum(0) - lengths).index_select(0, row)
    last = (counts - 1).index_select(0, row)
    begin = events.offset.index_select(0, request.index_select(0, order))
    event = begin.index_select(0, row) + torch.minimum(place, last)
    times = events.times.index_select(0, event) * (place <= last)
    blocks, at = [], 0
    of_blocks = zip(torch.split(order, candidates.tolist()), torch.split(event, sizes), sizes, strict=True)
    for candidate, its_events, size in of_blocks:
        blocks.append(Block(candidate, its_events, slice(at, at + size)))
        at += size
    return Pairs(blocks, len(request), at, max(sizes, default=0), times)


def _runs(ordered: Tensor) -> tuple[list[int], list[int]]:
    """The distinct values, and how often each stands there."""
    values, counts = torch.unique_consecutive(ordered, return_counts=True)
    return values.tolist(), counts.tolist()


def _shapes(events: list[int], candidates: list[int], at_once: int) -> Iterator[tuple[int, int]]:
    """C and L of the blocks.

    Fewer and larger blocks are cheaper, even if some of their places are empty: most of a small block's time goes by in
    calling, whatever it holds.

    Args:
        events: of a request, descending.
        candidates: how many have so many.
        at_once: pairs of a block, if a candidate has no more.
    """
    filled = length = spare = 0
    for count, number in zip(events, candidates, strict=True):
        left = number if count else 0
        while left:
            taken = min(left, at_once // length - filled) if filled else 0
            if taken <= 0 or spare + taken * (length - count) > SPARE_PAIRS:
                if filled:
                    yield filled, length
                filled, length, spare = 0, count, 0
                taken = min(left, max(1, at_once // length))
            filled, spare, left = filled + taken, spare + taken * (length - count), left - taken
    if filled:
        yield filled, length


class PairSums(torch.autograd.Function):
    """(P, hidden) a_n + b_t + W (q_n∘k_t) of every pair of a candidate n and an event t, block by block.

    The products q∘k are made block by block, and made anew for the gradients. Together they would be by far the largest
    tensors of a training step, and on a CPU fetching new memory costs more than computing them twice.
    """

    @staticmethod
    def forward(context: Any, pairs: Pairs, q: Tensor, k: Tensor, a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
        """From q (N, H·D), k (T, H·D), a (N, hidden), b (T, hidden) and W (hidden, H·D)."""
        context.pairs = pairs
        context.save_for_backward(q, k, weight)
        sums = q.new_empty(pairs.size, len(weight))
        events, projected = q.new_empty(pairs.largest, q.shape[1]), torch.empty_like(sums[: pairs.largest])
        for block in pairs.blocks:
            product, out = _gather(k, block, events), sums[block.place]
            product.mul_(q.index_select(0, block.candidate)[:, None])
            torch.mm(product.flatten(0, 1), weight.T, out=out)
            of_both = _gather(b, block, projected).add_(a.index_select(0, block.candidate)[:, None])
            out.add_(of_both.flatten(0, 1))
        return sums

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k, a, b and W."""
        q, k, weight = context.saved_tensors
        pairs: Pairs = context.pairs
        gradient = gradient.contiguous()
        of_q, of_k, of_weight = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(weight)
        of_a, of_b = q.new_zeros(len(q), len(weight)), k.new_zeros(len(k), len(weight))
        events, products, through = q.new_empty(3, pairs.largest, q.shape[1])
        for block in pairs.blocks:
            own, event = gradient[block.place], _gather(k, block, events)
            candidate = q.index_select(0, block.candidate)[:, None]
            product = torch.mul(event, candidate, out=_rows(products, block))
            of_weight.addmm_(own.T, product.flatten(0, 1))
            of_product = _rows(through, block)
            torch.mm(own, weight, out=of_product.flatten(0, 1))
            of_q.index_copy_(0, block.candidate, event.mul_(of_product).sum(1))
            of_k.index_add_(0, block.event, of_product.mul_(candidate).flatten(0, 1))
            of_a.index_copy_(0, block.candidate, own.view(len(block.candidate), block.length, -1).sum(1))
            of_b.index_add_(0, block.event, own)
        return None, of_q, of_k, of_a, of_b, of_weight


class Standardised(NamedTuple):
    """Dice's s -> (s - mean) / deviation, per hidden unit."""

    mean: Tensor
    """(hidden,)."""
    scale: Tensor
    """(hidden,) 1 / deviation."""
    of_batch: bool
    """Whether these are the pairs' own moments, so that gradients also go through them."""


class GatedPool(torch.autograd.Function):
    """(N, H·D) sum over a candidate's pairs of m w k, with w = v·(g s + (1 - g) alpha s) + c from the pair sums s.

    m is how often the event occurs, g the gate of PReLU, s > 0, or of Dice, sigmoid of the standardised s. Like the
    pair sums, what is between s and the pooled history is made block by block, in memory that the blocks share.
    """

    @staticmethod
    def forward(
        context: Any,
        pairs: Pairs,
        standardised: Standardised | None,
        s: Tensor,
        k: Tensor,
        slope: Tensor,
        v: Tensor,
        c: Tensor,
    ) -> Tensor:
        """From s (P, hidden), k (T, H·D), alpha (hidden) or (1), v (hidden) and c ()."""
        context.pairs, context.standardised = pairs, standardised
        pooled, weights = k.new_zeros(pairs.candidates, k.shape[1]), s.new_empty(pairs.size)
        times = pairs.times.to(s.dtype)
        gates, passed = s.new_empty(2, pairs.largest, s.shape[1])
        events = k.new_empty(pairs.largest, k.shape[1])
        always, gated = v * slope, v * (1 - slope)  # w = always·s + gated·(g s) + c
        for block in pairs.blocks:
            own, weight = s[block.place], weights[block.place]
            gate = _gate(own, standardised, gates[: len(own)])
            torch.addmv(c, own, always, out=weight)
            weight.addmv_(torch.mul(gate, own, out=passed[: len(own)]), gated).mul_(times[block.place])
            sums = torch.bmm(weight.view(len(block.candidate), 1, -1), _gather(k, block, events))
            pooled.index_copy_(0, block.candidate, sums[:, 0])
        context.save_for_backward(s, k, slope, v, c, weights)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of s, k, alpha, v and c."""
        s, k, slope, v, c, weights = context.saved_tensors
        pairs: Pairs = context.pairs
        standardised: Standardised | None = context.standardised
        of_s, of_k, of_weights = torch.empty_like(s), torch.zeros_like(k), s.new_empty(pairs.size)
        times = pairs.times.to(s.dtype)
        of_always, of_gated = torch.zeros_like(v), torch.zeros_like(v)
        through = s.new_zeros(2, len(v))  # of the standardised values' gradients, and of these times s
        gates, passed, changes = s.new_empty(3, pairs.largest, s.shape[1])
        events = k.new_empty(pairs.largest, k.shape[1])
        always, gated = v * slope, v * (1 - slope)
        for block in pairs.blocks:
            own, out, of_weight = s[block.place], of_s[block.place], of_weights[block.place]
            of_pooled = gradient.index_select(0, block.candidate)[:, None]  # (C, 1, H·D)
            event = _gather(k, block, events)
            torch.sum(event.mul_(of_pooled), 2, out=of_weight.view(event.shape[:2]))
            of_weight.mul_(times[block.place])
            torch.mul(weights[block.place].view(*event.shape[:2], 1), of_pooled, out=event)
            of_k.index_add_(0, block.event, event.flatten(0, 1))
            gate = _gate(own, standardised, gates[: len(own)])
            active = torch.mul(gate, own, out=passed[: len(own)])
            of_always.addmv_(own.T, of_weight)
            of_gated.addmv_(active.T, of_weight)
            torch.addcmul(always, gate, gated, out=out)
            if standardised is not None:  # the gate moves with s: g (1 - g) s
                change = torch.addcmul(active, active, gate, value=-1, out=changes[: len(own)])
                out.addcmul_(change, gated * standardised.scale)
                if standardised.of_batch:
                    through[0].addmv_(change.T, of_weight)
                    through[1].addmv_(change.mul_(own).T, of_weight)
            out.mul_(of_weight[:, None])
        if standardised is not None and standardised.of_batch:
            through[1] -= through[0] * standardised.mean
            _through_moments(of_s, s, times, standardised, through * gated)
        of_slope = (v * (of_always - of_gated)).sum_to_size(slope.shape)
        of_v = slope * of_always + (1 - slope) * of_gated
        return None, None, of_s, of_k, of_slope, of_v, of_weights.sum().reshape(c.shape)


def moments(s: Tensor, times: Tensor) -> tuple[Tensor, Tensor, int]:
    """(hidden,) mean and variance of the rows of s, all workers', and how many there are.

    `torch.var_mean` takes several times as long.

    Args:
        s: (P, hidden).
        times: (P,) how often each row counts.
    """
    blocks = list(zip(torch.split(s, _size(s)), torch.split(times.to(s.dtype), _size(s)), strict=True))
    total = torch.stack([block.T @ weight for block, weight in blocks]).sum(0)
    total, rows = workers.global_sum_and_count(total, int(times.sum()))
    mean = total / max(rows, 1)
    squares = torch.stack([(block - mean).square_().T @ weight for block, weight in blocks]).sum(0)
    return mean, workers.global_sum(squares) / max(rows, 1), rows


def _gate(s: Tensor, standardised: Standardised | None, out: Tensor) -> Tensor:
    """(p, hidden) how much of s passes whole."""
    if standardised is None:
        return torch.sign(s, out=out).clamp_min_(0)
    mean, scale, _ = standardised
    return torch.addcmul(-mean * scale, s, scale, out=out).sigmoid_()


def _through_moments(gradient: Tensor, s: Tensor, times: Tensor, standardised: Standardised, sums: Tensor) -> None:
    """Subtract what reaches s through the mean and the deviation of all pairs (the gradient of BatchNorm)."""
    mean, scale, _ = standardised
    through_mean, through_deviation = workers.global_quotient(sums, int(times.sum()))
    of_mean, of_deviation = through_mean * scale, through_deviation * scale.pow(3)
    for out, block, weight in zip(*(torch.split(each, _size(s)) for each in (gradient, s, times)), strict=True):
        change = torch.addcmul(of_mean - mean * of_deviation, block, of_deviation)
        out.addcmul_(change, weight[:, None], value=-1)


def _gather(rows: Tensor, block: Block, out: Tensor) -> Tensor:
    """(C, L, ·) the rows (T, ·) of a block's events, in the memory of `out`."""
    torch.index_select(rows, 0, block.event, out=out[: len(block.event)])
    return _rows(out, block)


def _rows(memory: Tensor, block: Block) -> Tensor:
    """(C, L, ·) as much of the memory as a block takes."""
    return memory[: len(block.event)].view(len(block.candidate), block.length, memory.shape[1])


def _pairs_at_once(values: Tensor) -> int:
    """Pairs of a block: a cacheful, on a GPU as many as there are."""
    return PAIRS_AT_ONCE if values.device.type == "cpu" else 2**31


def _size(values: Tensor) -> int:
    """The same for rows that are not told apart."""
    return min(_pairs_at_once(values), max(1, len(values)))
