"""SAR-Net row by row: both attentions, the scenario's transform, its experts and its gate."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from musenet.dataset.batch import schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.models.baselines.scenarios.options import SarNetOptions
from musenet.models.baselines.scenarios.sarnet import SarNet
from plain_networks import networks_of

SCENARIOS = [2, 0, 1, 2, 2, 0, 1, 1]


def test_every_row_is_what_its_scenarios_gate_makes_of_its_experts(planted_dataset: Dataset):
    schema = replace(schema_of(planted_dataset), predefined_scenarios=("a", "b", "c"))
    options = SarNetOptions(embedding=4, hidden=[5], own_experts=2, shared_experts=3, attention_hidden=6)
    model = SarNet(options, schema)
    for parameter in [*model.scale, *model.shift]:
        parameter.data += torch.randn(parameter.shape) * 0.3
    batch = BatchBuilder(planted_dataset).build(np.arange(len(SCENARIOS)))
    batch = replace(batch, predefined_scenario=torch.tensor(SCENARIOS))
    with torch.no_grad():
        model.train()(batch)  # so that every scenario has been seen
        logit = model.eval()(batch).logit
        values = model.table.weight[batch.rows]
        request, candidate = model.inputs.request(values, batch), model.inputs.candidate(values, batch)
        for n, r in enumerate(batch.request.tolist()):
            k = SCENARIOS[r]
            events = batch.history_codes[batch.history_offset[r] : batch.history_offset[r + 1]]
            known = torch.cat([request[r], asked_by(model, k, values[events].flatten(1))])
            sides = [model.scale[at][k] * x + model.shift[at][k] for at, x in enumerate((known, candidate[n]))]
            torch.testing.assert_close(logit[n], plain(model, sides[0], sides[1], k))


def asked_by(model: SarNet, k: int, events: Tensor) -> Tensor:
    """What scenario k reads in the events (L, H·D), one by one."""
    query = model.query.weight[k]
    scores = [float(query @ (model.key.weight @ event)) / len(query) ** 0.5 for event in events]
    weights = np.exp(scores) / np.exp(scores).sum()
    read = torch.zeros(model.key.in_features)
    for weight, event in zip(weights, events, strict=True):
        read = read + float(weight) * event
    return read


def plain(model: SarNet, request: Tensor, candidate: Tensor, k: int) -> Tensor:
    x = torch.cat([request, candidate])
    experts = networks_of(model.experts)  # two of each of three scenarios, then three of all
    chosen = [experts[2 * k], experts[2 * k + 1], *experts[6:]]
    assert len(chosen) == 5
    weight = torch.cat([model.gates.of_request.weight, model.gates.of_candidate.weight], dim=1)
    gate = (weight @ x + model.gates.of_candidate.bias)[5 * k : 5 * k + 5].softmax(0)
    return sum(g * expert(x)[0] for g, expert in zip(gate, chosen, strict=True))
