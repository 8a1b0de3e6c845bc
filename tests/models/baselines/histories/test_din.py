"""DIN row by row: the attention's sum beside the other inputs, an MLP with the chosen activation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from musenet.dataset.batch import Batch, schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.models.attention import Dice
from musenet.models.baselines.histories.din import Din
from musenet.models.baselines.histories.options import DinOptions
from musenet.models.embedding import NumberVectors
from musenet.models.interface import Prediction
from musenet.models.options import Activation, Numbers
from plain_networks import networks_of, plain_dice, plain_history

REQUESTS = 12


def small_din(dataset: Dataset, activation: Activation, numbers: Numbers = "plain") -> Din:
    options = DinOptions(embedding=4, hidden=[6, 5], attention_hidden=3, activation=activation, numbers=numbers)
    model = Din(options, schema_of(dataset))
    for parameter in model.parameters():  # so that slopes are no longer zero
        parameter.data += torch.randn(parameter.shape) * 0.2
    model.table.weight.data[0] = 0
    return model


def scored(model: Din, batch: Batch) -> Tensor:
    with torch.no_grad():
        return model.eval()(batch).logit


def activate(layer: nn.Module, x: Tensor) -> Tensor:
    if isinstance(layer, Dice):
        return plain_dice(layer, x)
    assert isinstance(layer, nn.PReLU)
    return torch.where(x > 0, x, layer.weight * x)


@pytest.mark.parametrize("numbers", ["plain", "embedded"])
@pytest.mark.parametrize("activation", ["prelu", "dice"])
def test_every_row_is_scored_as_in_the_paper(activation: Activation, numbers: Numbers, planted_dataset: Dataset):
    model = small_din(planted_dataset, activation, numbers)
    batch = BatchBuilder(planted_dataset).build(np.arange(REQUESTS))
    model(batch)  # moves the statistics of Dice
    logit = scored(model, batch)
    with torch.no_grad():
        torch.testing.assert_close(logit, plain_din(model, batch))


def plain_numbers(layer: nn.Module, row: Tensor) -> Tensor:
    """A row's numbers as they are, or each as its own vector times its value."""
    if not isinstance(layer, NumberVectors):
        return row
    return torch.cat([value * vector for value, vector in zip(row, layer.weight, strict=True)])


def plain_din(model: Din, batch: Batch) -> Tensor:
    """(N,) logits in scoring."""
    values = model.table.look_up(batch.rows)
    attention = model.inputs.attention
    assert attention is not None
    history = plain_history(attention, values, batch, [0, 1], lambda x: activate(attention.activation, x))
    numbers = (model.inputs.request_numbers, model.inputs.candidate_numbers, model.inputs.repeat_numbers)
    of_request, of_candidate, repeats = (
        torch.stack([plain_numbers(layer, row) for row in rows])
        for layer, rows in zip(
            numbers, (batch.request_dense, batch.candidate_dense, batch.repeat_features), strict=True
        )
    )
    request = torch.cat([model.inputs.of_request(values, batch.request_codes), of_request], dim=1)
    fields = model.inputs.of_candidate(values, batch.candidate_codes)
    linears = [step for step in networks_of(model.mlp)[0] if isinstance(step, nn.Linear)]
    logits = []
    for n, of in enumerate(batch.request.tolist()):
        own = [fields[n], of_candidate[n], history[n], repeats[n]]
        x = linears[0](torch.cat([request[of], *own]))
        for layer, linear in zip(model.mlp.mlp.activations, linears[1:], strict=True):
            x = linear(activate(layer, x))
        logits.append(x[0])
    return torch.stack(logits)


def test_the_request_itself_knows_no_history(planted_dataset: Dataset):
    """Two candidates of one request may see its history differently, but nothing else of it reaches them."""
    model = small_din(planted_dataset, "prelu")
    batch = BatchBuilder(planted_dataset).build(np.arange(REQUESTS))
    other = replace(batch, history_codes=batch.history_codes.roll(1, dims=0))
    values = model.table.look_up(batch.rows)
    assert torch.equal(model.inputs.request(values, other), model.inputs.request(values, batch))
    assert not torch.allclose(model.inputs.candidate(values, other), model.inputs.candidate(values, batch))


def test_the_order_of_events_does_not_matter(planted_dataset: Dataset):
    model = small_din(planted_dataset, "dice")
    batch = BatchBuilder(planted_dataset).build(np.arange(REQUESTS))
    histories = batch.history_codes.split(batch.history_offset.diff().tolist())
    backwards = replace(batch, history_codes=torch.cat([events.flip(0) for events in histories]))
    torch.testing.assert_close(scored(model, backwards), scored(model, batch))


def test_the_loss_is_the_weighted_cross_entropy(planted_dataset: Dataset):
    model = small_din(planted_dataset, "prelu")
    batch = BatchBuilder(planted_dataset).build(np.arange(2))
    batch = replace(batch, weight=torch.linspace(0.5, 2.0, batch.candidates))
    logit = torch.randn(batch.candidates)
    terms = model.losses(Prediction(logit=logit), batch, 1.0)
    p = torch.sigmoid(logit)
    chosen = torch.where(batch.label == 1, p, 1 - p)
    assert batch.weight is not None
    assert list(terms) == ["click"]
    torch.testing.assert_close(terms["click"].value, -(batch.weight * chosen.log()).mean())
    assert terms["click"].weight == 1
