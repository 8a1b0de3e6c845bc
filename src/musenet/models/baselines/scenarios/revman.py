"""RevMan (Li et al., AAAI 2021): an expert per predefined scenario, shared by adaptive attention.

Written after the paper's abstract and what the MUSENET paper says of it (its section 5): sales are split into
partitions with an expert network each, and an adaptive attention mechanism shares features among products and sales
scenarios. The paper's equations were not at hand, so that the attention's form is our choice: a row's own expert asks,
all experts answer (scaled dot product), and each scenario has a tower.
Left out is the paper's second half, ranking by expected revenue: a click log has no revenue.

Shapes: R requests, N candidates, K scenarios, H outputs of an expert.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from musenet.dataset.batch import Batch, Schema
from musenet.models.baselines.scenarios.blocks import own
from musenet.models.baselines.scenarios.options import RevManOptions
from musenet.models.embedding import EmbeddingTable
from musenet.models.interface import ClickModel, Prediction, pooling_inputs
from musenet.models.layers import ParallelLinear, ParallelMLP, TwoSidedLinear
from musenet.models.predefined import PredefinedScenario


class RevMan(ClickModel):
    """logit = tower_k(sum_j a_kj e_j), a_k = softmax_j(q_k . W e_j / sqrt(H)), q_k = Q_k e_k, k the row's scenario.

    e_j = expert_j([p_u, B_u, o_u, b_t]). The attention is adaptive: each row decides from which other scenarios'
    experts it borrows, through its own scenario's matrix Q_k.
    """

    options_type = RevManOptions

    def __init__(self, options: RevManOptions, schema: Schema) -> None:
        super().__init__()
        self.table = EmbeddingTable(schema.embedding_rows, options.embedding)
        self.inputs = pooling_inputs(options, schema)
        self.scenario = PredefinedScenario(schema, "revman")
        scenarios, size = self.scenario.scenarios, options.hidden[-1]
        self.first = TwoSidedLinear(self.inputs.request_size, self.inputs.candidate_size, scenarios * options.hidden[0])
        self.deeper = nn.ModuleList(ParallelLinear(scenarios, a, b) for a, b in pairwise(options.hidden))
        self.dropout = nn.Dropout(0.0)
        self.queries = nn.Linear(size, scenarios * size, bias=False)
        self.key = nn.Linear(size, size, bias=False)
        self.towers = ParallelMLP(scenarios, size, options.tower)

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch."""
        values = self.table.look_up(batch.rows)
        codes = self.scenario(batch).index_select(0, batch.request)
        experts = self.experts(self.inputs.request(values, batch), self.inputs.candidate(values, batch), batch.request)
        towers = self.towers(self.attend(experts, codes))  # (K, N, 1)
        return Prediction(logit=own(towers.transpose(0, 1), codes).squeeze(1))

    def experts(self, request: Tensor, candidate: Tensor, of: Tensor) -> Tensor:
        """(N, K, H) what the experts of all scenarios make of each row."""
        x = self.first(request, candidate, of)
        x = x.view(x.shape[0], self.scenario.scenarios, x.shape[1] // self.scenario.scenarios).transpose(0, 1)
        for layer in self.deeper:
            x = layer(self.dropout(torch.relu(x)))
        answers: Tensor = self.dropout(torch.relu(x))
        return answers.transpose(0, 1)

    def attend(self, experts: Tensor, codes: Tensor) -> Tensor:
        """(N, H) the experts (N, K, H), mixed as each row's own expert asks."""
        queries = self.queries(own(experts, codes)).view(experts.shape)  # (N, K, H)
        query = own(queries, codes) / experts.shape[2] ** 0.5
        attention = torch.bmm(self.key(experts), query.unsqueeze(2)).softmax(dim=1)  # (N, K, 1)
        return (attention * experts).sum(dim=1)
