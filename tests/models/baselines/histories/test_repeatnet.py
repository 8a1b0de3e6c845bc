"""RepeatNet against a loop over requests, events and candidates that follows the paper's equations."""

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from musenet.dataset.batch import Batch, schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.errors import ConfigError
from musenet.models.baselines.histories.options import RepeatNetOptions
from musenet.models.baselines.histories.repeatnet import Attention, RepeatNet
from musenet.models.interface import Prediction
from plain_networks import networks_of
from planted import HAND_MADE_SCHEMA, hand_made_batch

Form = Literal["log", "probability"]
UNITS = 3


def small_model(dataset: Dataset, form: Form = "log") -> RepeatNet:
    options = RepeatNetOptions(embedding=4, hidden=[6, 5], encoder=UNITS, form=form)
    return RepeatNet(options, schema_of(dataset))


def training_batch(dataset: Dataset) -> Batch:
    batch = BatchBuilder(dataset).build(np.arange(40))
    assert batch.repeat_indicator.any()
    assert (batch.history_offset.diff() == 0).any()
    return batch


def test_attention_by_hand():
    layer = Attention(1)
    layer.load_state_dict(
        {
            "last.weight": torch.tensor([[2.0]]),
            "last.bias": torch.tensor([0.1]),
            "each.weight": torch.tensor([[-1.0]]),
            "score.weight": torch.tensor([[3.0]]),
        }
    )
    states, last = torch.tensor([[[0.5], [0.2], [9.0]]]), torch.tensor([[0.2]])
    weights = layer(states, last, torch.tensor([[True, True, False]]))[0].tolist()
    first, second = (math.exp(3 * math.tanh(2 * 0.2 + 0.1 - state)) for state in (0.5, 0.2))
    expected = [first / (first + second), second / (first + second), 0.0]
    assert weights == pytest.approx(expected)


def test_attention_is_shared_out_among_the_events_there_are():
    states, exists = torch.randn(3, 4, UNITS), torch.arange(4) < torch.tensor([[4], [1], [0]])
    weights = Attention(UNITS)(states, torch.randn(3, UNITS), exists)
    torch.testing.assert_close(weights.sum(1), torch.tensor([1.0, 1.0, 0.0]))
    assert (weights[~exists] == 0).all()
    assert weights[1, 0] == 1


@pytest.mark.parametrize("form", ["log", "probability"])
def test_every_row_is_scored_as_in_the_paper(form: Form, planted_dataset: Dataset):
    model, batch = small_model(planted_dataset, form), training_batch(planted_dataset)
    with torch.no_grad():
        model.pointer.fill_(0.7)
        prediction = model(batch)
        for n in range(batch.candidates):
            logit, probability = plain_repeatnet(model, batch, n)
            torch.testing.assert_close(prediction.logit[n], logit)
            assert prediction.repeat_probability is not None
            torch.testing.assert_close(prediction.repeat_probability[batch.request[n], 0], probability)


def plain_repeatnet(model: RepeatNet, batch: Batch, n: int) -> tuple[Tensor, Tensor]:
    """The logit of candidate n, and P(r|B) of its request."""
    values, of = model.table.look_up(batch.rows), int(batch.request[n])
    request, candidate = model.inputs.request(values, batch)[of], model.inputs.candidate(values, batch)[n]
    events = batch.history_codes[batch.history_offset[of] : batch.history_offset[of + 1]]
    states = gru(model.encoder, [torch.cat([values[item], values[brand]]) for item, brand in events])
    weights = {mode: attention(layer, states) for mode, layer in model.attentions.items()}
    read = {
        mode: torch.cat([request, sum((w * h for w, h in zip(each, states, strict=True)), torch.zeros(UNITS))])
        for mode, each in weights.items()
    }
    repeats = torch.sigmoid(model.mode.weight[0] @ read["mode"] + model.mode.bias[0])
    if batch.repeat_indicator[n]:
        score = networks_of(model.repeat)[0](torch.cat([read["repeat"], candidate]))
        equal = batch.candidate_codes[n, :2]  # item and brand
        mass = sum(float(w) for w, event in zip(weights["repeat"], events, strict=True) if torch.equal(event, equal))
        return in_mode(repeats, score + model.pointer * math.log(mass + 1e-3), model), repeats
    score = networks_of(model.explore)[0](torch.cat([read["explore"], candidate]))
    return in_mode(1 - repeats, score, model), repeats


def in_mode(probability: Tensor, score: Tensor, model: RepeatNet) -> Tensor:
    """`log`: log P(mode) + s. `probability`: P(mode) sigma(s) as a logit."""
    if model.options.form == "log":
        return (probability.log() + score).squeeze()
    click = probability * torch.sigmoid(score)
    return torch.log(click / (1 - click)).squeeze()


def gru(layer: Any, inputs: list[Tensor]) -> list[Tensor]:
    """The states after each event, from zero."""
    states, h = [], torch.zeros(UNITS)
    for x in inputs:
        of_x = (layer.weight_ih_l0 @ x + layer.bias_ih_l0).split(UNITS)
        of_h = (layer.weight_hh_l0 @ h + layer.bias_hh_l0).split(UNITS)
        reset, update = torch.sigmoid(of_x[0] + of_h[0]), torch.sigmoid(of_x[1] + of_h[1])
        h = (1 - update) * torch.tanh(of_x[2] + reset * of_h[2]) + update * h
        states.append(h)
    return states


def attention(layer: nn.Module, states: list[Tensor]) -> list[Tensor]:
    """softmax over the events of v·tanh(W h_last + U h_t)."""
    assert isinstance(layer, Attention)
    last = layer.last
    scores = [
        torch.exp(layer.score.weight[0] @ torch.tanh(last.weight @ states[-1] + last.bias + layer.each.weight @ h))
        for h in states
    ]
    return [score / sum(scores) for score in scores]


def test_the_pointer_reads_the_mass_on_events_that_equal_the_candidate(planted_dataset: Dataset):
    """Repeats alone move with it, by the logarithm of a mass in [0, 1]."""
    model, batch = small_model(planted_dataset), training_batch(planted_dataset)
    with torch.no_grad():
        model.pointer.fill_(0.0)
        without = model(batch).logit
        model.pointer.fill_(1.0)
        mass = (model(batch).logit - without).exp() - 1e-3
    item = batch.history_codes[:, 0]
    for n, of in enumerate(batch.request.tolist()):
        begin, end = batch.history_offset[of : of + 2].tolist()
        same = item[begin:end] == batch.candidate_codes[n, 0]
        if not batch.repeat_indicator[n]:
            assert mass[n] == pytest.approx(1 - 1e-3), "nothing was added"
        elif not same.any():
            assert mass[n] == pytest.approx(0, abs=1e-5)
        else:
            assert 1e-3 < mass[n] < 1 + 1e-5
            assert (mass[n] > 1 - 1e-5) == bool(same.all())


def test_the_order_of_events_matters(planted_dataset: Dataset):
    model, batch = small_model(planted_dataset), training_batch(planted_dataset)
    histories = batch.history_codes.split(batch.history_offset.diff().tolist())
    backwards = torch.cat([events.flip(0) for events in histories])
    differs = torch.tensor([not torch.equal(events, events.flip(0)) for events in histories])[batch.request]
    with torch.no_grad():
        change = (model(replace(batch, history_codes=backwards)).logit - model(batch).logit).abs()
    assert differs.any()
    assert (change[differs] > 1e-5).all()


def hand_made_model(**options: object) -> RepeatNet:
    return RepeatNet(RepeatNetOptions.model_validate({"embedding": 4, "hidden": [6]} | options), HAND_MADE_SCHEMA)


def test_the_mode_is_learned_from_what_was_clicked():
    batch = hand_made_batch()  # clicked: a repeat of the first request and a new item of the second
    prediction = Prediction(torch.tensor([0.0, 1.0, 2.0]), repeat_probability=torch.tensor([[0.8], [0.3]]))
    terms = hand_made_model(mode_loss=0.25).losses(prediction, batch, 1.0)
    assert terms["mode"].value.item() == pytest.approx(-(math.log(0.8) + math.log(1 - 0.3)) / 2)
    assert terms["mode"].weight == 0.25
    log_loss = [math.log(2), math.log(1 + math.exp(1)), math.log(1 + math.exp(-2))]
    assert terms["click"].value.item() == pytest.approx(sum(log_loss) / 3)
    assert terms["click"].weight == 1
    nothing = hand_made_model().losses(prediction, replace(batch, label=torch.zeros(3)), 1.0)
    assert nothing["mode"].value == 0


def test_without_a_history_column_it_is_refused():
    with pytest.raises(ConfigError, match=r"history\.columns"):
        hand_made_model(ids=["user"])
