"""BaseModel: embedding and MLP over user, pooled history, item, context and candidate."""

from musenet.dataset.batch import Batch, Schema
from musenet.models.baselines.options import BaseModelOptions
from musenet.models.embedding import EmbeddingTable
from musenet.models.interface import ClickModel, Prediction, pooling_inputs
from musenet.models.layers import TwoSidedMLP


class BaseModel(ClickModel):
    """logit = MLP([p_u, mean of B_u, o_u, b_t]) (the paper's section 4.1)."""

    options_type = BaseModelOptions

    def __init__(self, options: BaseModelOptions, schema: Schema) -> None:
        super().__init__()
        self.table = EmbeddingTable(schema.embedding_rows, options.embedding)
        self.inputs = pooling_inputs(options, schema)
        self.mlp = TwoSidedMLP(1, self.inputs.request_size, self.inputs.candidate_size, options.hidden)

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch."""
        values = self.table.look_up(batch.rows)
        request_part = self.mlp.request_part(self.inputs.request(values, batch))
        return Prediction(logit=self.mlp(request_part, self.inputs.candidate(values, batch), batch.request)[0])
