"""AdaptDHM: routing by hand, weights that are products, and the whole model row by row."""

import numpy as np
import torch
from torch import Tensor

from musenet.dataset.batch import schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.models.baselines.scenarios.adaptdhm import AdaptDhm, Routing
from musenet.models.baselines.scenarios.options import AdaptDhmOptions


def test_a_round_of_routing_by_hand():
    """Two centres along the axes; x = (ln 3, 0) and (0, 0) have shares 3/4 and 1/2 in the first."""
    routing = Routing(2, AdaptDhmOptions(clusters=2, momentum=0.5))
    routing.centres.copy_(torch.eye(2))
    log3 = float(np.log(3))
    routing.move(torch.tensor([[log3, 0.0], [0.0, 0.0]]))
    first = 0.5 + 0.5 * (0.75 * log3) / 1.25
    second = 0.5 * (0.25 * log3) / 0.75
    expected = torch.tensor([[1.0, 0.0], [second, 0.5]])
    assert first > 0  # of length one, the first centre stays where it points
    torch.testing.assert_close(routing.centres, expected / expected.norm(dim=1, keepdim=True))


def test_scoring_moves_no_centre_and_training_separates_two_clouds():
    torch.manual_seed(0)
    cloud = torch.cat([torch.randn(200, 6) * 0.1 + 1, torch.randn(200, 6) * 0.1 - 1])
    routing = Routing(6, AdaptDhmOptions(clusters=2))
    for _ in range(10):
        routing(cloud)
    before = routing.centres.clone()
    cluster = routing.eval()(cloud)
    assert torch.equal(routing.centres, before)
    assert len(set(cluster[:200].tolist())) == len(set(cluster[200:].tolist())) == 1
    assert cluster[0] != cluster[-1]


def test_the_whole_model_row_by_row(planted_dataset: Dataset):
    torch.manual_seed(1)
    model = AdaptDhm(AdaptDhmOptions(embedding=4, hidden=[6, 5], clusters=3), schema_of(planted_dataset))
    for layer in model.layers:
        layer.own_weight.data.uniform_(0.5, 1.5)  # type: ignore[union-attr]
        layer.own_bias.data.normal_()  # type: ignore[union-attr]
    batch = BatchBuilder(planted_dataset).build(np.arange(30))
    model(batch)  # fits what is standardised and moves the centres
    model.eval()
    with torch.no_grad():
        logit = model(batch).logit
        values = model.table.weight[batch.rows]
        request, candidate = model.inputs.request(values, batch), model.inputs.candidate(values, batch)
        found = []
        for n, of in enumerate(batch.request.tolist()):
            x = torch.cat([request[of], candidate[n]])
            standard = (x - model.routing.standardise.running_mean) / (
                model.routing.standardise.running_var + model.routing.standardise.eps
            ).sqrt()
            k = int((model.routing.centres @ standard).argmax())
            found.append(k)
            torch.testing.assert_close(logit[n], plain(model, x, k), atol=1e-5, rtol=1e-5)
    assert len(set(found)) > 1


def plain(model: AdaptDhm, x: Tensor, k: int) -> Tensor:
    for place, layer in enumerate(model.layers):
        shared = layer.shared
        x = (shared.weight * layer.own_weight[k]) @ x + shared.bias + layer.own_bias[k]  # type: ignore[index, union-attr, operator]
        x = torch.relu(x) if place < len(model.layers) - 1 else x
    return x[0]
