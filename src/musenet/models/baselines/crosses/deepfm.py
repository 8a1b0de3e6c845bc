"""DeepFM: a factorisation machine beside an MLP, over the same embeddings (Guo et al., "DeepFM", IJCAI 2017)."""

import torch
from torch import Tensor

from musenet.dataset.batch import Batch, Schema
from musenet.models.baselines.crosses.options import DeepFmOptions
from musenet.models.baselines.crosses.wide_deep import WideDeep
from musenet.models.interface import Prediction, inputs_of

FACTOR_SCALE = 0.1
"""Of other models' initial embeddings. Hundreds of inner products of vectors of length 1 would add several logits of
noise, which a short training does not remove; factorisation machines usually start from small vectors."""


class DeepFm(WideDeep):
    """logit = sum_i w_i x_i + sum_{i<j} <v_i, v_j> x_i x_j + MLP(v), the paper's Eq 1 to 4.

    The first sum is Wide&Deep's wide part, and its w stand beside v in one table. In the second, several values of one
    field count as their mean, an event's column as its mean over the history, and every number has a vector v of its
    own. The MLP sees numbers as the options say.
    """

    options_type = DeepFmOptions

    def __init__(self, options: DeepFmOptions, schema: Schema) -> None:
        super().__init__(options, schema)
        self.factors = inputs_of(options, schema, numbers="embedded")
        with torch.no_grad():
            self.table.weight.mul_(FACTOR_SCALE)
            for numbers in self.factors.parameters():
                numbers.mul_(FACTOR_SCALE)

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch."""
        table = self.table.look_up(batch.rows)
        values, weights = table[:, : self.size], table[:, self.size :]
        logit = self.wide(weights, batch) + self.interactions(values, batch) + self.deep(values, batch)
        return Prediction(logit=logit)

    def interactions(self, values: Tensor, batch: Batch) -> Tensor:
        """(N,) sum_{i<j} <v_i, v_j> x_i x_j = (|sum_i v_i x_i|^2 - sum_i |v_i x_i|^2) / 2.

        Args:
            values: (U, D) looked-up embeddings.
            batch: of requests.
        """
        request, candidate = self.factors.request(values, batch), self.factors.candidate(values, batch)
        request, candidate = (
            side.view(side.shape[0], -1, self.size) for side in (request, candidate)
        )  # (·, fields, D)
        total = request.sum(1).index_select(0, batch.request) + candidate.sum(1)
        squares = request.square().sum((1, 2)).index_select(0, batch.request) + candidate.square().sum((1, 2))
        pairs: Tensor = (total.square().sum(1) - squares) / 2
        return pairs
