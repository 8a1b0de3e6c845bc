"""NCF: NeuMF's last layer over the product of the factors and the MLP's last hidden layer."""

import numpy as np
import torch
from torch import Tensor, nn

from musenet.dataset.batch import schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.models.baselines.crosses.ncf import Ncf
from musenet.models.baselines.crosses.options import NcfOptions
from plain_networks import networks_of


def test_every_row_is_scored_as_in_the_paper(planted_dataset: Dataset):
    model = Ncf(NcfOptions(embedding=4, hidden=[6, 5], factors=3), schema_of(planted_dataset))
    batch = BatchBuilder(planted_dataset).build(np.arange(12))
    with torch.no_grad():
        logit = model(batch).logit
        values = model.table.look_up(batch.rows)
        request, candidate = model.inputs.request(values, batch), model.inputs.candidate(values, batch)
        for n, of in enumerate(batch.request.tolist()):
            torch.testing.assert_close(logit[n], plain_neumf(model, request[of], candidate[n]))


def plain_neumf(model: Ncf, user: Tensor, item: Tensor) -> Tensor:
    """h·[p ∘ q, hidden] + bias, h the factorisation's weights and those of the MLP's last layer."""
    *below, last = networks_of(model.mlp)[0]
    assert isinstance(last, nn.Linear)
    p = model.user_factors.weight @ user + model.user_factors.bias
    q = model.item_factors.weight @ item + model.item_factors.bias
    hidden = nn.Sequential(*below)(torch.cat([user, item]))
    h = torch.cat([model.factorisation.weight, last.weight], dim=1)[0]
    return torch.dot(h, torch.cat([p * q, hidden])) + last.bias[0]


def test_factors_that_are_orthogonal_leave_the_mlp_alone(planted_dataset: Dataset):
    model = Ncf(NcfOptions(embedding=4, hidden=[6], factors=2), schema_of(planted_dataset))
    batch = BatchBuilder(planted_dataset).build(np.arange(12))
    with torch.no_grad():
        for layer, own in ((model.user_factors, 0), (model.item_factors, 1)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
            layer.bias[own] = 5.0  # the user's first factor, the item's second
        without = model(batch).logit
        model.item_factors.bias[0] = 2.0
        torch.testing.assert_close(model(batch).logit, without + 5 * 2 * model.factorisation.weight[0, 0])
