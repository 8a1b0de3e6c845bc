"""Every candidate of a batch with every event of its request, and what is computed of such pairs.

Shapes: R requests, N candidates, T events of all requests, P pairs, H history columns, D embedding.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

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


def _blocks(values: Tensor, pairs: Pairs) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows of `values` (P, hidden) with their candidates and events: a cacheful at a time, on a GPU all at once."""
    size = PAIRS_AT_ONCE if values.device.type == "cpu" else max(1, len(values))
    return zip(values.split(size), pairs.candidate.split(size), pairs.event.split(size), strict=True)
