"""NCF: matrix factorisation and an MLP, fused (He et al., "Neural Collaborative Filtering", WWW 2017)."""

from torch import nn

from musenet.dataset.batch import Batch, Schema
from musenet.models.baselines.crosses.options import NcfOptions
from musenet.models.embedding import EmbeddingTable
from musenet.models.interface import ClickModel, Prediction, pooling_inputs
from musenet.models.layers import TwoSidedMLP


class Ncf(ClickModel):
    """logit = h·[p ∘ q, MLP([x_u, x_i])], the paper's NeuMF.

    The paper knows ids alone. Here the user's side x_u is the whole request and the item's side x_i the whole
    candidate; p = P x_u and q = Q x_i are what its generalised matrix factorisation multiplies. Both parts read one
    embedding, as all models here do, where the paper gives each its own.
    """

    options_type = NcfOptions

    def __init__(self, options: NcfOptions, schema: Schema) -> None:
        super().__init__()
        self.table = EmbeddingTable(schema.embedding_rows, options.embedding)
        self.inputs = pooling_inputs(options, schema)
        request, candidate = self.inputs.request_size, self.inputs.candidate_size
        self.user_factors = nn.Linear(request, options.factors)
        self.item_factors = nn.Linear(candidate, options.factors)
        self.factorisation = nn.Linear(options.factors, 1, bias=False)
        self.mlp = TwoSidedMLP(1, request, candidate, options.hidden)

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch."""
        values = self.table.look_up(batch.rows)
        request, candidate = self.inputs.request(values, batch), self.inputs.candidate(values, batch)
        product = self.user_factors(request).index_select(0, batch.request) * self.item_factors(candidate)
        deep = self.mlp(self.mlp.request_part(request), candidate, batch.request)[0]
        return Prediction(logit=self.factorisation(product)[:, 0] + deep)
