"""TreeMS: experts that a tree over the scenarios chooses among (Niu et al., WSDM 2021, "Tree-Guided Expert Networks").

Taken from the paper are the experts that all scenarios share, the gate that reads the whole path from the root of the
scenario tree to the request's leaf, so that rare scenarios borrow from their kin, and the auxiliary loss that spreads
the load over experts. Written after its abstract and public summaries: how the path becomes one message is our choice.
The tree is that of the columns of `predefined_scenario` in their order: the root, a node for each value of the first
column, below it one for each combination with the second, and so on. Left out is the paper's other half, a graph of
users, since no log here says who shares with whom.

Shapes: R requests, N candidates, K scenarios, V nodes of the tree, P nodes on the longest path, E experts.
"""

import re
from itertools import pairwise

import torch
from torch import Tensor, nn

from musenet.dataset.batch import Batch, Schema
from musenet.distributed.workers import global_sum
from musenet.models.baselines.scenarios.options import TreeMsOptions
from musenet.models.embedding import EmbeddingTable
from musenet.models.interface import ClickModel, Prediction, Term, pooling_inputs
from musenet.models.layers import ParallelLinear, ParallelMLP, TwoSidedLinear, widened
from musenet.models.predefined import PredefinedScenario


def paths(scenarios: tuple[str, ...]) -> list[list[int]]:
    """The nodes from the root, 0, to every scenario's leaf, by what scenarios are called.

    >>> paths(("same_day=0, same_city=0", "same_day=0, same_city=1", "same_day=1, same_city=0"))
    [[0, 1, 2], [0, 1, 3], [0, 4, 5]]
    """
    nodes: dict[tuple[str, ...], int] = {(): 0}
    found = []
    for scenario in scenarios:
        steps = tuple(re.split(r", (?=[^,=]+=)", scenario))
        path = [steps[:depth] for depth in range(len(steps) + 1)]
        found.append([nodes.setdefault(node, len(nodes)) for node in path])
    return found


class TreeMs(ClickModel):
    """logit = tower(sum_e g_e f_e(x)), g = softmax(W [x, h_leaf]), h_v = tanh(U [h_parent, n_v]) from the root on.

    x = [p_u, mean of B_u, o_u, b_t], f_e the experts, n_v the embedding of node v; all scenarios share all weights.
    """

    options_type = TreeMsOptions

    def __init__(self, options: TreeMsOptions, schema: Schema) -> None:
        super().__init__()
        self.balance, size = options.balance, options.embedding
        self.table = EmbeddingTable(schema.embedding_rows, size)
        self.inputs = pooling_inputs(options, schema)
        self.scenario = PredefinedScenario(schema, "treems")
        assert schema.predefined_scenarios is not None
        of_scenarios = paths(schema.predefined_scenarios)
        self.nodes = nn.Embedding(1 + max(node for path in of_scenarios for node in path), size)
        longest = max(map(len, of_scenarios))
        padded = [path + [-1] * (longest - len(path)) for path in of_scenarios]
        self.register_buffer("path", torch.tensor(padded), persistent=False)  # (K, P), -1 below the leaf
        self.path: Tensor
        self.down = nn.Linear(2 * size, size)
        sizes = (self.inputs.request_size, self.inputs.candidate_size)
        self.first = TwoSidedLinear(*sizes, options.experts * options.hidden[0])
        self.deeper = nn.ModuleList(ParallelLinear(options.experts, a, b) for a, b in pairwise(options.hidden))
        self.dropout = nn.Dropout(0.0)
        self.gate = TwoSidedLinear(sizes[0] + size, sizes[1], options.experts)
        self.tower = ParallelMLP(1, options.hidden[-1], options.tower)

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch."""
        values = self.table.look_up(batch.rows)
        request, candidate = self.inputs.request(values, batch), self.inputs.candidate(values, batch)
        known = torch.cat([request, self.messages().index_select(0, self.scenario(batch))], dim=1)
        gate = widened(self.gate(known, candidate, batch.request)).softmax(dim=1)  # (N, E)
        mixed = (gate.unsqueeze(2) * self.experts(request, candidate, batch.request)).sum(dim=1)
        return Prediction(logit=self.tower(mixed)[0, :, 0], extra={"gate": gate})

    def losses(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Term]:
        """Cross-entropy, and how unevenly the experts are used."""
        balance = Term(unevenness(prediction.extra["gate"]), self.balance)
        return super().losses(prediction, batch, progress) | {"balance": balance}

    def messages(self) -> Tensor:
        """(K, D) h of every scenario's leaf."""
        root, *below = self.path.T
        message = torch.tanh(self.nodes(root))
        for node in below:  # a path that has ended keeps its message
            there = torch.tanh(self.down(torch.cat([message, self.nodes(node.clamp_min(0))], dim=1)))
            message = torch.where((node < 0)[:, None], message, there)
        return message

    def experts(self, request: Tensor, candidate: Tensor, of: Tensor) -> Tensor:
        """(N, E, H) what every expert makes of each row."""
        x = self.first(request, candidate, of)
        x = torch.unflatten(x, 1, (self.gate.of_candidate.out_features, -1)).transpose(0, 1)
        for layer in self.deeper:
            x = layer(self.dropout(torch.relu(x)))
        answers: Tensor = self.dropout(torch.relu(x))
        return answers.transpose(0, 1)


def unevenness(gate: Tensor) -> Tensor:
    """The squared coefficient of variation of how much the experts are used, from the gates (N, E) of a batch."""
    used = global_sum(gate.sum(0))
    return used.var(correction=0) / used.mean().square().clamp_min(1e-12)
