"""STAR: star topology adaptive recommender (Sheng et al., CIKM 2021), its domains being the predefined scenarios.

Shapes: R requests, N candidates, K scenarios.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from musenet.dataset.batch import Batch, Schema
from musenet.models.baselines.scenarios.blocks import Blocks, OneScenario, ScenarioBlocks
from musenet.models.baselines.scenarios.options import StarOptions
from musenet.models.baselines.scenarios.star_layers import PartitionedNormalization, StarLinear
from musenet.models.embedding import EmbeddingTable
from musenet.models.interface import ClickModel, Prediction, pooling_inputs
from musenet.models.layers import TwoSidedLinear, TwoSidedMLP
from musenet.models.predefined import PredefinedScenario


class Star(ClickModel):
    """logit = star network(partitioned normalisation(x)) + auxiliary network([x, scenario embedding]).

    The request's side is normalised over requests, the candidate's over candidates.
    """

    options_type = StarOptions

    def __init__(self, options: StarOptions, schema: Schema) -> None:
        super().__init__()
        self.table = EmbeddingTable(schema.embedding_rows, options.embedding)
        self.inputs = pooling_inputs(options, schema)
        self.scenario = PredefinedScenario(schema, "star")
        scenarios = self.scenario.scenarios
        request, candidate = self.inputs.request_size, self.inputs.candidate_size
        self.normalise_request = PartitionedNormalization(scenarios, request)
        self.normalise_candidate = PartitionedNormalization(scenarios, candidate)
        first = TwoSidedLinear(request, candidate, options.hidden[0])
        self.of_request = StarLinear(first.of_request, scenarios, biased=False)
        self.of_candidate = StarLinear(first.of_candidate, scenarios)
        sizes = pairwise([*options.hidden, 1])
        self.deeper = nn.ModuleList(StarLinear(nn.Linear(a, b), scenarios) for a, b in sizes)
        self.dropout = nn.Dropout(0.0)
        self.scenario_embedding = nn.Embedding(scenarios, options.embedding)
        self.auxiliary = TwoSidedMLP(1, request + options.embedding, candidate, options.auxiliary)

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch."""
        values = self.table.look_up(batch.rows)
        request, candidate = self.inputs.request(values, batch), self.inputs.candidate(values, batch)
        codes = self.scenario(batch)
        known = self.auxiliary.request_part(torch.cat([request, self.scenario_embedding(codes)], dim=1))
        auxiliary = self.auxiliary(known, candidate, batch.request)[0]
        return Prediction(logit=self.star(request, candidate, codes, batch.request) + auxiliary)

    def star(self, request: Tensor, candidate: Tensor, codes: Tensor, of: Tensor) -> Tensor:
        """(N,) logit of the star network.

        Args:
            request: (R, request) inputs.
            candidate: (N, candidate) inputs.
            codes: (R,) the requests' scenarios.
            of: (N,) the candidates' requests.
        """
        codes_of = codes.index_select(0, of)
        requests, rows = self.blocks(codes, codes_of)
        part = self.of_request(requests.spread(self.normalise_request(request, codes)), requests.scenario)
        x = self.of_candidate(rows.spread(self.normalise_candidate(candidate, codes_of)), rows.scenario)
        x = x + rows.spread(requests.collect(part).index_select(0, of))
        for layer in self.deeper:
            x = layer(self.dropout(torch.relu(x)), rows.scenario)
        return rows.collect(x).squeeze(1)

    def blocks(self, codes: Tensor, codes_of: Tensor) -> tuple[Blocks, Blocks]:
        """How requests and candidates of these scenarios, (R,) and (N,), meet the weights of their own."""
        if codes.shape[0] == 1:
            one = OneScenario(codes)
            return one, one
        return ScenarioBlocks(codes, self.scenario.scenarios), ScenarioBlocks(codes_of, self.scenario.scenarios)
