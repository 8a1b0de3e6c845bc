"""Every model's graphs answer as the model does, on requests of every size."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.test_model_contract import NETWORKS, VARIANTS, batch_of, model_of, train_on, training_batch
from musenet.dataset.batch import Batch, schema_of
from musenet.dataset.dataset import Dataset
from musenet.errors import ExportError
from musenet.models.interface import ClickModel, Prediction
from musenet.models.musenet.intentions import IntentionModules
from musenet.models.musenet.model import Musenet, Sides
from musenet.serving.export.graphs import EXPLANATIONS, export_graphs
from musenet.serving.export.one_request import one_request
from musenet.serving.scorer.runtime import Runtime
from planted import REQUESTS, SMALL_MUSENET

pytestmark = pytest.mark.slow

BASELINES = (
    *("base", "base-match", "wide-deep", "deepfm", "ncf", "din", "din-prelu", "repeatnet", "dcn", "ple"),
    *("revman", "star", "adaptdhm", "sarnet", "treems", "atrank", "hifn"),
)
TWO = SMALL_MUSENET | {"scenarios": 2}
EXPORTED: dict[str, dict[str, Any]] = {
    **{variant: VARIANTS[variant] for variant in (*BASELINES, "soft", "hard", "crosses")},
    "paper-soft": TWO | {"objective": "paper"},
    "auto": SMALL_MUSENET | {"scenarios": "auto", "pruning": {"start": 3}},
    "gate-probability": TWO | {"assignment": "gate", "form": "probability"},
    "uniform-plain": TWO | {"assignment": "uniform", "form": "plain"},
    "predefined-attention": TWO | {"assignment": "predefined", "history_encoder": "attention"},
}
"""Each kind of layer once: a model takes long to trace, and what its options choose does not depend on each other."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def trained(variant: str, dataset: Dataset) -> ClickModel:
    """A few steps away from the beginning, so that no statistic or buffer is still at rest."""
    model = model_of(EXPORTED[variant], dataset)
    train_on(model, training_batch(dataset), steps=6)
    model.eval()
    return model


def inputs_of(batch: Batch, table: torch.Tensor) -> dict[str, NDArray[Any]]:
    assert batch.predefined_scenario is not None
    history = batch.history_codes if len(batch.history_codes) else batch.history_codes.new_zeros(1, 2)
    return {
        "values": table[batch.rows].numpy(),
        "request_codes": batch.request_codes.numpy(),
        "history_codes": history.numpy(),
        "request_dense": batch.request_dense.numpy(),
        "predefined_scenario": batch.predefined_scenario.numpy(),
        "candidate_codes": batch.candidate_codes.numpy(),
        "candidate_dense": batch.candidate_dense.numpy(),
        "repeat_features": batch.repeat_features.numpy(),
    }


def inputs_of_many(batch: Batch, table: torch.Tensor) -> dict[str, NDArray[Any]]:
    lengths = batch.history_offset.diff()
    there = torch.arange(max(1, int(lengths.max()))) < lengths[:, None]
    codes = torch.zeros(*there.shape, batch.history_codes.shape[1], dtype=torch.long)
    codes[there] = batch.history_codes
    more = {"history_codes": codes, "history_lengths": lengths, "request": batch.request}
    return inputs_of(batch, table) | {name: value.numpy() for name, value in more.items()}


def many_candidates(batch: Batch, count: int) -> Batch:
    """The request with `count` candidates, its own over and over with other numbers."""
    of = torch.arange(count) % batch.candidates
    shift = torch.linspace(-1, 1, count)[:, None]
    columns = ("candidate_codes", "request", "repeat_indicator", "repeat_features", "label")
    repeated = {name: getattr(batch, name)[of] for name in columns}
    return replace(batch, **repeated, candidate_dense=batch.candidate_dense[of] + shift)


def requests_of_every_kind(dataset: Dataset) -> list[Batch]:
    """One candidate, 500, no history, a whole one, and an unknown predefined scenario."""
    sizes = np.diff(dataset.requests.candidate_offset)
    fraction = dataset.requests.repeat_fraction
    first = REQUESTS["train"]
    chosen = [np.flatnonzero(sizes == 1)[0], np.flatnonzero(np.isnan(fraction))[0], *range(first, first + 4)]
    batches = [batch_of(dataset, [row]) for row in chosen]
    unknown = replace(batches[2], predefined_scenario=torch.tensor([-1]))
    return [*batches, unknown, many_candidates(batches[3], 500), many_candidates(batches[1], 500)]


def export_and_compare(model: ClickModel, dataset: Dataset, folder: Path) -> None:
    table = model.table.weight.clone()
    batches = requests_of_every_kind(dataset)
    with torch.inference_mode():
        expected = [model(batch) for batch in batches]
    export_graphs(model, schema_of(dataset), folder)
    runtime = Runtime(folder)
    for batch, prediction in zip(batches, expected, strict=True):
        inputs = inputs_of(batch, table)
        np.testing.assert_allclose(runtime.logit(inputs), prediction.logit.numpy(), atol=1e-5, rtol=0)
        explained = runtime.explain(inputs)
        for name in EXPLANATIONS[:3]:
            value = getattr(prediction, name)
            assert (name in explained) == (value is not None)
            if value is not None:
                np.testing.assert_allclose(explained[name], value.numpy(), atol=1e-5, rtol=0)
    asked = np.random.default_rng(1).permutation(len(dataset.requests.user))
    for rows in (asked[:60], asked[60:61], asked[61:64]):
        batch = batch_of(dataset, rows)
        with torch.inference_mode():
            told = model(batch)
        found = runtime.many(inputs_of_many(batch, table))
        np.testing.assert_allclose(found["logit"], told.logit.numpy(), atol=1e-5, rtol=0)
        if told.log_assignment is not None:
            np.testing.assert_allclose(np.exp(found["log_assignment"]), told.log_assignment.exp().numpy(), atol=1e-5)


def test_every_registered_model_is_exported_in_some_form() -> None:
    assert {options["name"] for options in EXPORTED.values()} == NETWORKS


@pytest.mark.parametrize("variant", EXPORTED)
def test_graphs_answer_as_the_model(
    variant: str, planted_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each of the two that are traced is traced once: what torch cannot trace it tries again, for seconds more."""
    traced: list[Any] = []

    def counted(*args: Any, **options: Any) -> Any:
        traced.append(args)
        return export(*args, **options)

    export = torch.export.export
    monkeypatch.setattr(torch.export, "export", counted)
    export_and_compare(trained(variant, planted_dataset), planted_dataset, tmp_path)
    assert len(traced) == 2  # so they were not lent either, see `traced_graphs.py`


class Recent(IntentionModules):
    """Adds how long ago the last was, as a class of another package may."""

    def forward(
        self, request: torch.Tensor, candidate: torch.Tensor, batch: Batch, scenario: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logit, probability = super().forward(request, candidate, batch, scenario)
        return logit + 0.5 * batch.repeat_features[:, 2:], probability


class AddsInForward(Musenet):
    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        found = super().forward(batch, progress)
        return replace(found, logit=found.logit + batch.repeat_features.sum(1))


class AddsInPredict(Musenet):
    def predict(self, sides: Sides, batch: Batch) -> Prediction:
        found = super().predict(sides, batch)
        return replace(found, logit=found.logit + batch.repeat_features.sum(1))


@pytest.mark.parametrize(("variant", "kind"), [("soft", AddsInForward), ("hard", AddsInPredict)])
def test_what_a_class_of_another_package_adds_is_exported(
    variant: str, kind: type[Musenet], planted_dataset: Dataset, tmp_path: Path
) -> None:
    model = trained(variant, planted_dataset)
    model.__class__ = kind
    model.intentions.__class__ = Recent
    export_and_compare(model, planted_dataset, tmp_path)


def test_what_cannot_be_traced_is_said_in_a_sentence(planted_dataset: Dataset, tmp_path: Path) -> None:
    class Branches(Musenet):
        def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
            found = super().forward(batch, progress)
            return replace(found, logit=found.logit + 1) if batch.repeat_features.sum() > 3 else found

    model = trained("soft", planted_dataset)
    model.__class__ = Branches
    with pytest.raises(
        ExportError, match=r"Branches cannot become a graph \(.*data-dependent.*\): .*docs/extending.md"
    ):
        export_graphs(model, schema_of(planted_dataset), tmp_path)


def test_the_model_stays_as_it_is(planted_dataset: Dataset) -> None:
    model = trained("hard", planted_dataset)
    batch = batch_of(planted_dataset, [70])
    kinds, state = [type(module) for module in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}
    with torch.inference_mode():
        before = model(batch).logit
        given = replace(batch, rows=model.table.weight[batch.rows])
        torch.testing.assert_close(one_request(model)(given).logit, before, atol=1e-5, rtol=0)
        assert torch.equal(model(batch).logit, before)
    assert [type(module) for module in model.modules()] == kinds
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_the_request_is_computed_apart_from_its_candidates(planted_dataset: Dataset, tmp_path: Path) -> None:
    """The metric space and each head's request part stand in the one graph, no candidate input enters it."""
    import onnx

    export_graphs(trained("soft", planted_dataset), schema_of(planted_dataset), tmp_path)
    request, candidates = (onnx.load(tmp_path / f"{name}.onnx").graph for name in ("request", "candidates"))
    assert not {value.name for value in request.input} & {"candidate_codes", "candidate_dense", "repeat_features"}
    weights = [{weight.name for weight in graph.initializer} for graph in (request, candidates)]
    assert any("metric_space" in name for name in weights[0])
    assert not any("metric_space" in name for name in weights[1])
    assert not {value.name for value in candidates.input} & {"request_codes", "history_codes", "request_dense"}


def test_a_hardened_request_computes_one_scenario(planted_dataset: Dataset, tmp_path: Path) -> None:
    """Other scenarios' weights may be anything, even not a number."""
    model = trained("hard", planted_dataset)
    table = model.table.weight.clone()
    batch = batch_of(planted_dataset, [70])
    with torch.inference_mode():
        prediction = model(batch)
    (nearest,) = prediction.log_assignment.argmax(1).tolist()
    with torch.no_grad():
        intentions: Any = model.intentions
        for part in (intentions.repeat, intentions.explore):
            for layer in part.mlp.rest:
                for scenario in {0, 1, 2} - {nearest}:
                    layer.weight[scenario] = torch.nan
    export_graphs(model, schema_of(planted_dataset), tmp_path)
    logit = Runtime(tmp_path).logit(inputs_of(batch, table))
    np.testing.assert_allclose(logit, prediction.logit.numpy(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["soft", "hard"])
def test_where_nothing_repeats_the_repeat_branch_is_left_out(
    variant: str, planted_dataset: Dataset, tmp_path: Path
) -> None:
    """Its weights may be anything, even not a number; where something does repeat, they count."""
    model = trained(variant, planted_dataset)
    table = model.table.weight.clone()
    batches = requests_of_every_kind(planted_dataset)
    with torch.inference_mode():
        expected = [model(batch).logit.numpy() for batch in batches]
    with torch.no_grad():
        intentions: Any = model.intentions
        for weight in intentions.repeat.parameters():
            weight.fill_(torch.nan)
    export_graphs(model, schema_of(planted_dataset), tmp_path)
    runtime = Runtime(tmp_path)
    repeating = [bool(batch.repeat_indicator.any()) for batch in batches]
    assert len(set(repeating)) == 2
    for batch, repeats, logit in zip(batches, repeating, expected, strict=True):
        found = runtime.logit(inputs_of(batch, table))
        assert np.isnan(found).any() == repeats
        if not repeats:
            np.testing.assert_allclose(found, logit, atol=1e-5, rtol=0)
