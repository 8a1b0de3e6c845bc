"""Slow, obvious counterparts of the models' fast paths: loops, and plain networks of `nn.Linear`."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from musenet.data.batches import Batch
from musenet.models.layers import ParallelLinear, ParallelMLP, TwoSidedMLP
from musenet.models.musenet.intentions import IntentionModules


def networks_of(layer: ParallelMLP | TwoSidedMLP) -> list[nn.Sequential]:
    """The K networks as plain ones with the same weights; over [request, candidate] if the layer has two sides."""
    mlp = layer.mlp if isinstance(layer, TwoSidedMLP) else layer
    weight = mlp.first.weight
    if isinstance(layer, TwoSidedMLP):
        weight = torch.cat([layer.from_request.weight, weight], dim=1)
    width = len(weight) // mlp.networks
    networks = []
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
