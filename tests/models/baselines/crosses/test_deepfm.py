"""DeepFM: the sum over pairs of fields, pair by pair, beside the wide and the deep part."""

from itertools import combinations

import numpy as np
import torch
from torch import nn

from musenet.dataset.batch import schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.models.baselines.crosses.deepfm import DeepFm
from musenet.models.baselines.crosses.options import DeepFmOptions

D = 4


def test_the_interactions_are_the_inner_products_of_all_pairs_of_fields(planted_dataset: Dataset):
    model = DeepFm(DeepFmOptions(embedding=D, hidden=[6, 5]), schema_of(planted_dataset))
    batch = BatchBuilder(planted_dataset).build(np.arange(12))
    values = model.table.weight[batch.rows][:, :D]
    with torch.no_grad():
        found = model.interactions(values, batch)
        request, candidate = model.factors.request(values, batch), model.factors.candidate(values, batch)
    for n, of in enumerate(batch.request.tolist()):
        vectors = torch.cat([request[of], candidate[n]]).view(-1, D)
        pairs = sum(float(first @ second) for first, second in combinations(vectors, 2))
        torch.testing.assert_close(float(found[n]), pairs, atol=1e-5, rtol=1e-5)


def test_numbers_have_vectors_and_every_field_takes_part(planted_dataset: Dataset):
    """Doubling one number doubles its vector: what the pairs gain is its vector with the sum of all others."""
    model = DeepFm(DeepFmOptions(embedding=D, hidden=[6, 5]), schema_of(planted_dataset))
    batch = BatchBuilder(planted_dataset).build(np.arange(1))
    values = model.table.weight[batch.rows][:, :D]
    number = batch.request_dense[0, 0].item()
    with torch.no_grad():
        before = model.interactions(values, batch)
        assert isinstance(model.factors.request_numbers, nn.Module)
        vector = model.factors.request_numbers.weight[0] * number
        request, candidate = model.factors.request(values, batch), model.factors.candidate(values, batch)
        others = request.view(-1, D).sum(0) + candidate.unflatten(1, (-1, D)).sum(1) - vector
        batch.request_dense[0, 0] *= 2
        after = model.interactions(values, batch)
    torch.testing.assert_close(after - before, others @ vector, atol=1e-5, rtol=1e-5)


def test_the_logit_is_the_sum_of_the_three_parts(planted_dataset: Dataset):
    model = DeepFm(DeepFmOptions(embedding=D, hidden=[6, 5]), schema_of(planted_dataset))
    batch = BatchBuilder(planted_dataset).build(np.arange(12))
    with torch.no_grad():
        model.table.weight[1:, -1].normal_()
        values, weights = model.table.weight[batch.rows].split([D, 1], dim=1)
        parts = model.wide(weights, batch) + model.deep(values, batch) + model.interactions(values, batch)
        torch.testing.assert_close(model(batch).logit, parts)


def test_a_new_model_predicts_about_alike_for_all_however_many_fields_there_are(planted_dataset: Dataset):
    """Vectors of length 1 would make the pairs of some thirty fields differ by several logits before any training."""
    torch.manual_seed(1)
    model = DeepFm(DeepFmOptions(), schema_of(planted_dataset))
    batch = BatchBuilder(planted_dataset).build(np.arange(50))
    with torch.no_grad():
        pairs = model.interactions(model.table.look_up(batch.rows)[:, : model.size], batch)
    assert float(pairs.std()) < 0.2
