"""DCN-V2: cross layers by hand, whole and of low rank, and the model row by row in both structures."""

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from musenet.dataset.batch import schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.models.baselines.crosses.dcn_v2 import DcnV2
from musenet.models.baselines.crosses.options import DcnV2Options
from musenet.models.layers import CrossLayer
from plain_networks import networks_of, plain_crosses


def whole_layer(weight: Tensor, bias: Tensor) -> CrossLayer:
    layer = CrossLayer(2, rank=None)
    layer.linear.load_state_dict({"weight": weight, "bias": bias})
    return layer


def low_rank_layer(u: Tensor, v: Tensor, bias: Tensor) -> CrossLayer:
    layer = CrossLayer(2, rank=1)
    layer.linear.load_state_dict({"0.weight": v.T, "1.weight": u, "1.bias": bias})
    return layer


def test_a_cross_layer_by_hand():
    layer = whole_layer(torch.tensor([[1.0, 0.0], [2.0, 1.0]]), torch.tensor([0.5, -1.0]))
    start, x = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
    assert layer(start, x).tolist() == [[6.5, 22.0]], "1·(3 + 0.5) + 3; 2·(2·3 + 4 - 1) + 4"


def test_a_cross_layer_of_low_rank_by_hand():
    u, v = torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [2.0]])
    layer = low_rank_layer(u, v, torch.tensor([0.5, -1.0]))
    start, x = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
    assert layer(start, x).tolist() == [[14.5, 68.0]], "V·x = 11: 1·(11 + 0.5) + 3; 2·(3·11 - 1) + 4"
    whole = whole_layer(u @ v.T, torch.tensor([0.5, -1.0]))
    torch.testing.assert_close(whole(start, x), layer(start, x))


def test_layers_reach_every_product_of_so_many_inputs():
    """With W of ones and no bias, L layers on [a, b] give a (1 + a + b)^L."""
    layer = whole_layer(torch.ones(2, 2), torch.zeros(2))
    start = torch.tensor([[2.0, 3.0]])
    once = layer(start, start)
    assert once.tolist() == [[12.0, 18.0]]
    assert layer(start, once).tolist() == [[72.0, 108.0]]


@pytest.mark.parametrize("structure", ["stacked", "parallel"])
@pytest.mark.parametrize("low_rank", [None, 3])
def test_every_row_is_scored_as_in_the_paper(
    structure: Literal["stacked", "parallel"], low_rank: int | None, planted_dataset: Dataset
):
    options = DcnV2Options(embedding=4, hidden=[6, 5], cross_layers=3, structure=structure, low_rank=low_rank)
    model = DcnV2(options, schema_of(planted_dataset))
    batch = BatchBuilder(planted_dataset).build(np.arange(12))
    with torch.no_grad():
        logit = model(batch).logit
        values = model.table.look_up(batch.rows)
        request, candidate = model.inputs.request(values, batch), model.inputs.candidate(values, batch)
        for n, of in enumerate(batch.request.tolist()):
            torch.testing.assert_close(logit[n], plain_dcn(model, torch.cat([request[of], candidate[n]])))


def plain_dcn(model: DcnV2, x_0: Tensor) -> Tensor:
    """The logit of one row."""
    assert len(model.crosses) == 3
    x, network = plain_crosses(model.crosses, x_0), networks_of(model.mlp)[0]
    if model.of_crosses is None:
        return network(x).squeeze()
    return torch.dot(model.of_crosses.weight[0], x) + network(x_0).squeeze()
