"""The scenario learning module (the paper's 3.1.1 and 3.2.1): which scenario is a request in?

Shapes: R requests (or candidates, where the metric space sees them), M metric space, K scenarios.
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musenet.dataset.batch import Batch, Schema
from musenet.distributed.workers import all_rows, global_mean, global_sum, own_rows
from musenet.models.embedding import FieldEmbeddings, HistoryMeans
from musenet.models.layers import Standardise
from musenet.options import Options


class MetricSpaceOptions(Options):
    """f_omega: what it sees and how large it is."""

    inputs: list[Literal["profile", "context", "history"]] = ["profile", "context", "history"]
    hidden: list[int] = [64, 32]
    dimension: int = 16


class MetricSpace(nn.Module):
    """f_omega of the request: standardised inputs, MLP, then BatchNorm without scale and shift (docs/model.md).

    Sees profile, context and the history's mean attributes, numeric values standardised rather than bucketed; no user
    or item ids and no candidate, so that a scenario is a property of the request.
    """

    def __init__(self, options: MetricSpaceOptions, schema: Schema, size: int) -> None:
        super().__init__()
        sides = {"user": "profile" in options.inputs, "context": "context" in options.inputs}
        chosen = [f for f in schema.request_fields if sides[f.side] and not f.is_id and not f.is_bucketed]
        self.fields = FieldEmbeddings(schema.request_fields, chosen, size)
        self.dense = [place for place, field in enumerate(schema.request_dense) if sides[field.side]]
        self.history = [
            place
            for place, field in enumerate(schema.history_fields)
            if not field.is_id and "history" in options.inputs
        ]
        inputs = self.fields.out + len(self.dense) + len(self.history) * size
        sizes = [inputs, *options.hidden]
        # Embeddings start small and learn slowly: without a common scale, rules that join two of them stay unseen.
        layers: list[nn.Module] = [Standardise(inputs)]
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(sizes[-1], options.dimension))
        self.norm = Standardise(options.dimension)

    def forward(self, values: Tensor, batch: Batch, history: HistoryMeans) -> Tensor:
        """(R, M); `history` holds at least the columns that are seen."""
        seen = history.of(self.history)
        inputs = [self.fields(values, batch.request_codes), batch.request_dense[:, self.dense], seen]
        position: Tensor = self.norm(self.mlp(torch.cat(inputs, dim=1)))
        return position


class Prototypes(nn.Module):
    """The prototypes c_k and the distances to them.

    Args:
        scenarios: K.
        dimension: M.
        scale: s, by which squared distances are multiplied before the softmax of Eq 3.
        spread: standard deviation of the first coordinates.
        learned: whether back-propagation moves the prototypes, instead of Eq 14.
    """

    def __init__(
        self, scenarios: int, dimension: int, scale: float, *, spread: float = 1.0, learned: bool = False
    ) -> None:
        super().__init__()
        self.centres = nn.Parameter(spread * torch.randn(scenarios, dimension), requires_grad=learned)
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.scale: Tensor

    def distances(self, position: Tensor) -> Tensor:
        """(R, K) s·d(f_omega(x), c_k), d the squared Euclidean distance, as the linear model of Eq 15 and 16."""
        own = position.square().sum(1, keepdim=True)
        crossed = torch.addmm(self.centres.square().sum(1), position, self.centres.T, alpha=-2)
        return self.scale * (own + crossed)

    def forward(self, position: Tensor) -> Tensor:
        """(R, K) log Q_s(c|x) of Eq 3: log softmax of the negative distances."""
        return F.log_softmax(-self.distances(position), dim=1)

    @torch.no_grad()
    def move(self, position: Tensor, weight: Tensor, rate: float) -> None:
        """Eq 14: c_k <- (1 - alpha) c_k + alpha (sum_i w_ki f(x_i)) / (sum_i w_ki).

        The paper writes x_i; prototypes live in the metric space, so it is f_omega(x_i) that is averaged. Where no
        sample has any weight, the mean is undefined and the prototype stays.

        Args:
            position: (R, M) f_omega(x_i).
            weight: (R, K) the assignment, or the posterior given the labels.
            rate: alpha.
        """
        total = global_sum(weight.sum(0))[:, None]  # (K, 1)
        mean = global_sum(weight.T @ position) / total.clamp_min(1e-12)  # (K, M)
        self.centres.lerp_(torch.where(total > 1e-12, mean, self.centres), rate)

    @torch.no_grad()
    def fit_scale(self, position: Tensor, expansion: float = 1.5) -> None:
        """Set s so that 2·s·lambda_max(Cov f) = `expansion`: above 1, Eq 14 does not contract (docs/model.md)."""
        self.scale.fill_(expansion / (2 * largest_eigenvalue(position)))


class Gate(nn.Module):
    """A plain softmax gate on the metric space: the control that has no prototypes."""

    def __init__(self, scenarios: int, dimension: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dimension, scenarios)

    def forward(self, position: Tensor) -> Tensor:
        """(R, K) log-probabilities."""
        return F.log_softmax(self.linear(position), dim=1)


def largest_eigenvalue(position: Tensor) -> float:
    """lambda_max of the covariance of f_omega(x) over a batch, at least a small positive number."""
    position = torch.cat(all_rows(position))
    if position.shape[0] < 2:
        return 1.0
    return max(float(torch.linalg.eigvalsh(torch.cov(position.double().T).reshape(position.shape[1], -1))[-1]), 1e-6)


def clustering_loss(assignment: Tensor, distance: Tensor) -> Tensor:
    """Eq 8: L_C, mean over requests of sum_k a_k d(f_omega(x), c_k). Eq 14 is a step towards its minimum."""
    return global_mean((assignment * distance).sum(1))


def harden(log_assignment: Tensor) -> Tensor:
    """Eq 4: log of the one-hot assignment to the nearest prototype, (R, K) of 0 and -inf."""
    nearest = log_assignment.argmax(dim=1, keepdim=True)
    return torch.full_like(log_assignment, -torch.inf).scatter_(1, nearest, 0.0)


def gumbel_softmax(log_assignment: Tensor, temperature: float, noise: Tensor | None = None) -> Tensor:
    """Eq 7: log of a relaxed sample, log softmax((log pi + g) / tau) with g ~ Gumbel(0, 1).

    Args:
        log_assignment: (R, K) log pi.
        temperature: tau.
        noise: (R, K) g; drawn if left out.
    """
    if noise is None:
        noise = -own_rows(
            lambda rows: log_assignment.new_empty(rows, *log_assignment.shape[1:]).exponential_(), len(log_assignment)
        ).log()
    return F.log_softmax((log_assignment + noise) / temperature, dim=1)


def one_hot_log(codes: Tensor, scenarios: int) -> Tensor:
    """(R, K) log of given scenarios; an unknown one (-1) is shared evenly."""
    uniform = -torch.log(torch.tensor(float(scenarios)))
    known = torch.where(F.one_hot(codes.clamp_min(0), scenarios).bool(), 0.0, -torch.inf)
    return torch.where((codes < 0)[:, None], uniform, known)
