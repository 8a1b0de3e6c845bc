"""Slow, obvious counterparts of the models' fast paths: loops, and plain networks of `nn.Linear`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from musenet.dataset.batch import Batch
from musenet.models.attention import Dice, HistoryAttention
from musenet.models.layers import CrossLayer, CrossLayers, ParallelLinear, ParallelMLP, TwoSidedMLP
from musenet.models.musenet.intentions import IntentionModules


def networks_of(layer: ParallelMLP | TwoSidedMLP) -> list[Any]:
    """The K networks as plain ones with the same weights; over [request, candidate] if the layer has two sides."""
    mlp = layer.mlp if isinstance(layer, TwoSidedMLP) else layer
    weight = mlp.first.weight
    if isinstance(layer, TwoSidedMLP):
        weight = torch.cat([layer.from_request.weight, weight], dim=1)
    width = len(weight) // mlp.networks
    networks: list[nn.Module] = []
    for k in range(mlp.networks):
        own = slice(k * width, (k + 1) * width)
        steps: list[nn.Module] = [_linear(weight[own], mlp.first.bias[own])]
        for deeper in mlp.rest:
            assert isinstance(deeper, ParallelLinear)
            steps += [nn.ReLU(), _linear(deeper.weight[k].T, deeper.bias[k, 0])]
        networks.append(nn.Sequential(*steps))
    return networks


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight.data, linear.bias.data = weight.detach().clone(), bias.detach().clone()
    return linear


def plain_crosses(layers: CrossLayers, x_0: Tensor) -> Tensor:
    """(size,) x_L of one row x_0, input by input."""
    x = x_0
    for layer in layers:
        assert isinstance(layer, CrossLayer)
        weight, bias = _matrix_of(layer)
        x = torch.stack([x_0[i] * (torch.dot(weight[i], x) + bias[i]) + x[i] for i in range(len(x_0))])
    return x


def _matrix_of(layer: CrossLayer) -> tuple[Tensor, Tensor]:
    """W and b; of low rank, W = U V^T."""
    if isinstance(layer.linear, nn.Linear):
        return layer.linear.weight, layer.linear.bias
    v, u = layer.linear
    assert isinstance(v, nn.Linear)
    assert isinstance(u, nn.Linear)
    assert v.weight.shape[0] < len(u.weight)
    return u.weight @ v.weight, u.bias


def plain_intention(
    modules: IntentionModules,
    request: Tensor,
    candidate: Tensor,
    batch: Batch,
    combine: Callable[[float, float, str], float],
) -> tuple[Tensor, Tensor]:
    """(N, K) logits and (R, K) repeat probabilities, candidate by candidate and scenario by scenario."""
    intention, repeat, explore = (networks_of(part) for part in (modules.intention, modules.repeat, modules.explore))
    shared = networks_of(modules.shared.score)[0] if modules.shared is not None else None
    logits = torch.empty(len(candidate), len(intention))
    for n, row in enumerate(candidate):
        of = request[batch.request[n]]
        for k, network in enumerate(intention):
            mode = network(of).item()
            repeats = bool(batch.repeat_indicator[n])
            score = (repeat if repeats else explore)[k](torch.cat([of, row])).item()
            score += shared(torch.cat([of, row])).item() if shared is not None else 0.0
            logits[n, k] = combine(mode if repeats else -mode, score, modules.form)
    probability = torch.cat([torch.sigmoid(network(request)) for network in intention], dim=1)
    return logits, probability.detach()


def plain_dice(layer: Dice, x: Tensor) -> Tensor:
    """(..., size) in scoring: p(s) s + (1 - p(s)) alpha s, p the sigmoid of s standardised by the moving statistics."""
    mean, variance = layer.standardise.running_mean, layer.standardise.running_var
    assert mean is not None
    assert variance is not None
    p = 1 / (1 + torch.exp(-(x - mean) / torch.sqrt(variance + layer.standardise.eps)))
    return p * x + (1 - p) * layer.slope * x


def plain_history(
    layer: HistoryAttention,
    values: Tensor,
    batch: Batch,
    places: list[int | None],
    activate: Callable[[Tensor], Tensor],
) -> Tensor:
    """(N, H·D) candidate by candidate and event by event, with the whole [q, k, q - k, q∘k].

    The layer only holds sums of the blocks of its W: whatever W_3 is, W_1 + W_3, W_2 - W_3 and W_4 are the same W.

    Args:
        layer: the fast one, over all history columns.
        values: (U, D) looked-up embeddings.
        batch: for events and candidates.
        places: the column of the candidates' codes that each history column is asked with.
        activate: what follows the activation unit's first layer.
    """
    w_3 = torch.randn_like(layer.from_query.weight)
    w_1, w_2, w_4 = layer.from_query.weight - w_3, layer.from_event.weight + w_3, layer.from_product.weight
    whole = torch.cat([w_1, w_2, w_3, w_4], dim=1)
    rows = []
    for n, of in enumerate(batch.request.tolist()):
        codes = [0 if at is None else int(batch.candidate_codes[n, at]) for at in places]
        asked = [values[code] * (at is not None) for code, at in zip(codes, places, strict=True)]
        q, total = torch.cat(asked), torch.zeros(layer.out)
        for t in range(int(batch.history_offset[of]), int(batch.history_offset[of + 1])):
            k = torch.cat([values[code] for code in batch.history_codes[t]])
            hidden = activate(whole @ torch.cat([q, k, q - k, q * k]) + layer.from_query.bias)
            total = total + (layer.weight.weight @ hidden + layer.weight.bias) * k
        rows.append(total)
    return torch.stack(rows)
