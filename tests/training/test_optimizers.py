"""Lazy and dense Adam against torch's own optimizers."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from musenet.models.baselines.base_model import BaseModel
from musenet.models.baselines.options import BaseModelOptions
from musenet.models.embedding import EmbeddingTable
from musenet.training.optimizers import DenseAdam, LazyAdam, Optimizers
from planted import HAND_MADE_SCHEMA, hand_made_batch

ROWS, SIZE, RATE = 30, 4, 0.01


def new_table() -> EmbeddingTable:
    torch.manual_seed(0)
    table = EmbeddingTable(ROWS, SIZE)
    table.weight.mul_(0.1)  # small, so that an absolute tolerance means something in float32
    return table


def lookups(steps: int, all_rows: bool = False) -> list[Tensor]:
    """Distinct rows of each step, padding first."""
    random = torch.Generator().manual_seed(1)
    counts = [ROWS - 1 if all_rows else 3 + step % 9 for step in range(steps)]
    return [torch.cat([torch.zeros(1).long(), 1 + torch.randperm(ROWS - 1, generator=random)[:n]]) for n in counts]


def loss_of(values: Tensor, step: int) -> Tensor:
    """Gradients that differ from row to row and step to step, and reach the padding row as well."""
    return (values * torch.linspace(-1, 2, values.numel()).view_as(values) * (1 + step % 3) + values.square()).sum()


def run_lazy(
    rows_of_steps: list[Tensor], weight_decay: float = 0.0, betas: tuple[float, float] = (0.9, 0.999)
) -> Tensor:
    table = new_table()
    optimizer = LazyAdam(table, RATE, betas, weight_decay=weight_decay)
    for step, rows in enumerate(rows_of_steps):
        loss_of(table.look_up(rows), step).backward()
        optimizer.step()
    return table.weight.detach()


def run_torch(
    optimizer_type: type[torch.optim.Optimizer], rows_of_steps: list[Tensor], sparse: bool, **options: Any
) -> Tensor:
    weight = nn.Parameter(new_table().weight.detach().clone())
    optimizer = optimizer_type([weight], lr=RATE, **options)  # type: ignore[call-arg, arg-type]
    for step, rows in enumerate(rows_of_steps):
        optimizer.zero_grad()
        values = nn.functional.embedding(rows, weight, sparse=sparse)
        kept = torch.cat([values[:1].detach(), values[1:]])  # padding does not learn
        loss_of(kept, step).backward()
        optimizer.step()
    return weight.detach()


def test_lazy_adam_equals_sparse_adam():
    rows = lookups(60)
    expected = run_torch(torch.optim.SparseAdam, rows, sparse=True)
    torch.testing.assert_close(run_lazy(rows), expected, atol=1e-7, rtol=0)


def test_lazy_adam_equals_dense_adam_when_every_row_occurs_in_every_step():
    rows = lookups(60, all_rows=True)
    expected = run_torch(torch.optim.Adam, rows, sparse=False)
    torch.testing.assert_close(run_lazy(rows), expected, atol=1e-6, rtol=0)


def test_decay_equals_adamw_when_every_row_occurs_in_every_step():
    rows = lookups(60, all_rows=True)
    expected = run_torch(torch.optim.AdamW, rows, sparse=False, weight_decay=0.5)
    torch.testing.assert_close(run_lazy(rows, weight_decay=0.5), expected, atol=1e-6, rtol=0)
    assert not torch.allclose(run_lazy(rows), expected, atol=1e-3)


def test_other_betas_are_those_of_adam():
    rows, betas = lookups(60, all_rows=True), (0.5, 0.9)
    expected = run_torch(torch.optim.Adam, rows, sparse=False, betas=betas)
    torch.testing.assert_close(run_lazy(rows, betas=betas), expected, atol=1e-6, rtol=0)
    assert not torch.allclose(run_lazy(rows), expected, atol=1e-3)


def test_table_and_networks_have_the_same_betas():
    model = BaseModel(BaseModelOptions(embedding=2, hidden=[4]), HAND_MADE_SCHEMA)
    optimizers = Optimizers(model, 0.1, 0.01, betas=(0.8, 0.95))
    assert optimizers.lazy.betas == (0.8, 0.95)
    assert optimizers.dense.betas == (0.8, 0.95)


@pytest.mark.parametrize(("betas", "weight_decay"), [((0.9, 0.999), 0.0), ((0.5, 0.9), 0.1)])
def test_dense_adam_has_the_bits_of_adamw(betas: tuple[float, float], weight_decay: float):
    """With other rates by group and share, and parameters without a gradient in some steps, or in all."""
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(size)) for size in (3, 5, 2, 4)]
    torchs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    dense = DenseAdam([(ours[:2], 0.1), (ours[2:], 0.01)], betas, weight_decay=weight_decay)
    groups = [{"params": torchs[:2]}, {"params": torchs[2:]}]
    adamw = torch.optim.AdamW(groups, betas=betas, weight_decay=weight_decay, fused=True)
    for step in range(20):
        share = 1 - step / 40
        for group, rate in zip(adamw.param_groups, (0.1, 0.01), strict=True):
            group["lr"] = share * rate
        for place, (one, other) in enumerate(zip(ours, torchs, strict=True)):
            one.grad = None if place == 3 or (place == 1 and step % 3) else torch.randn_like(one)
            other.grad = one.grad
        dense.step(share)
        adamw.step()
    assert all(torch.equal(one, other) for one, other in zip(ours, torchs, strict=True))


def test_networks_decay_as_well():
    torch.manual_seed(0)
    model, batch = BaseModel(BaseModelOptions(embedding=2, hidden=[4]), HAND_MADE_SCHEMA), hand_made_batch()
    idle = nn.Parameter(torch.ones(3))  # with a gradient of zero, a step does nothing but decay
    model.register_parameter("idle", idle)
    optimizers = Optimizers(model, 0.1, 0.01, weight_decay=0.2)
    (model.losses(model(batch), batch, 1.0)["click"].value + 0 * idle.sum()).backward()
    optimizers.step()
    torch.testing.assert_close(idle.detach(), torch.full((3,), 1 - 0.1 * 0.2))


def test_lazy_adam_differs_from_dense_adam_when_rows_are_left_out():
    rows = lookups(60)
    assert not torch.allclose(run_lazy(rows), run_torch(torch.optim.Adam, rows, sparse=False), atol=1e-3)


def test_rows_that_a_step_does_not_use_stay_as_they_are():
    table = new_table()
    optimizer, before = LazyAdam(table, RATE), table.weight.clone()
    rows = torch.tensor([0, 7, 3])
    for step in range(5):
        loss_of(table.look_up(rows), step).backward()
        optimizer.step()
    changed = (table.weight != before).any(1).nonzero()[:, 0].tolist()
    assert changed == [3, 7]
    assert optimizer.mean.any(1).nonzero()[:, 0].tolist() == [3, 7]


def test_the_padding_row_stays_zero():
    assert (run_lazy(lookups(20))[0] == 0).all()


@pytest.mark.parametrize("looked_up", [False, True])
def test_a_step_without_gradient_changes_nothing(looked_up: bool):
    table = new_table()
    optimizer, before = LazyAdam(table, RATE), table.weight.clone()
    if looked_up:
        table.look_up(torch.tensor([0, 7]))
    optimizer.step()
    assert optimizer.steps == 0
    assert torch.equal(table.weight, before)


def first_step(share: float) -> tuple[Tensor, Tensor]:
    """By how much the first step at this share of the rates moves the table and the last bias."""
    torch.manual_seed(0)
    model, batch = BaseModel(BaseModelOptions(embedding=2, hidden=[4]), HAND_MADE_SCHEMA), hand_made_batch()
    optimizers = Optimizers(model, 0.1, 0.01)
    bias = model.mlp.mlp.rest[-1].get_parameter("bias")
    table, before = model.table.weight.clone(), bias.detach().clone()
    model.losses(model(batch), batch, 1.0)["click"].value.backward()
    optimizers.step(share)
    return (model.table.weight - table).abs().amax(), (bias.detach() - before).abs().amax()


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_step_at_a_share_of_the_rates(share: float):
    """Adam's first step is as long as the learning rate."""
    table, bias = first_step(share)
    assert float(table) == pytest.approx(0.01 * share, rel=1e-3)
    assert float(bias) == pytest.approx(0.1 * share, rel=1e-3)
