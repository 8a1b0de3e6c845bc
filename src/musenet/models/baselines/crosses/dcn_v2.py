"""DCN-V2: explicit crosses of all inputs beside or below an MLP (Wang et al., "DCN V2", WWW 2021)."""

import torch
from torch import nn

from musenet.dataset.batch import Batch, Schema
from musenet.models.baselines.crosses.options import DcnV2Options
from musenet.models.embedding import EmbeddingTable
from musenet.models.interface import ClickModel, Prediction, pooling_inputs
from musenet.models.layers import CrossLayers, ParallelMLP


class DcnV2(ClickModel):
    """stacked: logit = MLP(x_L). parallel: logit = w·x_L + MLP(x_0). x_0 holds request and candidate."""

    options_type = DcnV2Options

    def __init__(self, options: DcnV2Options, schema: Schema) -> None:
        super().__init__()
        self.table = EmbeddingTable(schema.embedding_rows, options.embedding)
        self.inputs = pooling_inputs(options, schema)
        size = self.inputs.request_size + self.inputs.candidate_size
        self.crosses = CrossLayers(options.cross_layers, size, options.low_rank)
        self.mlp = ParallelMLP(1, size, options.hidden)
        self.of_crosses = nn.Linear(size, 1, bias=False) if options.structure == "parallel" else None

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch."""
        values = self.table.look_up(batch.rows)
        request = self.inputs.request(values, batch).index_select(0, batch.request)
        start = torch.cat([request, self.inputs.candidate(values, batch)], dim=1)  # x_0
        crossed = self.crosses(start)  # x_L
        if self.of_crosses is None:
            return Prediction(logit=self.mlp(crossed)[0, :, 0])
        return Prediction(logit=self.of_crosses(crossed)[:, 0] + self.mlp(start)[0, :, 0])
