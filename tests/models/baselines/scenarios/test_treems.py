"""TreeMS: the tree by hand, messages from the root on, the gate row by row, and the load over experts."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from musenet.dataset.batch import schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.models.baselines.scenarios.options import TreeMsOptions
from musenet.models.baselines.scenarios.treems import TreeMs, paths, unevenness
from plain_networks import networks_of

NAMES = ("day=work, city=own", "day=work, city=missing", "day=rest, city=own, in town", "alone")
SCENARIOS = [2, 0, 1, 3, 2, 0, 1, 3]


def test_the_tree_is_that_of_the_columns_in_their_order():
    assert paths(NAMES) == [[0, 1, 2], [0, 1, 3], [0, 4, 5], [0, 6]]


def test_uneven_use_by_hand():
    even, all_on_one = torch.full((6, 4), 0.25), torch.eye(4)[[1] * 6]
    assert unevenness(even) == 0
    torch.testing.assert_close(unevenness(all_on_one), torch.tensor(3.0))  # var(6, 0, 0, 0) / 1.5²


def test_every_row_is_gated_by_the_message_of_its_leaf(planted_dataset: Dataset):
    schema = replace(schema_of(planted_dataset), predefined_scenarios=NAMES)
    model = TreeMs(TreeMsOptions(embedding=4, hidden=[6, 5], tower=[3], experts=3, balance=0.5), schema)
    batch = BatchBuilder(planted_dataset).build(np.arange(len(SCENARIOS)))
    batch = replace(batch, predefined_scenario=torch.tensor(SCENARIOS))
    with torch.no_grad():
        prediction = model.train()(batch)
        values = model.table.weight[batch.rows]
        request, candidate = model.inputs.request(values, batch), model.inputs.candidate(values, batch)
        gates = []
        for n, r in enumerate(batch.request.tolist()):
            gate, logit = plain(model, request[r], candidate[n], SCENARIOS[r])
            gates.append(gate)
            torch.testing.assert_close(prediction.logit[n], logit)
        used = np.stack([gate.numpy() for gate in gates]).sum(0)
        terms = model.losses(prediction, batch, 1.0)
        assert terms["balance"].weight == 0.5
        np.testing.assert_allclose(terms["balance"].value, used.var() / used.mean() ** 2, rtol=1e-4)


def plain(model: TreeMs, request: Tensor, candidate: Tensor, k: int) -> tuple[Tensor, Tensor]:
    nodes = paths(NAMES)[k]
    message = torch.tanh(model.nodes.weight[nodes[0]])
    for node in nodes[1:]:
        message = torch.tanh(model.down(torch.cat([message, model.nodes.weight[node]])))
    gate = linear(model.gate, torch.cat([request, message]), candidate).softmax(0)
    experts = linear(model.first, request, candidate).view(3, 6)
    mixed = torch.zeros(5)
    (layer,) = model.deeper
    for e, x in enumerate(experts):
        deeper = torch.relu(x) @ layer.weight[e] + layer.bias[e, 0]  # type: ignore[index]
        mixed = mixed + gate[e] * torch.relu(deeper)
    return gate, networks_of(model.tower)[0](mixed)[0]


def linear(layer: nn.Module, request: Tensor, candidate: Tensor) -> Tensor:
    return layer.of_request.weight @ request + layer.of_candidate(candidate)  # type: ignore[operator, union-attr]
