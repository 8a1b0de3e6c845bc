"""What trees see of a candidate, value by value, and that a model of trees keeps what models promise."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from musenet.dataset.batch import Batch, schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import FIRST_VALUE, FieldSide
from musenet.errors import UserError
from musenet.models.baselines.boosted_trees import LightGbm, TreeColumns
from musenet.models.baselines.options import LightGbmOptions, library
from planted import REQUESTS

lightgbm = pytest.importorskip("lightgbm")


def batch_of(dataset: Dataset, requests: list[int] | range) -> Batch:
    return BatchBuilder(dataset).build(np.asarray(requests, dtype=np.int64))


def model_of(dataset: Dataset, **options) -> LightGbm:
    """Trees that have learned the training requests by heart."""
    model = LightGbm(LightGbmOptions(**options), schema_of(dataset))
    batch = batch_of(dataset, range(REQUESTS["train"]))
    categorical = np.flatnonzero(model.columns.categorical).tolist()
    data = lightgbm.Dataset(model.columns(batch), batch.label.numpy(), categorical_feature=categorical)
    parameters = {"objective": "binary", "num_leaves": 8, "min_data_in_leaf": 1, "verbosity": -1}
    parameters |= {"min_data_per_group": 1, "cat_smooth": 0, "cat_l2": 0, "deterministic": True, "num_threads": 1}
    model.grown(lightgbm.train(parameters, data, 60).model_to_string())
    return model


def slow_columns(dataset: Dataset, request: int, candidate: int, seen: list[str], repeats: bool) -> list[float]:
    """The same from the dataset's own columns, one value at a time."""
    events = dataset.history_of(np.array([request]))[0]
    rows = {"user": dataset.requests.user[request], "item": dataset.candidates.item[candidate]}
    rows |= {"context": request, "candidate": candidate, "history": events}

    def value(side: FieldSide, name: str):
        return dataset.column(dataset.field(side, name))[rows[side]]

    def several(codes):
        return [codes[0] if codes[0] else np.nan, np.count_nonzero(codes)]

    codes = [value("user", "user_id")] * ("user" in seen) + several(value("user", "tag")) + [value("user", "age")]
    codes += [value("context", "device"), value("context", "hours_bucket")]
    codes += [value("item", "item_id")] * ("item" in seen)
    codes += [value("item", "brand"), *several(value("item", "label_tag"))]
    codes += [value("candidate", "price_bucket"), FIRST_VALUE]  # every candidate at the most frequent position
    of_history = [name for name in ("item_id", "brand") if name == "brand" or "item" in seen]
    last = [value("history", name)[-1] if len(events) else np.nan for name in of_history]
    matched = [name for name in ("item_id", "brand") if name == "brand" or "item" in seen or "match" in seen]
    shares = [np.mean(value("history", name) == value("item", name)) if len(events) else 0 for name in matched]
    numbers = [value("user", "spend"), value("context", "hours"), value("item", "quality"), value("candidate", "price")]
    features = batch_of(dataset, [request]).repeat_features[candidate - dataset.requests.candidate_offset[request]]
    return [*codes, *last, len(events), *shares, *numbers, *(features.tolist() if repeats else [])]


@pytest.mark.parametrize(
    ("ids", "repeats"),
    [(["user", "item"], True), ([], False), ({"user": True, "item": "match"}, True), (["item"], False)],
)
def test_columns_are_those_of_the_dataset(ids, repeats: bool, planted_dataset: Dataset):
    options = LightGbmOptions(ids=ids, repeat_features=repeats)
    columns = TreeColumns(schema_of(planted_dataset), options)
    found = columns(batch_of(planted_dataset, range(40)))
    offset = planted_dataset.requests.candidate_offset
    expected = [
        slow_columns(planted_dataset, request, candidate, options.seen_ids, repeats)
        for request in range(40)
        for candidate in range(offset[request], offset[request + 1])
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert len(columns.categorical) == found.shape[1]


def test_answers_are_the_trees_own_and_neighbours_do_not_matter(planted_dataset: Dataset):
    model = model_of(planted_dataset)
    together = batch_of(planted_dataset, [70, 63, 75, 99, 61])
    logit = model(together).logit
    np.testing.assert_allclose(torch.sigmoid(logit), model.trees.predict(model.columns(together)), rtol=1e-5)
    for place, request in enumerate([70, 63, 75, 99, 61]):
        alone = model(batch_of(planted_dataset, [request])).logit
        torch.testing.assert_close(logit[together.request == place], alone)


def test_users_without_history_and_rows_in_another_order_are_answered_alike(planted_dataset: Dataset):
    empty = np.flatnonzero(np.isnan(planted_dataset.requests.repeat_fraction))[:4]
    model, batch = model_of(planted_dataset), batch_of(planted_dataset, empty)
    assert len(batch.history_codes) == 0
    place = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(len(batch.rows) - 1)])
    other = replace(
        batch,
        rows=batch.rows[place.argsort()],
        request_codes=place[batch.request_codes],
        candidate_codes=place[batch.candidate_codes],
    )
    assert torch.isfinite(model(batch).logit).all()
    assert torch.equal(model(other).logit, model(batch).logit)


def test_the_state_is_the_trees(planted_dataset: Dataset):
    model, batch = model_of(planted_dataset), batch_of(planted_dataset, range(30))
    loaded = LightGbm(LightGbmOptions(), schema_of(planted_dataset))
    assert not loaded(batch).logit.any()
    loaded.load_state_dict(model.state_dict())
    assert torch.equal(loaded(batch).logit, model(batch).logit)
    trees = model.trees.dump_model()["tree_info"]
    assert model.count_parameters() == sum(2 * tree["num_leaves"] - 1 for tree in trees)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "lightgbm", None)
    with pytest.raises(UserError, match=r"lightgbm needs LightGBM .* pip install 'musenet\[rivals\]'"):
        library()
