"""f_omega: where a sample lies in the metric space (the paper's 3.1.1 and 3.2.1).

Shapes: R requests, N candidates, M metric space, U distinct rows of the embedding table.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musenet.dataset.batch import Batch, Schema
from musenet.errors import ConfigError
from musenet.models.embedding import FieldEmbeddings, HistoryMeans, Inputs
from musenet.models.layers import Standardise
from musenet.models.musenet.options import MetricSpaceOptions, MusenetOptions


@dataclass(frozen=True)
class Embedded:
    """x: a batch as the embeddings of [p_u, B_u, b_t, o_u]."""

    batch: Batch
    values: Tensor
    """(U, D) the embeddings of its distinct rows."""
    history: HistoryMeans
    request: Tensor
    """(R, ·) [p_u, B_u, o_u]."""
    candidate: Tensor
    """(N, ·) b_t."""


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
        if not inputs:
            raise ConfigError(
                "model: scenarios are learned from profile, context and history columns other than ids, and of "
                f"{', '.join(options.inputs) or 'nothing'} this log has none: name columns in features.user, "
                "features.context or history.columns, or take a model without scenarios"
            )
        sizes = [inputs, *options.hidden]
        # Embeddings start small and learn slowly: without a common scale, rules that join two of them stay unseen.
        layers: list[nn.Module] = [Standardise(inputs)]
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(sizes[-1], options.dimension))
        self.norm = Standardise(options.dimension)

    def forward(self, x: Embedded) -> Tensor:
        """(R, M)."""
        seen = x.history.of(self.history)
        inputs = [self.fields(x.values, x.batch.request_codes), x.batch.request_dense[:, self.dense], seen]
        point: Tensor = self.norm(self.mlp(torch.cat(inputs, dim=1)))
        return point


class LinearMetricSpace(nn.Module):
    """f_omega as the paper has it: the transformation matrix omega of everything, the candidate included."""

    history: list[int] = []

    def __init__(self, inputs: int, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Linear(inputs, dimension, bias=False).weight

    def forward(self, x: Embedded) -> Tensor:
        """(N, M)."""
        whole = torch.cat([x.request.index_select(0, x.batch.request), x.candidate], dim=1)
        return F.linear(whole, self.weight)


class NoMetricSpace(nn.Module):
    """Where no scenario is learned, nothing lies anywhere."""

    history: list[int] = []

    def forward(self, x: Embedded) -> None:
        """No point."""


AnyMetricSpace = MetricSpace | LinearMetricSpace | NoMetricSpace


def metric_space_of(options: MusenetOptions, schema: Schema, inputs: Inputs) -> AnyMetricSpace:
    """The metric space that the options ask for; `history` are the columns of the history that it sees."""
    if not options.learns_scenarios:
        return NoMetricSpace()
    if options.objective == "paper":
        return LinearMetricSpace(inputs.request_size + inputs.candidate_size, options.metric_space.dimension)
    return MetricSpace(options.metric_space, schema, options.embedding)
