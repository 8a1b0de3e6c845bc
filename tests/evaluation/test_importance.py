"""Permutation importance on the planted dataset, whose labels follow a known rule."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from musenet.dataset.batch import Batch, schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Field
from musenet.evaluation.importance import Group, Importance, groups_of, permutation_importance, permute
from musenet.metrics import auc
from musenet.models.interface import ClickModel, Prediction
from planted import hand_made_batch, write_planted


class Rule(ClickModel):
    """Knows the planted rule: on a phone the even brands are clicked, elsewhere the cheap items."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        schema = schema_of(dataset)
        self.nothing = nn.Parameter(torch.zeros(1))
        self.device = _first_column(schema.request_fields, "device")
        self.brand = _first_column(schema.candidate_fields, "brand")
        self.price = [field.name for field in schema.candidate_dense].index("price")
        self.phone = dataset.embedding_offset["device"] + 3
        self.first_brand = dataset.embedding_offset["brand"] + 3

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        phone = (batch.rows[batch.request_codes[:, self.device]] == self.phone)[batch.request]
        brand = batch.rows[batch.candidate_codes[:, self.brand]] - self.first_brand
        cheap = batch.candidate_dense[:, self.price] < 0
        return Prediction(torch.where(phone, brand % 2 == 0, cheap).float())


def _first_column(fields: tuple[Field, ...], name: str) -> int:
    widths = {field.name: field.width for field in fields}
    return sum(width for _, width in zip(range(list(widths).index(name)), widths.values(), strict=False))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_planted(tmp_path)


def importance_of(dataset: Dataset, repeats: int = 4) -> dict[str, Importance]:
    requests = np.arange(sum(period.end - period.begin for period in dataset.manifest.splits.values()))
    scenario = np.asarray(dataset.requests.true_scenario)[requests].astype(np.int64)
    found = permutation_importance(Rule(dataset), dataset, requests, scenario, repeats=repeats, resamples=50)
    return {one.name: one for one in found}


def test_what_the_label_follows_matters_and_nothing_else(dataset: Dataset) -> None:
    found = importance_of(dataset)
    deciding = {"device", "brand", "price"}
    assert set(list(found)[:3]) == deciding, "the largest come first"
    for name, one in found.items():
        if name in deciding:
            assert one.overall.value > 0.05
            assert 0 < one.overall.low <= one.overall.value <= one.overall.high
        else:
            assert one.overall == one.scenarios[0].__class__(0.0, 0.0, 0.0), name


def test_a_scenario_has_importances_of_its_own(dataset: Dataset) -> None:
    found = importance_of(dataset)
    phone, elsewhere = 0, 1
    assert found["brand"].scenarios[phone].value > 0.2
    assert found["brand"].scenarios[elsewhere].value == 0
    assert found["price"].scenarios[elsewhere].value > 0.2
    assert found["price"].scenarios[phone].value == 0


def test_the_loss_is_that_of_the_permuted_columns(dataset: Dataset) -> None:
    requests = np.arange(30)
    one = next(
        one
        for one in permutation_importance(Rule(dataset), dataset, requests, repeats=1, resamples=5, seed=3)
        if one.name == "price"
    )
    batch = BatchBuilder(dataset).build(requests)
    groups = groups_of(schema_of(dataset))
    place = [group.name for group in groups].index("price")
    column = Rule(dataset).price
    changed = batch.candidate_dense.clone()
    changed[:, column] = changed[np.random.default_rng([3, place, 0]).permutation(batch.candidates), column]
    model = Rule(dataset)
    before = auc(batch.label.numpy(), model(batch).logit.numpy())
    batch.candidate_dense.copy_(changed)
    after = auc(batch.label.numpy(), model(batch).logit.numpy())
    assert one.overall.value == pytest.approx(before - after)
    assert one.scenarios == []


def test_columns_made_of_one_column_of_the_log_are_one_group(dataset: Dataset) -> None:
    named = [
        field.model_copy(update={"column": "price" if field.name.startswith("price") else field.name})
        for field in dataset.manifest.fields
    ]
    dataset.manifest = dataset.manifest.model_copy(update={"fields": named})
    groups = {group.name: group for group in groups_of(schema_of(dataset))}
    assert "price_bucket" not in groups
    assert len(groups["price"].codes) == len(groups["price"].dense) == 1
    assert len(groups["tag"].codes) == 3
    assert "rank" not in groups, "positions are fixed when scoring"


@pytest.mark.parametrize("name", ["tag", "spend", "item_id", "price", "repeat features"])
def test_a_group_keeps_its_rows_together_and_leaves_all_else(dataset: Dataset, name: str) -> None:
    batch = BatchBuilder(dataset).build(np.arange(40))
    group = next(group for group in groups_of(schema_of(dataset)) if group.name == name)
    changed = permute(batch, group, np.random.default_rng(0))
    before, after = _parts(batch, group), _parts(changed, group)
    assert not torch.equal(before, after)
    assert sorted(map(tuple, before.tolist())) == sorted(map(tuple, after.tolist()))
    touched = {
        "request": {"request_codes", "request_dense"},
        "candidate": {"candidate_codes", "candidate_dense"},
        "repeats": {"repeat_indicator", "repeat_features"},
    }[group.side]
    for part, value in batch.__dict__.items():
        if part not in touched and isinstance(value, Tensor):
            assert value is getattr(changed, part), part


def _parts(batch: Batch, group: Group) -> Tensor:
    if group.side == "repeats":
        return torch.cat([batch.repeat_indicator[:, None].float(), batch.repeat_features], dim=1)
    codes, dense = (getattr(batch, f"{group.side}_{kind}") for kind in ("codes", "dense"))
    return torch.cat([codes[:, list(group.codes)].float(), dense[:, list(group.dense)]], dim=1)


def test_a_history_goes_whole_to_another_request() -> None:
    class Swap(np.random.Generator):
        def permutation(self, *_: int) -> np.ndarray:  # type: ignore[override]
            return np.array([1, 0])

    batch = hand_made_batch()
    changed = permute(batch, Group("history", "history"), Swap(np.random.PCG64()))
    assert batch.history_offset.tolist() == [0, 2, 2]
    assert changed.history_offset.tolist() == [0, 0, 2]
    assert changed.history_codes.tolist() == batch.history_codes.tolist()
