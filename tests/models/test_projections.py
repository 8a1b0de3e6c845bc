"""Vectors are projected before a model sees them, whichever it is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from models.test_model_contract import NETWORKS, VARIANTS, batch_of, train_on
from musenet.dataset.batch import Batch, schema_of
from musenet.dataset.dataset import Dataset
from musenet.evaluation.importance import groups_of, permute
from musenet.models.baselines.boosted_trees import TreeColumns
from musenet.models.baselines.options import LightGbmOptions
from musenet.models.interface import ClickModel
from musenet.models.registry import AnyModelOptions, build_model
from musenet.models.vectors import NAME, projection_of
from musenet.preparation.prepare import prepare
from preparation.logs import MemorySource, recipe
from vector_logs import FEATURES, SIDES, vector_log

FIRST = {model: next(name for name, options in VARIANTS.items() if options["name"] == model) for model in NETWORKS}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("vectors") / "dataset"
    return prepare(MemorySource(vector_log(requests=160)), recipe(features=FEATURES), folder).dataset


def new_model(options: dict[str, Any], dataset: Dataset) -> ClickModel:
    torch.manual_seed(1)
    return build_model(TypeAdapter(AnyModelOptions).validate_python(options), schema_of(dataset))  # type: ignore[var-annotated]


@pytest.fixture(scope="module")
def batch(dataset: Dataset) -> Batch:
    return batch_of(dataset, np.arange(60))


def projected_slowly(model: ClickModel, dataset: Dataset, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """What the vectors of requests and of candidates become: each row by row, each number a sum of products."""
    found: dict[str, list[list[float]]] = {"request": [[] for _ in range(batch.requests)]}
    found["candidate"] = [[] for _ in range(batch.candidates)]
    start = {"request": 0, "candidate": 0}
    for side, name in SIDES.items():
        field, of = dataset.field(side, name), "request" if side in ("user", "context") else "candidate"  # type: ignore[arg-type]
        weight, vectors = projection_of(model, field).tolist(), getattr(batch, f"{of}_vectors").tolist()
        for row, vector in enumerate(vectors):
            own = vector[start[of] : start[of] + field.width]
            found[of][row] += [sum(w * z for w, z in zip(line, own, strict=True)) for line in weight]
        start[of] += field.width
    return np.array(found["request"]), np.array(found["candidate"])


def test_models_see_the_projections_behind_all_other_numbers(dataset: Dataset, batch: Batch) -> None:
    model = new_model(VARIANTS["base"], dataset)
    seen: list[Batch] = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    logit = model(batch).logit
    of_request, of_candidate = projected_slowly(model, dataset, batch)
    for name, added in (("request_dense", of_request), ("candidate_dense", of_candidate)):
        expected = np.concatenate([getattr(batch, name).numpy(), added], axis=1)
        np.testing.assert_allclose(getattr(seen[0], name).detach().numpy(), expected, atol=1e-5)
    options = TypeAdapter(AnyModelOptions).validate_python(VARIANTS["base"])  # type: ignore[var-annotated]
    without = build_model(options, schema_of(dataset).projected)
    without.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith(NAME)})
    torch.testing.assert_close(without(seen[0]).logit, logit)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_learns_from_vectors(name: str, dataset: Dataset, batch: Batch) -> None:
    """Labels are what one number of the candidate's vector says, and nothing else tells them."""
    options = VARIANTS[FIRST[name]]
    place = next(
        start for start in range(batch.candidate_vectors.shape[1]) if batch.candidate_vectors[:, start].std() > 0.5
    )
    planted = replace(batch, label=(batch.candidate_vectors[:, place] > 0.3).float())
    model = new_model(options, dataset)
    before = {field: projection_of(model, field).clone() for field in dataset.manifest.fields if field.kind == "vector"}
    train_on(model, planted, steps=3)
    for field, weight in before.items():
        assert not torch.equal(projection_of(model, field), weight), field.name
    model.eval()
    with torch.inference_mode():
        changed = replace(batch, candidate_vectors=-batch.candidate_vectors)
        assert not torch.allclose(model(changed).logit, model(batch).logit)


def test_a_model_learns_what_a_vector_alone_tells(dataset: Dataset, batch: Batch) -> None:
    plain = batch.candidate_vectors[:, 1] - batch.candidate_vectors[:, 2]
    planted = replace(batch, label=(plain > 0).float())
    model = new_model(VARIANTS["base"], dataset)
    train_on(model, planted, steps=80)
    model.eval()
    with torch.inference_mode():
        right = ((model(planted).logit > 0) == (planted.label > 0)).float().mean()
    assert right > 0.95


def test_trees_get_each_number_of_a_vector_as_a_column(dataset: Dataset, batch: Batch) -> None:
    schema = schema_of(dataset)
    columns = TreeColumns(schema, LightGbmOptions(repeat_features=False))
    table = columns(batch)
    of_candidate = batch.candidate_vectors.shape[1]
    np.testing.assert_array_equal(table[:, -of_candidate:], batch.candidate_vectors.numpy())
    dense = len(schema.request_dense) + len(schema.candidate_dense)
    begin = table.shape[1] - dense - batch.request_vectors.shape[1] - of_candidate
    of_request = table[:, begin + len(schema.request_dense) :][:, : batch.request_vectors.shape[1]]
    np.testing.assert_array_equal(of_request, batch.request_vectors[batch.request].numpy())
    assert len(columns.categorical) == table.shape[1]


def test_a_vector_and_whether_it_is_missing_are_permuted_as_one_column(dataset: Dataset, batch: Batch) -> None:
    schema = schema_of(dataset)
    groups = {group.name: group for group in groups_of(schema)}
    assert set(SIDES.values()) <= groups.keys()
    group = groups["title_vector"]
    changed = permute(batch, group, np.random.default_rng(1))
    names = [field.name for field in schema.candidate_dense]
    whole = torch.cat(
        [batch.candidate_dense[:, [names.index("title_vector.missing")]], batch.candidate_vectors[:, :6]], 1
    )
    dealt = torch.cat(
        [changed.candidate_dense[:, [names.index("title_vector.missing")]], changed.candidate_vectors[:, :6]], 1
    )
    assert not torch.equal(whole, dealt)
    assert sorted(whole.tolist()) == sorted(dealt.tolist())
    assert torch.equal(changed.candidate_vectors[:, 6:], batch.candidate_vectors[:, 6:])
    others = [place for place, name in enumerate(names) if name != "title_vector.missing"]
    assert torch.equal(changed.candidate_dense[:, others], batch.candidate_dense[:, others])
    of_request = permute(batch, groups["query_vector"], np.random.default_rng(1))
    assert torch.equal(of_request.request_vectors[:, :3], batch.request_vectors[:, :3])
    assert not torch.equal(of_request.request_vectors[:, 3:], batch.request_vectors[:, 3:])


def test_a_model_without_vectors_is_what_it_was(planted_dataset: Dataset) -> None:
    model = new_model(VARIANTS["base"], planted_dataset)
    assert not any(name.startswith(NAME) for name, _ in model.named_modules() if name)
    assert schema_of(planted_dataset).projected == schema_of(planted_dataset)
