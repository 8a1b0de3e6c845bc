"""Wide&Deep: a linear model beside an MLP (Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016)."""

import torch
from torch import Tensor, nn

from musenet.dataset.batch import Batch, Schema
from musenet.dataset.inputs.repeat_features import REPEAT_FEATURES
from musenet.models.baselines.crosses.options import WideDeepOptions
from musenet.models.embedding import EmbeddingTable, Inputs
from musenet.models.interface import ClickModel, Prediction, pooling_inputs
from musenet.models.layers import TwoSidedMLP


class WideDeep(ClickModel):
    """logit = wide(x) + MLP(x), trained jointly.

    The wide part has a weight for every value of every field, as the paper's linear model on one-hot inputs, and for
    every number. The paper's crossed columns are chosen by hand for its own log; none are made here, but the repeat
    indicator is one: it says that this user and this item met.
    """

    options_type = WideDeepOptions

    def __init__(self, options: WideDeepOptions, schema: Schema) -> None:
        super().__init__()
        self.size = options.embedding
        self.table = EmbeddingTable(schema.embedding_rows, options.table_columns)
        with torch.no_grad():
            self.table.weight[:, -1] = 0
        self.inputs = pooling_inputs(options, schema)
        self.mlp = TwoSidedMLP(1, self.inputs.request_size, self.inputs.candidate_size, options.hidden)
        self.wide_inputs = Inputs(schema, 1, ids=options.seen_ids, repeat_features=options.repeat_features)
        request_numbers, candidate_numbers = len(schema.request_dense), len(schema.candidate_dense)
        self.wide_request = WideSum(request_numbers)
        self.wide_candidate = WideSum(candidate_numbers + (REPEAT_FEATURES if self.wide_inputs.repeat_features else 0))

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch."""
        table = self.table.look_up(batch.rows)
        values, weights = table[:, : self.size], table[:, self.size :]
        return Prediction(logit=self.deep(values, batch) + self.wide(weights, batch))

    def deep(self, values: Tensor, batch: Batch) -> Tensor:
        """(N,) the MLP's logit from the looked-up embeddings (U, D)."""
        request_part = self.mlp.request_part(self.inputs.request(values, batch))
        logit: Tensor = self.mlp(request_part, self.inputs.candidate(values, batch), batch.request)[0]
        return logit

    def wide(self, weights: Tensor, batch: Batch) -> Tensor:
        """(N,) the sum of the looked-up wide weights (U, 1) and of the weighted numbers."""
        of_request = self.wide_request(self.wide_inputs.request(weights, batch))
        of_candidate: Tensor = self.wide_candidate(self.wide_inputs.candidate(weights, batch))
        return of_candidate.add(of_request.index_select(0, batch.request))


class WideSum(nn.Module):
    """Adds up the weights of all fields, and each number times a weight of its own, which begins at zero.

    Args:
        numbers: how many of the last columns are numbers.
    """

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(numbers))

    def forward(self, x: Tensor) -> Tensor:
        """(rows,) from (rows, fields + numbers)."""
        fields = x.shape[1] - len(self.weight)
        return x[:, :fields].sum(dim=1) + x[:, fields:] @ self.weight
