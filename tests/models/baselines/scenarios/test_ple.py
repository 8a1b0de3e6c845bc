"""PLE against a loop over rows and experts that follows the paper's equations."""

from dataclasses import replace

import torch
from torch import Tensor

from musenet.dataset.batch import schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.models.baselines.scenarios.options import PleOptions
from musenet.models.baselines.scenarios.ple import Ple, mix
from musenet.models.layers import TwoSidedLinear
from plain_networks import networks_of

SCENARIOS, OWN, SHARED, FIRST, SECOND = 3, 2, 2, 5, 4


def test_mix_weighs_experts_by_the_softmax_of_the_gate():
    experts = torch.tensor([[[1.0, 0.0], [0.0, 4.0]]])
    gate = torch.tensor([[0.0, torch.log(torch.tensor(3.0))]])  # weights 1/4 and 3/4
    torch.testing.assert_close(mix(gate, experts), torch.tensor([[0.25, 3.0]]))


def test_every_row_is_scored_as_in_the_paper_by_its_own_scenario(planted_dataset: Dataset):
    schema = replace(schema_of(planted_dataset), predefined_scenarios=tuple(map(str, range(SCENARIOS))))
    options = PleOptions(embedding=4, hidden=[FIRST, SECOND], tower=[6], own_experts=OWN, shared_experts=SHARED)
    model = Ple(options, schema)
    batch = BatchBuilder(planted_dataset).build(torch.arange(6).numpy())
    scenario = [2, 0, 1, 2, 2, 0]
    batch = replace(batch, predefined_scenario=torch.tensor(scenario))
    with torch.no_grad():
        logit = model(batch).logit  # as in training, where no scenario is replaced
        values = model.table.look_up(batch.rows)
        request, candidate = model.inputs.request(values, batch), model.inputs.candidate(values, batch)
        for n, of in enumerate(batch.request.tolist()):
            expected = plain_ple(model, torch.cat([request[of], candidate[n]]), scenario[of])
            torch.testing.assert_close(logit[n], expected)


def plain_ple(model: Ple, x: Tensor, k: int) -> Tensor:
    """Eq of one row x of scenario k."""
    all_experts = torch.relu(linear(model.experts, x)).split(FIRST)
    specific, shared = all_experts[: SCENARIOS * OWN], all_experts[SCENARIOS * OWN :]
    gate = linear(model.own_gates, x).split(OWN + SHARED)[k]
    own_stream = weighted_sum(gate, [*specific[k * OWN : (k + 1) * OWN], *shared])
    shared_stream = weighted_sum(linear(model.shared_gate, x), list(all_experts))
    own_2 = torch.relu(model.own_experts_2(own_stream)).split(SECOND)[k * OWN : (k + 1) * OWN]
    shared_2 = torch.relu(model.shared_experts_2(shared_stream)).split(SECOND)
    gate_2 = model.own_gates_2(own_stream).split(OWN + SHARED)[k]
    return networks_of(model.towers)[k](weighted_sum(gate_2, [*own_2, *shared_2])).squeeze()


def linear(layer: TwoSidedLinear, x: Tensor) -> Tensor:
    weight = torch.cat([layer.of_request.weight, layer.of_candidate.weight], dim=1)
    return weight @ x + layer.of_candidate.bias


def weighted_sum(gate: Tensor, experts: list[Tensor]) -> Tensor:
    weights = gate.exp() / gate.exp().sum()
    total = torch.zeros_like(experts[0])
    for weight, expert in zip(weights, experts, strict=True):
        total += weight * expert
    return total
