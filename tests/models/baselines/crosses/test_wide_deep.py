"""Wide&Deep: the sum of an MLP's logit and of single weights, and how these begin and learn."""

import numpy as np
import torch
from torch import Tensor, nn

from musenet.dataset.batch import Batch, schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.models.baselines.crosses.options import WideDeepOptions
from musenet.models.baselines.crosses.wide_deep import WideDeep
from musenet.training.optimizers import Optimizers
from plain_networks import networks_of

D = 4


def small_model(dataset: Dataset) -> WideDeep:
    return WideDeep(WideDeepOptions(embedding=D, hidden=[6, 5]), schema_of(dataset))


def batch_of(dataset: Dataset) -> Batch:
    return BatchBuilder(dataset).build(np.arange(12))


def test_the_logit_is_the_mlps_and_a_weight_for_every_value_and_number(planted_dataset: Dataset):
    model, batch = small_model(planted_dataset), batch_of(planted_dataset)
    with torch.no_grad():
        model.table.weight[1:, -1].normal_()
        nn.init.ones_(model.wide_request.weight)
        nn.init.ones_(model.wide_candidate.weight)
        logit = model(batch).logit
        rows = model.table.weight[batch.rows]
        request, candidate = (side(rows[:, :D], batch) for side in (model.inputs.request, model.inputs.candidate))
        network = networks_of(model.mlp)[0]
        for n, of in enumerate(batch.request.tolist()):
            deep = network(torch.cat([request[of], candidate[n]]))
            torch.testing.assert_close(logit[n], (deep + plain_wide(rows[:, -1], batch, n, of)).squeeze())


def plain_wide(weight: Tensor, batch: Batch, n: int, of: int) -> Tensor:
    """The weights of the values of candidate `n` and request `of`, and their numbers."""
    user, *tags, age, device, hours = batch.request_codes[of].tolist()
    item, brand, *label_tags, price, rank = batch.candidate_codes[n].tolist()
    total = weight[[user, age, device, hours, item, brand, price, rank]].sum()
    for several in (tags, label_tags):
        total = total + sum(weight[tag] for tag in several if tag > 0) / max(1, sum(tag > 0 for tag in several))
    begin, end = batch.history_offset[of : of + 2].tolist()
    for t in range(begin, end):
        total = total + weight[batch.history_codes[t]].sum() / (end - begin)
    numbers = (batch.request_dense[of], batch.candidate_dense[n], batch.repeat_features[n])
    return total + torch.cat(numbers).sum()


def test_wide_weights_begin_at_zero_and_every_one_that_a_batch_uses_learns(planted_dataset: Dataset):
    model, batch = small_model(planted_dataset), batch_of(planted_dataset)
    wide = (model.table.weight[:, -1], model.wide_request.weight, model.wide_candidate.weight)
    assert all((weights == 0).all() for weights in wide)
    assert (model.table.weight[1:, :-1] != 0).all()
    optimizers = Optimizers(model, 0.01, 0.01)
    optimizers.zero_grad()
    model.losses(model(batch), batch, 1.0)["click"].value.backward()
    optimizers.step()
    used = torch.zeros(len(model.table.weight), dtype=torch.bool)
    used[batch.rows[1:]] = True
    assert (model.table.weight[used, -1] != 0).all()
    assert (model.table.weight[~used, -1] == 0).all()
    assert all((weights != 0).all() for weights in wide[1:])


class Silent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x))


def test_the_deep_part_does_not_see_the_wide_weights(planted_dataset: Dataset):
    model, batch = small_model(planted_dataset), batch_of(planted_dataset)
    with torch.no_grad():
        model.wide_request = model.wide_candidate = Silent()  # type: ignore[assignment]
        before = model(batch).logit
        model.table.weight[1:, -1].normal_()
        assert torch.equal(model(batch).logit, before)
