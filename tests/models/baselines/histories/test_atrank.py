"""ATRank event by event: semantic spaces, self-attention, and the candidate that asks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from musenet.dataset.batch import schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.errors import ConfigError
from musenet.models.baselines.histories.atrank import AtRank
from musenet.models.baselines.histories.options import AtRankOptions
from plain_networks import networks_of
from planted import HAND_MADE_SCHEMA

SPACES, UNITS = 2, 3


def test_every_row_is_scored_as_in_the_paper(planted_dataset: Dataset):
    model = AtRank(AtRankOptions(embedding=4, hidden=[6], spaces=SPACES, units=UNITS), schema_of(planted_dataset))
    batch = BatchBuilder(planted_dataset).build(np.arange(30))
    with torch.no_grad():
        logit = model(batch).logit
        values = model.table.weight[batch.rows]
        request, candidate = model.inputs.request(values, batch), model.inputs.candidate(values, batch)
        lengths = set()
        for n, r in enumerate(batch.request.tolist()):
            events = values[batch.history_codes[batch.history_offset[r] : batch.history_offset[r + 1]]].flatten(1)
            lengths.add(len(events))
            target = model.asked(values[batch.candidate_codes[n, :2]].flatten())  # item_id, brand
            user = asked(target, influenced(model, events)) if len(events) else torch.zeros(SPACES * UNITS)
            expected = networks_of(model.mlp)[0](torch.cat([request[r], candidate[n], user]))[0]
            torch.testing.assert_close(logit[n], expected)
    assert {0, 1, 5} <= lengths


def influenced(model: AtRank, events: Tensor) -> Tensor:
    """(L, S·A) c of every event."""
    places = [0, 1, 2, 2, 3]  # of the last, the one before, …: buckets of 1, 1, 2, 4, …
    u = [e + model.place.weight[places[len(events) - 1 - at]] for at, e in enumerate(events)]
    c = []
    for x in u:
        of_spaces = []
        for space in range(SPACES):
            of = slice(space * UNITS, (space + 1) * UNITS)
            keys, read = ([layer(y)[of] for y in u] for layer in (model.key, model.value))
            of_spaces.append(weighed((model.query.weight @ x)[of], keys, read))
        z = torch.cat(of_spaces)
        first, _, _, second = model.feed_forward
        z = z + second(torch.relu(first(z)))
        c.append((z - z.mean()) / (z.var(correction=0) + model.norm.eps).sqrt() * model.norm.weight + model.norm.bias)
    return torch.stack(c)


def asked(query: Tensor, events: Tensor) -> Tensor:
    return weighed(query, list(events), list(events))


def weighed(query: Tensor, keys: list[Tensor], read: list[Tensor]) -> Tensor:
    scores = torch.stack([query @ key / len(query) ** 0.5 for key in keys])
    return sum(weight * one for weight, one in zip(scores.softmax(0), read, strict=True))


def test_a_log_without_history_is_refused():
    with pytest.raises(ConfigError, match="atrank reads the history"):
        AtRank(AtRankOptions(), replace(HAND_MADE_SCHEMA, history_fields=()))
