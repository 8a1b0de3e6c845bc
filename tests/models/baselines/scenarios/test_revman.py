"""RevMan's attention by hand and the whole model against a loop over rows and experts."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from musenet.dataset.batch import schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.models.baselines.scenarios.options import RevManOptions
from musenet.models.baselines.scenarios.revman import RevMan
from musenet.models.layers import ParallelLinear
from plain_networks import networks_of

SCENARIOS, HIDDEN = 3, [5, 4]


def revman(dataset: Dataset) -> RevMan:
    schema = replace(schema_of(dataset), predefined_scenarios=tuple(map(str, range(SCENARIOS))))
    return RevMan(RevManOptions(embedding=4, hidden=HIDDEN, tower=[6]), schema)


def test_attention_by_hand(planted_dataset: Dataset):
    model = revman(planted_dataset)
    with torch.no_grad():
        model.key.weight.copy_(torch.eye(4))
        model.queries.weight.copy_(torch.cat([torch.eye(4) * factor for factor in (0.0, 2.0, 0.0)]))
    row = torch.zeros(3, 4)
    row[0, 0], row[1, 1], row[2, 1] = 1.0, 1.0, math.log(3) + 1.0  # q_1 . e_j / 2 = 0, 1, log 3 + 1
    experts = row.expand(2, 3, 4)
    indifferent, asking = model.attend(experts, torch.tensor([0, 1]))
    torch.testing.assert_close(indifferent, row.mean(0))
    weight = torch.tensor([1.0, math.e, 3 * math.e]) / (1 + 4 * math.e)
    torch.testing.assert_close(asking, weight @ row)


def test_every_row_equals_a_loop_over_the_experts(planted_dataset: Dataset):
    model = revman(planted_dataset)
    batch = BatchBuilder(planted_dataset).build(torch.arange(6).numpy())
    scenario = [2, 0, 1, 2, 2, 0]
    batch = replace(batch, predefined_scenario=torch.tensor(scenario))
    with torch.no_grad():
        logit = model(batch).logit  # as in training, where no scenario is replaced
        values = model.table.look_up(batch.rows)
        request, candidate = model.inputs.request(values, batch), model.inputs.candidate(values, batch)
        for n, of in enumerate(batch.request.tolist()):
            expected = plain_revman(model, torch.cat([request[of], candidate[n]]), scenario[of])
            torch.testing.assert_close(logit[n], expected)


def plain_revman(model: RevMan, x: Tensor, k: int) -> Tensor:
    weight = torch.cat([model.first.of_request.weight, model.first.of_candidate.weight], dim=1)
    first = torch.relu(weight @ x + model.first.of_candidate.bias).split(HIDDEN[0])
    deeper = model.deeper[0]
    assert isinstance(deeper, ParallelLinear)
    experts = [torch.relu(first[j] @ deeper.weight[j] + deeper.bias[j, 0]) for j in range(SCENARIOS)]
    query = model.queries.weight.split(HIDDEN[1])[k] @ experts[k]
    scores = [float(torch.exp(query @ (model.key.weight @ expert) / math.sqrt(HIDDEN[1]))) for expert in experts]
    mixed = torch.zeros(HIDDEN[1])
    for score, expert in zip(scores, experts, strict=True):
        mixed += score / sum(scores) * expert
    return networks_of(model.towers)[k](mixed).squeeze()
