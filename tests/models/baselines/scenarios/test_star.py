"""STAR: the product of shared and own weights, partitioned normalisation, and the whole model row by row."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from musenet.dataset.batch import schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.models.baselines.scenarios.options import StarOptions
from musenet.models.baselines.scenarios.star import Star
from musenet.models.baselines.scenarios.star_layers import FEW_ROWS, MOMENTUM, PartitionedNormalization, StarLinear
from plain_networks import networks_of

SCENARIOS = 3


def test_star_linear_by_hand():
    layer = StarLinear(nn.Linear(2, 1), 2)
    assert layer.own_bias is not None
    with torch.no_grad():
        layer.shared.weight.copy_(torch.tensor([[1.0, 2.0]]))
        layer.shared.bias.fill_(1.0)
        layer.own_weight[1] = torch.tensor([[3.0, 0.5]])
        layer.own_bias[1] = 0.5
    x = torch.tensor([[[10.0, 4.0]], [[10.0, 4.0]]])
    answer = layer(x, torch.tensor([0, 1])).flatten().tolist()
    assert answer == [19.0, 35.5], "10 + 8 + 1 with what is shared; 10·3 + 8·0.5 + 1 + 0.5 with its own"


def test_partitioned_normalisation_by_hand():
    layer = PartitionedNormalization(2, 1, epsilon=0.0)
    with torch.no_grad():
        layer.mean.copy_(torch.tensor([[5.0], [-1.0]]))
        layer.variance.copy_(torch.tensor([[4.0], [9.0]]))
        layer.scale.fill_(2.0)
        layer.shift.fill_(0.5)
        layer.own_scale[1] = 3.0
        layer.own_shift[1] = 10.0
    x = torch.tensor([[7.0], [2.0]])
    answer = layer.eval()(x, torch.tensor([0, 1])).flatten().tolist()
    assert answer == [2.5, 16.5], "2·(7 − 5)/2 + 0.5; 2·3·(2 + 1)/3 + 0.5 + 10"


def test_training_normalises_each_scenario_by_its_own_rows():
    layer, codes = PartitionedNormalization(3, 2), torch.tensor([0, 2]).repeat(5000)
    x = torch.randn(10000, 2) * torch.tensor([[2.0], [0.5]]).repeat(5000, 1) + 7 * codes[:, None]
    answer = layer(x, codes)
    for code in (0, 2):
        own = answer[codes == code]
        torch.testing.assert_close(own.mean(0), torch.zeros(2), atol=0.1, rtol=0)
        torch.testing.assert_close(own.var(0), torch.ones(2), atol=0.1, rtol=0)


def test_statistics_of_few_rows_lean_on_the_moving_ones_and_absent_scenarios_keep_theirs():
    layer = PartitionedNormalization(3, 1)
    x, codes = torch.tensor([[4.0], [1.0], [5.0]]), torch.tensor([0, 2, 2])
    mean, variance = layer.statistics(x, codes)
    of_one, of_two = 1 / (1 + FEW_ROWS), 2 / (2 + FEW_ROWS)
    torch.testing.assert_close(mean.flatten(), torch.tensor([of_one * 4, 0.0, of_two * 3]))
    squares = (4 - of_one * 4) ** 2, ((1 - of_two * 3) ** 2 + (5 - of_two * 3) ** 2) / 2
    expected = torch.tensor([1 - of_one + of_one * squares[0], 1.0, 1 - of_two + of_two * squares[1]])
    torch.testing.assert_close(variance.flatten(), expected)
    torch.testing.assert_close(layer.mean, MOMENTUM * mean)
    torch.testing.assert_close(layer.variance, 1 - MOMENTUM + MOMENTUM * variance)


def test_moving_statistics_come_to_those_of_the_log_even_one_row_at_a_time():
    layer = PartitionedNormalization(2, 1)
    codes = torch.tensor([0] * 63 + [1])  # one row a batch of the rare scenario
    for _ in range(1500):
        layer(torch.randn(64, 1) * 0.1 + 3 + codes[:, None], codes)
    torch.testing.assert_close(layer.mean.flatten(), torch.tensor([3.0, 4.0]), atol=0.1, rtol=0)
    torch.testing.assert_close(layer.variance.flatten(), torch.tensor([0.01, 0.01]), atol=0.004, rtol=0)


def test_every_row_is_the_sum_of_its_scenarios_network_and_the_auxiliary_one(planted_dataset: Dataset):
    schema = replace(schema_of(planted_dataset), predefined_scenarios=tuple(map(str, range(SCENARIOS))))
    model = Star(StarOptions(embedding=4, hidden=[5, 4], auxiliary=[6]), schema)
    for parameter in model.parameters():  # so that what scenarios own is no longer 1 and 0
        parameter.data += torch.randn(parameter.shape) * 0.3
    batch = BatchBuilder(planted_dataset).build(torch.arange(6).numpy())
    scenario = [2, 0, 1, 2, 2, 0]
    batch = replace(batch, predefined_scenario=torch.tensor(scenario))
    with torch.no_grad():
        model(batch)  # moves the statistics
        logit = model.eval()(batch).logit
        values = model.table.look_up(batch.rows)
        request, candidate = model.inputs.request(values, batch), model.inputs.candidate(values, batch)
        for n, of in enumerate(batch.request.tolist()):
            expected = plain_star(model, request[of], candidate[n], scenario[of])
            torch.testing.assert_close(logit[n], expected)


def plain_star(model: Star, request: Tensor, candidate: Tensor, k: int) -> Tensor:
    x = plain_layer(model.of_request, normalised(model.normalise_request, request, k), k)
    x = x + plain_layer(model.of_candidate, normalised(model.normalise_candidate, candidate, k), k)
    for layer in model.deeper:
        assert isinstance(layer, StarLinear)
        x = plain_layer(layer, torch.relu(x), k)
    known = torch.cat([request, model.scenario_embedding.weight[k], candidate])
    return (x + networks_of(model.auxiliary)[0](known)).squeeze()


def plain_layer(layer: StarLinear, x: Tensor, k: int) -> Tensor:
    weight = layer.shared.weight * layer.own_weight[k]
    return weight @ x + (layer.shared.bias + layer.own_bias[k] if layer.own_bias is not None else 0)


def normalised(layer: PartitionedNormalization, x: Tensor, k: int) -> Tensor:
    plain = (x - layer.mean[k]) / torch.sqrt(layer.variance[k] + layer.epsilon)
    return layer.scale * layer.own_scale[k] * plain + layer.shift + layer.own_shift[k]
