"""DIN's attention and Dice by hand, and against a loop over candidates and events that follows the paper."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from musenet.dataset.batch import Batch, Schema, schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.models.attention import Dice, HistoryAttention, activation, matches, padded_history
from musenet.models.options import Activation
from plain_networks import plain_dice, plain_history
from planted import HAND_MADE_SCHEMA, hand_made_batch

ITEM_AND_BRAND: list[int | None] = [0, 1]
"""Where the planted candidates' codes hold what the planted history's two columns hold."""


def sigmoid(x: float) -> float:
    return float(torch.sigmoid(torch.tensor(x, dtype=torch.float64)))


def batch_of(dataset: Dataset, requests: int = 12) -> Batch:
    batch = BatchBuilder(dataset).build(np.arange(requests))
    lengths = batch.history_offset.diff()
    assert (lengths == 0).any()
    assert (lengths > 1).any()
    return batch


def embeddings(batch: Batch) -> Tensor:
    values = torch.randn(len(batch.rows), 4)
    values[0] = 0
    return values.requires_grad_()


def test_dice_in_training_standardises_over_the_batch():
    layer = Dice(1)
    with torch.no_grad():
        layer.slope.fill_(0.5)
    answer = layer(torch.tensor([[1.0], [3.0]])).flatten().tolist()
    low, high = sigmoid(-1), sigmoid(1)  # mean 2, variance 1
    expected = [low * 1 + (1 - low) * 0.5 * 1, high * 3 + (1 - high) * 0.5 * 3]
    assert answer == pytest.approx(expected, abs=1e-4)


def test_dice_in_scoring_standardises_by_the_moving_statistics():
    layer = Dice(2)
    with torch.no_grad():
        layer.slope.copy_(torch.tensor([0.5, -1.0]))
        assert layer.standardise.running_mean is not None
        assert layer.standardise.running_var is not None
        layer.standardise.running_mean.copy_(torch.tensor([3.0, 0.0]))
        layer.standardise.running_var.copy_(torch.tensor([4.0, 1.0]))
    answer = layer.eval()(torch.tensor([[5.0, -2.0]]))[0].tolist()
    first, second = sigmoid(1), sigmoid(-2)
    expected = [5 * first + 0.5 * 5 * (1 - first), -2 * second + 2 * (1 - second)]
    assert answer == pytest.approx(expected, abs=1e-4)


def test_dice_takes_all_leading_dimensions_as_rows():
    x = torch.randn(2, 5, 3)
    torch.testing.assert_close(Dice(3)(x).flatten(0, 1), Dice(3)(x.flatten(0, 1)))


def test_dice_of_a_single_row_in_training_is_that_of_scoring():
    layer, x = Dice(3), torch.randn(1, 3)
    layer(torch.randn(50, 3) * 2 + 1)
    torch.testing.assert_close(layer(x), layer.eval()(x))


def test_prelu_begins_with_a_tenth_of_what_is_negative():
    assert activation("prelu", 3)(torch.tensor([-2.0, 0.0, 5.0])).tolist() == pytest.approx([-0.2, 0.0, 5.0])


def one_dimensional() -> HistoryAttention:
    """D = 1, one unit: w(q, k) = 2 prelu(3 q + 4 k + 0.5 q k - 20) + 0.25."""
    layer = HistoryAttention(HAND_MADE_SCHEMA, 1, [0], hidden=1)
    weights = {
        "from_query.weight": 3.0,
        "from_query.bias": -20.0,
        "from_event.weight": 4.0,
        "from_product.weight": 0.5,
        "activation.weight": 0.1,
        "weight.weight": 2.0,
        "weight.bias": 0.25,
    }
    state = layer.state_dict()
    assert set(state) == set(weights)
    layer.load_state_dict({name: torch.full_like(state[name], value) for name, value in weights.items()})
    return layer


def test_the_weighted_sum_by_hand():
    values = torch.tensor([0.0, 0.0, 0.0, 2.0, 5.0, 0.0])[:, None]
    answer = one_dimensional()(values, hand_made_batch()).flatten().tolist()
    w_22 = 2 * 0.1 * (3 * 2 + 4 * 2 + 0.5 * 2 * 2 - 20) + 0.25
    w_25 = 2 * (3 * 2 + 4 * 5 + 0.5 * 2 * 5 - 20) + 0.25
    w_52 = 2 * (3 * 5 + 4 * 2 + 0.5 * 5 * 2 - 20) + 0.25
    w_55 = 2 * (3 * 5 + 4 * 5 + 0.5 * 5 * 5 - 20) + 0.25
    assert answer == pytest.approx([w_22 * 2 + w_25 * 5, w_52 * 2 + w_55 * 5, 0.0])


def test_weights_are_not_normalised_so_that_what_happened_twice_counts_twice():
    layer, values, batch = one_dimensional(), torch.randn(6, 1), hand_made_batch()
    twice = replace(batch, history_codes=batch.history_codes.repeat(2, 1), history_offset=2 * batch.history_offset)
    torch.testing.assert_close(layer(values, twice), 2 * layer(values, batch))


@pytest.mark.parametrize("kind", ["prelu", "dice"])
def test_the_split_first_layer_is_that_of_the_whole_concatenation(kind: Activation, planted_dataset: Dataset):
    batch = batch_of(planted_dataset)
    values = embeddings(batch)
    layer = HistoryAttention(schema_of(planted_dataset), 4, [0, 1], hidden=6, kind=kind)
    torch.nn.init.normal_(layer.weight.weight)
    if isinstance(layer.activation, Dice):
        torch.nn.init.normal_(layer.activation.slope)
        layer(values, batch)  # moves the statistics
    layer.eval()
    unit = layer.activation
    expected = plain_history(
        layer, values, batch, ITEM_AND_BRAND, (lambda x: plain_dice(unit, x)) if isinstance(unit, Dice) else unit
    )
    answer = layer(values, batch)
    torch.testing.assert_close(answer, expected)
    direction = torch.randn_like(answer)
    gradients = [torch.autograd.grad((out * direction).sum(), values)[0] for out in (answer, expected)]
    torch.testing.assert_close(*gradients)


def test_without_events_the_history_is_zero(planted_dataset: Dataset):
    batch = batch_of(planted_dataset)
    layer, values = HistoryAttention(schema_of(planted_dataset), 4, [0, 1]), embeddings(batch)
    has_none = (batch.history_offset.diff() == 0)[batch.request]
    history = layer(values, batch)
    assert (history[has_none] == 0).all()
    assert (history[~has_none] != 0).all()
    nobody = replace(
        batch, history_codes=batch.history_codes[:0], history_offset=torch.zeros_like(batch.history_offset)
    )
    assert torch.equal(layer(values, nobody), torch.zeros_like(history))


@pytest.mark.parametrize("kind", ["prelu", "dice"])
def test_neither_the_order_of_events_nor_neighbours_matter(kind: Activation, planted_dataset: Dataset):
    batch = batch_of(planted_dataset)
    values = embeddings(batch)
    layer = HistoryAttention(schema_of(planted_dataset), 4, [0, 1], kind=kind)
    layer(values, batch)
    layer.eval()
    history = layer(values, batch)
    histories = batch.history_codes.split(batch.history_offset.diff().tolist())
    backwards = replace(batch, history_codes=torch.cat([events.flip(0) for events in histories]))
    torch.testing.assert_close(layer(values, backwards), history)
    for of in range(batch.requests):
        begin, end = batch.history_offset[of], batch.history_offset[of + 1]
        inside = batch.request == of
        alone = replace(
            batch,
            request=torch.zeros(int(inside.sum()), dtype=torch.long),
            candidate_codes=batch.candidate_codes[inside],
            history_codes=batch.history_codes[begin:end],
            history_offset=torch.stack([begin - begin, end - begin]),
        )
        torch.testing.assert_close(layer(values, alone), history[inside])


def test_an_event_begins_with_about_a_tenth_of_its_embedding(planted_dataset: Dataset):
    batch = batch_of(planted_dataset)
    values = embeddings(batch)
    layer = HistoryAttention(schema_of(planted_dataset), 4, [0, 1])
    offset = batch.history_offset.clamp(max=1)  # the first event alone
    first = replace(batch, history_codes=batch.history_codes[:1], history_offset=offset)
    history = layer(values, first)
    has_one = first.history_offset.diff()[batch.request] == 1
    event = torch.cat([values[code] for code in batch.history_codes[0]])
    share = history[has_one] / event
    assert ((share > 0.02) & (share < 0.25)).all()


def swapped_schema(shared: str = "item_id") -> Schema:
    """The several tags first, so that the id stands third; the history has a column that no candidate has."""
    device = HAND_MADE_SCHEMA.request_fields[0].model_copy(update={"side": "history"})
    item = HAND_MADE_SCHEMA.history_fields[0].model_copy(update={"vocabulary": shared})
    return replace(
        HAND_MADE_SCHEMA,
        candidate_fields=HAND_MADE_SCHEMA.candidate_fields[::-1],
        history_fields=(device, item),
    )


def swapped_batch() -> Batch:
    """Candidates are tags 5 and 3 with id 3, no tags with id 4, and tag 5 with no id."""
    return replace(
        hand_made_batch(),
        candidate_codes=torch.tensor([[5, 3, 3], [0, 0, 4], [5, 0, 0]]),
        history_codes=torch.tensor([[1, 3], [2, 5], [1, 0], [3, 4]]),
        history_offset=torch.tensor([0, 2, 4]),
    )


def test_a_column_that_no_candidate_has_asks_with_zeros():
    batch = swapped_batch()
    values = embeddings(batch)
    layer = HistoryAttention(swapped_schema(), 4, [0, 1], hidden=5)
    torch.testing.assert_close(
        layer.query(values, batch), torch.cat([torch.zeros(3, 4), values[torch.tensor([3, 4, 0])]], dim=1)
    )
    torch.testing.assert_close(layer(values, batch), plain_history(layer, values, batch, [None, 2], layer.activation))


def test_only_the_chosen_columns_are_pooled():
    batch = swapped_batch()
    values = embeddings(batch)
    layer = HistoryAttention(swapped_schema(), 4, [1], hidden=5)
    ids_alone = replace(batch, history_codes=batch.history_codes[:, 1:])
    torch.testing.assert_close(layer(values, batch), plain_history(layer, values, ids_alone, [2], layer.activation))


def test_a_padded_history_holds_the_chosen_columns_oldest_first():
    codes, exists = padded_history(swapped_batch(), [1, 0])
    assert codes.tolist() == [[[3, 1], [5, 2]], [[0, 1], [4, 3]]]
    assert exists.all()
    codes, exists = padded_history(replace(swapped_batch(), history_offset=torch.tensor([0, 1, 4])), [0])
    assert codes[..., 0].tolist() == [[1, 0, 0], [2, 1, 3]]
    assert exists.tolist() == [[True, False, False], [True, True, True]]


def test_a_padded_history_without_any_event_has_one_empty_place():
    batch = hand_made_batch()
    nobody = replace(batch, history_codes=batch.history_codes[:0], history_offset=torch.zeros(3, dtype=torch.long))
    codes, exists = padded_history(nobody, [0])
    assert codes.tolist() == [[[0]], [[0]]]
    assert exists.tolist() == [[False], [False]]


def test_events_match_that_have_the_candidates_id_but_padding_matches_nothing():
    batch = swapped_batch()
    codes, _ = padded_history(batch, [0, 1])
    found = matches(swapped_schema(), batch, codes, [0, 1]).tolist()
    assert found == [[True, False], [False, False], [False, False]], "ids 3, 4 and none; events 3, 5 and none, 4"


def test_without_a_column_in_common_nothing_matches():
    batch = swapped_batch()
    codes, _ = padded_history(batch, [0, 1])
    assert not matches(swapped_schema(shared="other"), batch, codes, [0, 1]).any()


def test_a_match_needs_every_column_that_both_have(planted_dataset: Dataset):
    batch = batch_of(planted_dataset, 60)
    codes, exists = padded_history(batch, [0, 1])
    codes[3, 0, 1] = codes[3, 0, 1] % 2 + 1  # an event of the right item and another brand
    found = matches(schema_of(planted_dataset), batch, codes, [0, 1])
    for n, of in enumerate(batch.request.tolist()):
        for t in range(exists.shape[1]):
            same_item = bool(exists[of, t]) and int(codes[of, t, 0]) == int(batch.candidate_codes[n, 0])
            same_brand = int(codes[of, t, 1]) == int(batch.candidate_codes[n, 1])
            assert bool(found[n, t]) == (same_item and same_brand)
    assert found.any()


@pytest.mark.parametrize("kind", ["prelu", "dice"])
def test_what_weighs_alone_leaves_its_embeddings_out_and_tells_the_sum_of_weights(
    kind: Activation, planted_dataset: Dataset
):
    """Against the layer that tells all, with a column added whose embedding is 1 in every event."""
    batch = batch_of(planted_dataset)
    values = embeddings(batch)
    schema = schema_of(planted_dataset)
    layer = HistoryAttention(schema, 4, [0, 1], hidden=6, kind=kind, told=[1])
    full = HistoryAttention(schema, 4, [0, 1], hidden=6, kind=kind)
    layer.load_state_dict(full.state_dict())
    layer.eval(), full.eval()
    found = layer(values, batch)
    assert layer.out == found.shape[1] == 5
    torch.testing.assert_close(found[:, :4], full(values, batch)[:, 4:])
    for n, of in enumerate(batch.request.tolist()):
        events = slice(int(batch.history_offset[of]), int(batch.history_offset[of + 1]))
        k = values[batch.history_codes[events]].flatten(1)
        q = values[batch.candidate_codes[n, ITEM_AND_BRAND]].flatten()
        unit = full.from_query(q) + full.from_event(k) + full.from_product(q * k)
        torch.testing.assert_close(found[n, 4], full.weight(full.activation(unit)).sum())
    with torch.inference_mode():
        for request in range(batch.requests):
            one = BatchBuilder(planted_dataset).build(np.array([request]))
            own = torch.stack([values[(batch.rows == row).nonzero()[0, 0]] for row in one.rows])
            torch.testing.assert_close(layer(own, one), found[batch.request == request], atol=1e-5, rtol=1e-5)
