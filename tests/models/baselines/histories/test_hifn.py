"""HIFN event by event: three ways to ask the latest events, the whole history, the gate, and what tells both apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from musenet.dataset.batch import schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.errors import ConfigError
from musenet.models.baselines.histories.hifn import Hifn
from musenet.models.baselines.histories.options import HifnOptions
from plain_networks import networks_of
from planted import HAND_MADE_SCHEMA

UNITS, RECENT = 5, 2


def test_every_row_is_scored_and_told_apart_as_described(planted_dataset: Dataset):
    options = HifnOptions(embedding=4, hidden=[6], units=UNITS, recent=RECENT, disentangle=0.3)
    model = Hifn(options, schema_of(planted_dataset))
    batch = BatchBuilder(planted_dataset).build(np.arange(30))
    with torch.no_grad():
        prediction = model(batch)
        values = model.table.weight[batch.rows]
        request, candidate = model.inputs.request(values, batch), model.inputs.candidate(values, batch)
        losses = []
        for n, r in enumerate(batch.request.tolist()):
            events = values[batch.history_codes[batch.history_offset[r] : batch.history_offset[r + 1]]].flatten(1)
            v = events @ model.event.weight.T
            target = model.of_target(values[batch.candidate_codes[n, :2]].flatten())  # item_id, brand
            short = short_interests(model, v[-RECENT:], model.of_query(request[r]), target)
            long = weighed(short, v)
            gate = torch.sigmoid(model.gate(torch.cat([short, long, candidate[n]])))
            x = torch.cat([request[r], candidate[n], gate * short + (1 - gate) * long])
            torch.testing.assert_close(prediction.logit[n], networks_of(model.mlp)[0](x)[0])
            losses.append(entangled(short, long, v))
        term = model.losses(prediction, batch, 1.0)["entanglement"]
    assert term.weight == 0.3
    np.testing.assert_allclose(term.value, np.mean(losses), rtol=1e-5)


def short_interests(model: Hifn, v: Tensor, query: Tensor, target: Tensor) -> Tensor:
    caused = [weighed(v[i], v[: i + 1]) for i in range(len(v))]
    by_cause = torch.stack(caused).mean(0) if caused else torch.zeros(UNITS)
    return model.short(torch.cat([weighed(query, v), weighed(target, v), by_cause]))


def weighed(query: Tensor, v: Tensor) -> Tensor:
    if len(v) == 0:
        return torch.zeros(UNITS)
    weights = torch.stack([query @ one / len(query) ** 0.5 for one in v]).softmax(0)
    return sum(weight * one for weight, one in zip(weights, v, strict=True))


def entangled(short: Tensor, long: Tensor, v: Tensor) -> float:
    of_short, of_long = (one.mean(0) if len(one) else torch.zeros(UNITS) for one in (v[-RECENT:], v))
    pairs = (short @ of_long - short @ of_short, long @ of_short - long @ of_long)
    return float(sum(np.log1p(np.exp(float(pair))) for pair in pairs))


def test_a_log_without_history_is_refused():
    with pytest.raises(ConfigError, match="hifn reads the history"):
        Hifn(HifnOptions(), replace(HAND_MADE_SCHEMA, history_fields=()))
