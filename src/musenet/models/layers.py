"""Layers that the models share.

Shapes: R requests, N candidates, K parallel networks, H hidden units.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musenet.distributed import workers


def _uniform(*shape: int, fan_in: int) -> nn.Parameter:
    """Initial weights as of `torch.nn.Linear`: uniform within 1/sqrt(fan_in)."""
    bound = 1 / math.sqrt(max(fan_in, 1))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def full_precision(values: Tensor) -> torch.autocast:
    """Within, products are in the precision of `values`, though `training.precision` be bfloat16."""
    return torch.autocast(values.device.type, enabled=False)


def set_dropout(model: nn.Module, share: float) -> None:
    """Leave out this share of the units of every hidden layer of the model's networks in training."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share


def widened(x: Tensor) -> Tensor:
    """What leaves networks that may have computed in bfloat16: too coarse for sums over batches and for losses."""
    return x.float() if x.dtype == torch.bfloat16 else x


def rows_of(values: Tensor, codes: Tensor) -> Tensor:
    """(rows, columns·D) of looked-up embeddings `values` (U, D), by their `codes` (rows, columns).

    As `torch.nn.functional.embedding`, whose gradients take several times as long on a CPU.
    """
    return values.index_select(0, codes.reshape(-1)).view(codes.shape[0], codes.shape[1] * values.shape[1])


class Standardise(nn.BatchNorm1d):
    """BatchNorm without scale and shift, over the rows of all workers.

    A batch of one row, which has no variance of its own, uses the past's.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, size: int) -> None:
        super().__init__(size, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, size)."""
        if not self.training or (workers.alone() and len(x) > 1):
            return super().forward(x)
        total, rows = workers.global_sum_and_count(x.sum(0), len(x))
        if rows <= 1:
            return F.batch_norm(x, self.running_mean, self.running_var)
        mean = total / rows
        variance = workers.global_sum((x - mean).square().sum(0)) / rows
        self.remember(mean, variance, rows)
        return (x - mean) * (variance + self.eps).rsqrt()

    @torch.no_grad()
    def remember(self, mean: Tensor, variance: Tensor, rows: int) -> None:
        """Move the running statistics towards those of a batch of so many rows."""
        assert self.momentum is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * rows / (rows - 1), self.momentum)


class ParallelLinear(nn.Module):
    """K linear layers in one product: (K, rows, in) -> (K, rows, out)."""

    def __init__(self, networks: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = _uniform(networks, inputs, outputs, fan_in=inputs)
        self.bias = _uniform(networks, 1, outputs, fan_in=inputs)

    def forward(self, x: Tensor, network: Tensor | None = None) -> Tensor:
        """(K, rows, out); (1, rows, out) of the one `network` (1,) if given."""
        networks, _, outputs = self.weight.shape
        if network is None and outputs == 1 < networks:
            # A batched product with one column takes three times as long.
            columns = zip(x.to(self.weight.dtype).unbind(0), self.weight.squeeze(2).unbind(0), strict=True)
            return torch.stack([torch.mv(rows, column) for rows, column in columns]).unsqueeze(2) + self.bias
        if network is None:
            return torch.baddbmm(self.bias, x, self.weight)
        return torch.baddbmm(self.bias.index_select(0, network), x, self.weight.index_select(0, network))


class ParallelMLP(nn.Module):
    """K MLPs over one common input, K a dimension of the products: (rows, in) -> (K, rows, out).

    Args:
        networks: K.
        inputs: size of the common input.
        hidden: sizes of the ReLU layers.
        outputs: size of the linear last layer.
        activations: after each hidden layer; ReLU if left out.
    """

    def __init__(
        self,
        networks: int,
        inputs: int,
        hidden: list[int],
        outputs: int = 1,
        activations: Sequence[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.networks = networks
        self.activations = nn.ModuleList(activations or [nn.ReLU() for _ in hidden])
        self.dropout = nn.Dropout(0.0)
        self.first = nn.Linear(inputs, networks * hidden[0])
        sizes = [*hidden, outputs]
        self.rest = nn.ModuleList(ParallelLinear(networks, a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor, network: Tensor | None = None) -> Tensor:
        """(K, rows, out); (1, rows, out) of the one `network` (1,) if given."""
        return self.after_first(linear_of(self.first, x, self.networks, network), network)

    def after_first(self, first: Tensor, network: Tensor | None = None) -> Tensor:
        """Go on from the first layer's sums, (rows, K·hidden[0]), or (rows, hidden[0]) of one network."""
        size = self.first.out_features // self.networks
        x = first.view(first.shape[0], self.networks if network is None else 1, size).transpose(0, 1)
        for activate, layer in zip(self.activations, self.rest, strict=True):
            x = layer(self.dropout(activate(x)), network)
        return widened(x)


def linear_of(layer: nn.Linear, x: Tensor, networks: int, network: Tensor | None) -> Tensor:
    """(rows, K·H) of K linear layers side by side; (rows, H) of the one `network` (1,) if given."""
    if network is None:
        every: Tensor = layer(x)
        return every

    bias = None if layer.bias is None else _own(layer.bias, networks, network)
    return F.linear(x, _own(layer.weight, networks, network), bias)


def _own(parameter: Tensor, networks: int, network: Tensor) -> Tensor:
    """What is the one `network`'s (1,) of a parameter of `networks` side by side."""
    return parameter.view(networks, -1, *parameter.shape[1:]).index_select(0, network).squeeze(0)


class TwoSidedLinear(nn.Module):
    """A linear layer over [request, candidate], of which the request's part is computed R times.

    W [x_request, x_candidate] + b = W_1 x_request + (W_2 x_candidate + b).

    Args:
        request: size of the request's input.
        candidate: size of the candidate's input.
        outputs: size of the output.
    """

    def __init__(self, request: int, candidate: int, outputs: int) -> None:
        super().__init__()
        self.of_request = nn.Linear(request, outputs, bias=False)
        self.of_candidate = nn.Linear(candidate, outputs)
        bound = 1 / math.sqrt(max(request + candidate, 1))
        for weight in self.parameters():
            nn.init.uniform_(weight, -bound, bound)

    def forward(self, request: Tensor, candidate: Tensor, of: Tensor) -> Tensor:
        """(N, outputs) from (R, request), (N, candidate) and the candidates' requests `of` (N,)."""
        sums: Tensor = self.of_candidate(candidate) + self.of_request(request).index_select(0, of)
        return sums


class TwoSidedMLP(nn.Module):
    """K MLPs over [request, candidate] whose first layer is split, so that the request's part is computed R times.

    W [x_request, x_candidate] = W_1 x_request + W_2 x_candidate.

    Args:
        networks: K.
        request: size of the request's input.
        candidate: size of the candidate's input.
        hidden: sizes of the ReLU layers.
        activations: after each hidden layer; ReLU if left out.
    """

    def __init__(
        self,
        networks: int,
        request: int,
        candidate: int,
        hidden: list[int],
        activations: Sequence[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.from_request = nn.Linear(request, networks * hidden[0], bias=False)
        self.mlp = ParallelMLP(networks, candidate, hidden, activations=activations)
        total = request + candidate
        for weight in (self.from_request.weight, self.mlp.first.weight, self.mlp.first.bias):
            nn.init.uniform_(weight, -1 / math.sqrt(total), 1 / math.sqrt(total))

    def request_part(self, request: Tensor, network: Tensor | None = None) -> Tensor:
        """(R, K·hidden[0]) what a request adds to the first layer; of the one `network` (1,) if given."""
        return linear_of(self.from_request, request, self.mlp.networks, network)

    def forward(self, request_part: Tensor, candidate: Tensor, of: Tensor, network: Tensor | None = None) -> Tensor:
        """(K, N) one number per network and candidate; (1, N) of the one `network` (1,) if given.

        Args:
            request_part: (R, K·hidden[0]) of `request_part`.
            candidate: (N, candidate).
            of: (N,) the candidate's request.
            network: as `request_part` was given.
        """
        # One request is added to all candidates as it is.
        part = request_part if request_part.shape[0] == 1 else request_part.index_select(0, of)
        first = linear_of(self.mlp.first, candidate, self.mlp.networks, network)
        return self.mlp.after_first(first + part, network).squeeze(2)


class CrossLayer(nn.Module):
    """x_{l+1} = x_0 ∘ (W x_l + b) + x_l, Eq 1 of DCN-V2 (Wang et al., WWW 2021); W = U V^T if of low rank, its Eq 2."""

    def __init__(self, size: int, rank: int | None) -> None:
        super().__init__()
        whole = nn.Linear(size, size)
        self.linear = whole if rank is None else nn.Sequential(nn.Linear(size, rank, bias=False), nn.Linear(rank, size))

    def forward(self, start: Tensor, x: Tensor) -> Tensor:
        """(N, size) from x_0 and x_l of that shape."""
        return torch.addcmul(x, start, self.linear(x))


class CrossLayers(nn.ModuleList):
    """x_L of L cross layers, which hold products of up to L + 1 inputs.

    Args:
        count: L.
        size: of x_0.
        rank: of each layer's matrix; full if None.
    """

    def __init__(self, count: int, size: int, rank: int | None) -> None:
        super().__init__(CrossLayer(size, rank) for _ in range(count))

    def forward(self, start: Tensor) -> Tensor:
        """(N, size) x_L from x_0."""
        crossed = start
        for layer in self:
            crossed = layer(start, crossed)
        return crossed


def weighted_cross_entropy(logit: Tensor, label: Tensor, weight: Tensor | None) -> Tensor:
    """Eq 11: L_T, mean cross-entropy over candidates, each times its weight if the log has weights."""
    total = F.binary_cross_entropy_with_logits(widened(logit), label, weight=weight, reduction="sum")
    return workers.global_quotient(total, len(label))
