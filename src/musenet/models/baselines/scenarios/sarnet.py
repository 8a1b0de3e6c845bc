"""SAR-Net: a scenario-aware ranking network (Shen et al., CIKM 2021), its scenarios being the predefined ones.

Taken from the paper are its three parts: two attentions over the user's behaviours, one asked by the scenario, one by
the item; the scenario-specific linear transform; experts of the scenario and experts of all, whose answers a gate of
the scenario adds up. Adapted: our events do not tell the scenario they happened in, so the scenario's embedding asks
for each event's columns, and both readings of the history stand side by side instead of being multiplied. Left out is
the fairness coefficient, which corrects for items that were pushed by hand; a log's `weight` does that in the loss.

Shapes: R requests, N candidates, L events of the longest history, K scenarios, m experts of each, s shared ones.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musenet.dataset.batch import Batch, Schema
from musenet.models.attention import dot_attention, padded_history
from musenet.models.baselines.scenarios.blocks import own
from musenet.models.baselines.scenarios.options import SarNetOptions
from musenet.models.embedding import EmbeddingTable
from musenet.models.interface import ClickModel, Prediction, inputs_of
from musenet.models.layers import TwoSidedLinear, TwoSidedMLP
from musenet.models.predefined import PredefinedScenario


class SarNet(ClickModel):
    """logit = sum_e g_e(x') E_e(x'), x' = beta_k x + gamma_k, g = softmax(W_k x'), k the row's scenario.

    x = [p_u, o_u, B_u as the scenario asks, b_t, B_u as the item asks]; e goes over the m experts of scenario k and the
    s shared ones, beta_k and gamma_k begin at 1 and 0.
    """

    options_type = SarNetOptions

    def __init__(self, options: SarNetOptions, schema: Schema) -> None:
        super().__init__()
        size, units = options.embedding, options.attention_hidden
        self.table = EmbeddingTable(schema.embedding_rows, size)
        self.inputs = inputs_of(
            options, schema, history="attention", request_sees_history=False, attention=(units, "prelu")
        )
        self.scenario = PredefinedScenario(schema, "sarnet")
        self.counts = (self.scenario.scenarios, options.own_experts, options.shared_experts)
        scenarios, mine, shared = self.counts
        self.columns = self.inputs.history_columns
        width = len(self.columns) * size
        self.query = nn.Embedding(scenarios, units)
        self.key = nn.Linear(width, units, bias=False) if width else None
        sizes = (self.inputs.request_size + width, self.inputs.candidate_size)
        self.scale, self.shift = (
            nn.ParameterList(nn.Parameter(torch.full((scenarios, side), begin)) for side in sizes)
            for begin in (1.0, 0.0)
        )
        self.experts = TwoSidedMLP(scenarios * mine + shared, *sizes, options.hidden)
        self.gates = TwoSidedLinear(*sizes, scenarios * (mine + shared))

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch."""
        values = self.table.look_up(batch.rows)
        of_request = self.scenario(batch)
        of_row = of_request.index_select(0, batch.request)
        history = self.as_the_scenario_asks(values, batch, of_request)
        request = torch.cat([self.inputs.request(values, batch), history], dim=1)
        request = self.transform(0, request, of_request)
        candidate = self.transform(1, self.inputs.candidate(values, batch), of_row)
        answers = self.experts(self.experts.request_part(request), candidate, batch.request).T  # (N, K·m + s)
        scenarios, mine, _ = self.counts
        of_own = own(torch.unflatten(answers[:, : scenarios * mine], 1, (scenarios, mine)), of_row)
        gates = torch.unflatten(self.gates(request, candidate, batch.request), 1, (scenarios, -1))
        gate = own(gates, of_row).softmax(dim=1)  # (N, m + s)
        return Prediction(logit=(gate * torch.cat([of_own, answers[:, scenarios * mine :]], dim=1)).sum(1))

    def as_the_scenario_asks(self, values: Tensor, batch: Batch, codes: Tensor) -> Tensor:
        """(R, H·D) the history, each event by the weight that the request's scenario gives it."""
        if self.key is None:
            return values.new_zeros(batch.requests, 0)
        events, exists = padded_history(batch, self.columns)
        embedded = F.embedding(events, values).flatten(2)  # (R, L, H·D)
        return dot_attention(self.query(codes)[:, None], self.key(embedded), embedded, exists[:, None])[:, 0]

    def transform(self, side: int, x: Tensor, codes: Tensor) -> Tensor:
        """(rows, size) x' of one side's x (rows, size), by the rows' scenarios (rows,)."""
        scale, shift = (every[side].index_select(0, codes) for every in (self.scale, self.shift))
        return torch.addcmul(shift, x, scale)
