"""The fast layers against plain networks and naive loops."""

from typing import Any

import pytest
import torch

from musenet.models.embedding import EmbeddingTable, FieldEmbeddings, mean_of_history
from musenet.models.layers import ParallelMLP, TwoSidedMLP
from plain_networks import networks_of
from planted import hand_made_batch, planted_fields


@pytest.mark.parametrize("hidden", [[5], [6, 4]])
def test_parallel_mlp_equals_separate_networks(hidden: list[int]):
    layer, x = ParallelMLP(3, 4, hidden, outputs=2), torch.randn(7, 4)
    expected = torch.stack([network(x) for network in networks_of(layer)])
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("hidden", [[5], [6, 4]])
def test_two_sided_mlp_equals_separate_networks_on_the_concatenation(hidden: list[int]):
    layer, request, candidate = TwoSidedMLP(3, 4, 2, hidden), torch.randn(3, 4), torch.randn(6, 2)
    of = torch.tensor([0, 0, 1, 2, 2, 2])
    whole = torch.cat([request[of], candidate], dim=1)
    expected = torch.cat([network(whole) for network in networks_of(layer)], dim=1).T
    torch.testing.assert_close(layer(layer.request_part(request), candidate, of), expected)


def test_two_sided_mlp_starts_like_a_linear_layer_of_both_sides():
    layer = TwoSidedMLP(4, 30, 70, [50])
    for weight in (layer.from_request.weight, layer.mlp.first.weight):
        assert 0.09 < float(weight.detach().abs().max()) <= 0.1, "uniform within 1/sqrt(30 + 70)"


def test_padding_row_of_the_table_is_zero():
    table = EmbeddingTable(9, 4)
    assert (table.weight[0] == 0).all()
    assert (table.weight[1:] != 0).all()


def test_look_up_ends_the_backward_pass_at_the_batchs_rows():
    table = EmbeddingTable(9, 4)
    values = table.look_up(torch.tensor([0, 5, 2]))
    values.square().sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad, 2 * table.weight[[0, 5, 2]])
    assert table.weight.grad is None


def test_history_mean_equals_a_loop():
    values = torch.randn(6, 4)
    codes, offset = torch.tensor([[1, 2], [3, 4], [5, 1], [2, 2]]), torch.tensor([0, 0, 3, 4])
    expected = torch.zeros(3, 8)
    for request in range(3):
        events = [codes[t] for t in range(int(offset[request]), int(offset[request + 1]))]
        for column in range(2):
            for event in events:
                expected[request, 4 * column : 4 * column + 4] += values[event[column]] / len(events)
    torch.testing.assert_close(mean_of_history(values, codes, offset), expected)


def test_history_mean_without_any_event_or_column():
    values = torch.randn(6, 4)
    none = mean_of_history(values, torch.zeros(0, 2, dtype=torch.long), torch.tensor([0, 0, 0]))
    assert none.tolist() == [[0.0] * 8] * 2
    assert mean_of_history(values, torch.zeros(3, 0, dtype=torch.long), torch.tensor([0, 1, 3])).shape == (2, 0)


@pytest.mark.parametrize("chosen", [["user_id", "tag", "age"], ["tag", "age"], ["age"], ["tag"], []])
def test_field_embeddings_equal_a_loop(chosen: list[str]):
    fields = tuple(field for field in planted_fields(3) if field.side == "user" and field.kind != "dense")
    values = torch.randn(8, 4)
    values[0] = 0
    codes = torch.tensor([[1, 2, 3, 0, 5], [2, 0, 0, 0, 6], [7, 4, 4, 1, 0]])
    layer = FieldEmbeddings(fields, [field for field in fields if field.name in chosen], 4)
    rows: list[Any] = []
    for row in codes:
        parts = {"user_id": values[row[0]], "age": values[row[4]]}
        tags = [values[code] for code in row[1:4] if code > 0]
        parts["tag"] = torch.stack(tags).mean(0) if tags else torch.zeros(4)
        several = [parts["tag"]] if "tag" in chosen else []
        rows.append(torch.cat([*(parts[n] for n in ("user_id", "age") if n in chosen), *several, torch.zeros(0)]))
    expected = torch.stack(rows)
    assert layer.out == expected.shape[1]
    torch.testing.assert_close(layer(values, codes), expected)


def test_the_hand_made_batch_holds_what_batches_promise():
    batch = hand_made_batch()
    assert (batch.requests, batch.candidates) == (2, 3)
    assert batch.rows[0] == 0
    assert batch.history_offset[-1] == len(batch.history_codes)
