"""AdaptDHM: clusters found without labels, each with weights of its own (Li et al., "AdaptDHM", 2022).

Shapes: N candidates, K clusters, E size of a candidate's and its request's inputs together.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musenet.dataset.batch import Batch, Schema
from musenet.distributed.workers import global_sum
from musenet.models.baselines.scenarios.blocks import EveryScenario, ScenarioBlocks
from musenet.models.baselines.scenarios.options import AdaptDhmOptions
from musenet.models.baselines.scenarios.star_layers import StarLinear
from musenet.models.embedding import EmbeddingTable
from musenet.models.interface import ClickModel, Prediction, pooling_inputs
from musenet.models.layers import Standardise, full_precision, widened


class Routing(nn.Module):
    """The distribution adaptation module: which cluster an impression is in.

    s_ik = <x_i, c_k>, r_ik = softmax_k s_ik; in training, so many times, c_k becomes what momentum keeps of it plus the
    mean of the x_i by their r_ik, of length one. What x is routed by is standardised first: raw embeddings have a mean
    in common, which all centres would soon lie at. No gradient passes through.
    """

    def __init__(self, size: int, options: AdaptDhmOptions) -> None:
        super().__init__()
        self.momentum, self.rounds = options.momentum, options.rounds
        self.standardise = Standardise(size)
        self.register_buffer("centres", F.normalize(torch.randn(options.clusters, size), dim=1))
        self.centres: Tensor

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(N,) the likeliest cluster of each of x (N, E)."""
        x = self.standardise(x)
        for _ in range(self.rounds if self.training else 0):
            self.move(x)
        return (x @ self.centres.T).argmax(dim=1)

    def move(self, x: Tensor) -> None:
        """One round of routing."""
        share = torch.softmax(x @ self.centres.T, dim=1)  # (N, K)
        mean = global_sum(share.T @ x) / global_sum(share.sum(0))[:, None].clamp_min(1e-12)
        self.centres.copy_(F.normalize(self.momentum * self.centres + (1 - self.momentum) * mean, dim=1))


class AdaptDhm(ClickModel):
    """logit = network of the impression's cluster, each layer with weights W_s ∘ W_k and b_s + b_k, as STAR's are.

    The paper's samples come with domains among their features; whatever a log has enters here.
    """

    options_type = AdaptDhmOptions

    def __init__(self, options: AdaptDhmOptions, schema: Schema) -> None:
        super().__init__()
        self.clusters = options.clusters
        self.table = EmbeddingTable(schema.embedding_rows, options.embedding)
        self.inputs = pooling_inputs(options, schema)
        size = self.inputs.request_size + self.inputs.candidate_size
        self.routing = Routing(size, options)
        self.dropout = nn.Dropout(0.0)
        sizes = pairwise([size, *options.hidden, 1])
        self.layers = nn.ModuleList(StarLinear(nn.Linear(a, b), options.clusters) for a, b in sizes)

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch."""
        values = self.table.look_up(batch.rows)
        request = self.inputs.request(values, batch).index_select(0, batch.request)
        x = torch.cat([request, self.inputs.candidate(values, batch)], dim=1)  # (N, E)
        with full_precision(values):
            cluster = self.routing(x)
        exported = batch.requests == 1 or batch.equally_long
        blocks = (EveryScenario if exported else ScenarioBlocks)(cluster, self.clusters)
        return Prediction(logit=blocks.collect(self.networks(blocks.spread(x), blocks.scenario)).squeeze(1))

    def networks(self, x: Tensor, cluster: Tensor) -> Tensor:
        """(blocks, rows, 1) from blocks (blocks, rows, E), each of one `cluster` (blocks,)."""
        first, *deeper = self.layers
        x = first(x, cluster)
        for layer in deeper:
            x = layer(self.dropout(torch.relu(x)), cluster)
        return widened(x)
