"""Every candidate of a batch with every event of its request, and what is computed of such pairs.

Shapes: R requests, N candidates, T events of all requests, P pairs, H history columns, D embedding.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from musenet import workers
from musenet.data.batches import Batch

PAIRS_AT_ONCE = 2048
"""Pairs whose products fit into the cache of a CPU core."""


class Pairs(NamedTuple):
    """All pairs of a batch, candidate by candidate."""

    candidate: Tensor
    """(P,)."""
    event: Tensor
    """(P,)."""
    offset: Tensor
    """(N,) where a candidate's pairs begin."""


def pairs_of(batch: Batch) -> Pairs:
    """Every candidate with every event of its request."""
    begin = batch.history_offset[:-1].index_select(0, batch.request)
    counts = batch.history_offset[1:].index_select(0, batch.request) - begin
    offset = counts.cumsum(0) - counts
    candidate = torch.repeat_interleave(counts)
    event = torch.arange(len(candidate), device=candidate.device) + (begin - offset).index_select(0, candidate)
    return Pairs(candidate, event, offset)


class PairSums(torch.autograd.Function):
    """(P, hidden) a_n + b_t + W (q_n∘k_t) of every pair of a candidate n and an event t.

    The products q∘k are made block by block, and made anew for the gradients. Together they would be by far the largest
    tensors of a training step, and on a CPU fetching new memory costs more than computing them twice.
    """

    @staticmethod
    def forward(context: Any, pairs: Pairs, q: Tensor, k: Tensor, a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
        """From q (N, H·D), k (T, H·D), a (N, hidden), b (T, hidden) and W (hidden, H·D)."""
        context.pairs = pairs
        context.save_for_backward(q, k, weight)
        sums = q.new_empty(len(pairs.event), len(weight))
        for block, of, at in _blocks(sums, pairs):
            torch.mm(q.index_select(0, of).mul_(k.index_select(0, at)), weight.T, out=block)
            block.add_(a.index_select(0, of)).add_(b.index_select(0, at))
        return sums

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k, a, b and W."""
        q, k, weight = context.saved_tensors
        of_q, of_k, of_weight = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(weight)
        of_a, of_b = q.new_zeros(len(q), len(weight)), k.new_zeros(len(k), len(weight))
        for block, of, at in _blocks(gradient, context.pairs):
            candidate, event, of_product = q.index_select(0, of), k.index_select(0, at), block @ weight
            of_weight.addmm_(block.T, candidate * event)
            of_q.index_add_(0, of, event.mul_(of_product))
            of_k.index_add_(0, at, candidate.mul_(of_product))
            of_a.index_add_(0, of, block)
            of_b.index_add_(0, at, block)
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
    """(N, H·D) sum over a candidate's pairs of w k, with w = v·(g s + (1 - g) alpha s) + c from the pair sums s.

    g is the gate of PReLU, s > 0, or of Dice, sigmoid of the standardised s. Like the pair sums, what is between s and
    the pooled history is made block by block.
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
        context.save_for_backward(s, k, slope, v, c)
        pooled = k.new_zeros(len(pairs.offset), k.shape[1])
        for block, of, at in _blocks(s, pairs):
            weight = torch.addmv(c, torch.lerp(slope, _ONE.to(s), _gate(block, standardised)).mul_(block), v)
            pooled.index_add_(0, of, k.index_select(0, at).mul_(weight[:, None]))
        return pooled

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of s, k, alpha, v and c."""
        s, k, slope, v, c = context.saved_tensors
        standardised: Standardised | None = context.standardised
        of_s, of_k, of_weight = torch.empty_like(s), torch.zeros_like(k), s.new_empty(len(s))
        of_slope, of_v = torch.zeros_like(v), torch.zeros_like(v)
        sums = s.new_zeros(2, len(v))  # of the standardised values' gradients, and of these times the values
        for (block, of, at), out, of_w in zip(_blocks(s, context.pairs), _split(of_s), _split(of_weight), strict=True):
            gate = _gate(block, standardised)
            factor = torch.lerp(slope, _ONE.to(s), gate)
            active = factor * block
            of_pooled = gradient.index_select(0, of)
            torch.linalg.vecdot(of_pooled, k.index_select(0, at), out=of_w)
            of_k.index_add_(0, at, of_pooled.mul_(torch.addmv(c, active, v)[:, None]))
            of_v.addmv_(active.T, of_w)
            of_slope.addmv_(torch.addcmul(block, block, gate, value=-1).T, of_w)
            if standardised is None:
                torch.mul(factor, v, out=out).mul_(of_w[:, None])
                continue
            through = _through_gate(block, gate, slope).mul_(v).mul_(of_w[:, None])
            torch.mul(factor, v, out=out).mul_(of_w[:, None]).addcmul_(through, standardised.scale)
            if standardised.of_batch:
                sums[0] += through.sum(0)
                sums[1] += (through * (block - standardised.mean)).sum(0)
        if standardised is not None and standardised.of_batch:
            _through_moments(of_s, s, standardised, sums)
        of_slope = (of_slope * v).sum_to_size(slope.shape)
        return None, None, of_s, of_k, of_slope, of_v, of_weight.sum().reshape(c.shape)


def moments(s: Tensor) -> tuple[Tensor, Tensor, int]:
    """(hidden,) mean and variance of the rows of s (P, hidden), all workers', and how many there are.

    `torch.var_mean` takes several times as long.
    """
    blocks = torch.split(s, _size(s))
    total, rows = workers.global_sum_and_count(torch.stack([block.sum(0) for block in blocks]).sum(0), len(s))
    mean = total / max(rows, 1)
    squares = torch.stack([(block - mean).square_().sum(0) for block in blocks]).sum(0)
    return mean, workers.global_sum(squares) / max(rows, 1), rows


_ONE = torch.ones(())


def _gate(s: Tensor, standardised: Standardised | None) -> Tensor:
    """(p, hidden) how much of s passes whole."""
    if standardised is None:
        return (s > 0).to(s.dtype)
    return torch.sub(s, standardised.mean).mul_(standardised.scale).sigmoid_()


def _through_gate(s: Tensor, gate: Tensor, slope: Tensor) -> Tensor:
    """(p, hidden) slope of the activation by what the sigmoid gets."""
    return torch.addcmul(gate, gate, gate, value=-1).mul_(s).mul_(1 - slope)


def _through_moments(gradient: Tensor, s: Tensor, standardised: Standardised, sums: Tensor) -> None:
    """Subtract what reaches s through the mean and the deviation of all pairs (the gradient of BatchNorm)."""
    mean, scale, _ = standardised
    through_mean, through_deviation = workers.global_quotient(sums, len(s))
    of_mean, of_deviation = through_mean * scale, through_deviation * scale.pow(3)
    for out, block in zip(torch.split(gradient, _size(s)), torch.split(s, _size(s)), strict=True):
        out.sub_(of_mean).sub_(torch.sub(block, mean).mul_(of_deviation))


def _size(values: Tensor) -> int:
    """Pairs of a block: a cacheful, on a GPU all at once."""
    return PAIRS_AT_ONCE if values.device.type == "cpu" else max(1, len(values))


def _split(rows: Tensor) -> tuple[Tensor, ...]:
    """The rows block by block; no block without rows."""
    return torch.split(rows, _size(rows)) if len(rows) else ()


def _blocks(values: Tensor, pairs: Pairs) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows of `values` (P, hidden) with their candidates and events."""
    return zip(*(_split(rows) for rows in (values, pairs.candidate, pairs.event)), strict=True)
