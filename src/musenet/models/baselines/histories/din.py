"""DIN: the history is pooled anew for every candidate (Zhou et al., "Deep Interest Network", KDD 2018)."""

from musenet.dataset.batch import Batch, Schema
from musenet.models.attention import activation
from musenet.models.baselines.histories.options import DinOptions
from musenet.models.embedding import EmbeddingTable
from musenet.models.interface import ClickModel, Prediction, inputs_of
from musenet.models.layers import TwoSidedMLP


class Din(ClickModel):
    """logit = MLP([p_u, o_u, sum_e w(b_t, e) e over the events e of B_u, b_t]); see `HistoryAttention` for w."""

    options_type = DinOptions

    def __init__(self, options: DinOptions, schema: Schema) -> None:
        super().__init__()
        self.table = EmbeddingTable(schema.embedding_rows, options.embedding)
        self.inputs = inputs_of(
            options,
            schema,
            history="attention",
            request_sees_history=False,
            attention=(options.attention_hidden, options.activation),
        )
        sizes = (self.inputs.request_size, self.inputs.candidate_size)
        activations = [activation(options.activation, size) for size in options.hidden]
        self.mlp = TwoSidedMLP(1, *sizes, options.hidden, activations)

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch."""
        values = self.table.look_up(batch.rows)
        request_part = self.mlp.request_part(self.inputs.request(values, batch))
        return Prediction(logit=self.mlp(request_part, self.inputs.candidate(values, batch), batch.request)[0])
