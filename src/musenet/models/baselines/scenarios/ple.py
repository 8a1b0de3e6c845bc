"""PLE: progressive layered extraction (Tang et al., RecSys 2020), its tasks being the predefined scenarios.

Shapes: R requests, N candidates, K scenarios, m experts of each scenario, s shared experts, H outputs of an expert.
"""

import torch
from torch import Tensor, nn

from musenet.dataset.batch import Batch, Schema
from musenet.models.baselines.scenarios.blocks import own
from musenet.models.baselines.scenarios.options import PleOptions
from musenet.models.embedding import EmbeddingTable
from musenet.models.interface import ClickModel, Prediction, pooling_inputs
from musenet.models.layers import ParallelMLP, TwoSidedLinear
from musenet.models.predefined import PredefinedScenario


class Ple(ClickModel):
    """Two levels of shared and own experts, mixed by gates; then each scenario's tower.

    g^k(x) = softmax(W^k x) S^k(x), S^k the outputs of scenario k's own experts and of the shared ones;
    the shared gate of level 1 mixes the experts of all scenarios. In level 2 own experts and gates read g^k of level
    1, shared experts the shared stream. y = t^k(g^k), k being the row's scenario: level 1 computes
    all experts, since the shared gate wants them; of the gates and of level 2 a row keeps its own scenario's alone.
    """

    options_type = PleOptions

    def __init__(self, options: PleOptions, schema: Schema) -> None:
        super().__init__()
        self.table = EmbeddingTable(schema.embedding_rows, options.embedding)
        self.inputs = pooling_inputs(options, schema)
        self.scenario = PredefinedScenario(schema, "ple")
        scenarios, mine, shared = self.scenario.scenarios, options.own_experts, options.shared_experts
        self.counts = (scenarios, mine, shared)
        first, second = options.hidden
        sizes = (self.inputs.request_size, self.inputs.candidate_size)
        self.experts = TwoSidedLinear(*sizes, (scenarios * mine + shared) * first)
        self.own_gates = TwoSidedLinear(*sizes, scenarios * (mine + shared))
        self.shared_gate = TwoSidedLinear(*sizes, scenarios * mine + shared)
        self.own_experts_2 = nn.Linear(first, scenarios * mine * second)
        self.shared_experts_2 = nn.Linear(first, shared * second)
        self.own_gates_2 = nn.Linear(first, scenarios * (mine + shared))
        self.dropout = nn.Dropout(0.0)
        self.towers = ParallelMLP(scenarios, second, options.tower)

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch."""
        values = self.table.look_up(batch.rows)
        codes = self.scenario(batch).index_select(0, batch.request)
        both = (self.inputs.request(values, batch), self.inputs.candidate(values, batch), batch.request)
        own_stream, shared_stream = self.level_1(both, codes)
        towers = self.towers(self.level_2(own_stream, shared_stream, codes))  # (K, N, 1)
        return Prediction(logit=own(towers.transpose(0, 1), codes).squeeze(1))

    def level_1(self, both: tuple[Tensor, Tensor, Tensor], codes: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H) the stream of each row's own scenario and (N, H) the shared one.

        Args:
            both: (R, request) and (N, candidate) inputs, and (N,) the candidates' requests.
            codes: (N,) scenario of each row.
        """
        scenarios, mine, shared = self.counts
        experts = torch.unflatten(self.dropout(torch.relu(self.experts(*both))), 1, (scenarios * mine + shared, -1))
        of_scenarios, of_all = experts[:, : scenarios * mine], experts[:, scenarios * mine :]
        of_own = own(torch.unflatten(of_scenarios, 1, (scenarios, mine)), codes)
        gate = own(torch.unflatten(self.own_gates(*both), 1, (scenarios, -1)), codes)
        return mix(gate, torch.cat([of_own, of_all], dim=1)), mix(self.shared_gate(*both), experts)

    def level_2(self, own_stream: Tensor, shared_stream: Tensor, codes: Tensor) -> Tensor:
        """(N, H) what each row's own tower reads."""
        scenarios, mine, shared = self.counts
        of_scenarios = torch.unflatten(
            self.dropout(torch.relu(self.own_experts_2(own_stream))), 1, (scenarios, mine, -1)
        )
        of_all = torch.unflatten(self.dropout(torch.relu(self.shared_experts_2(shared_stream))), 1, (shared, -1))
        gate = own(torch.unflatten(self.own_gates_2(own_stream), 1, (scenarios, -1)), codes)
        return mix(gate, torch.cat([own(of_scenarios, codes), of_all], dim=1))


def mix(gate: Tensor, experts: Tensor) -> Tensor:
    """(N, H) sum of the experts (N, E, H), weighted by the softmax of the gate (N, E)."""
    return torch.bmm(gate.softmax(dim=1).unsqueeze(1), experts).squeeze(1)
