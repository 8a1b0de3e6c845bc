"""Training and scoring on a CUDA device, without a card: all is where it belongs, and comes out as on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fake_cuda import CUDA, fake_cuda
from models.test_model_contract import NETWORKS, VARIANTS
from musenet.adaptation.finetune import finetune
from musenet.config.adaptation import AdaptOptions, FinetuneOptions
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.evaluation import importance
from musenet.evaluation.importance import permutation_importance
from musenet.evaluation.predictions import Predictions
from musenet.evaluation.scoring import predict
from musenet.models.interface import ClickModel
from musenet.portraits.points import points_of, prototypes_of
from musenet.preparation.prepare import prepare
from musenet.runs.folder import RunFolder
from musenet.runs.tensor_files import load_tensors
from musenet.training import loop
from musenet.training.loop import Trainer
from planted import planted_experiment, write_planted
from preparation.logs import MemorySource, recipe
from training.trained_runs import train_into
from vector_logs import FEATURES, vector_log

FIRST = {model: next(name for name, options in VARIANTS.items() if options["name"] == model) for model in NETWORKS}
SMALL = {"requests": 0.5, "batch_size": 50, "validations_per_epoch": 1}
"""Two steps, and a validation."""


@pytest.fixture(scope="module")
def weighted_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_planted(tmp_path_factory.mktemp("weighted") / "dataset", weighted=True)


@pytest.fixture(scope="module")
def wide_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """With vectors on every side, and candidates' places in their lists."""
    folder = tmp_path_factory.mktemp("wide") / "dataset"
    features = FEATURES | {"relative": True}
    return prepare(MemorySource(vector_log(requests=80)), recipe(features=features), folder).dataset


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "device_named", lambda name: CUDA if name == "cuda" else torch.device("cpu"))


def trained(path: Path, experiment: Experiment, dataset: Dataset) -> Trainer:
    """After one step and a checkpoint, gone on with by another trainer to the end."""
    run = RunFolder.create(path, experiment, dataset)
    first = Trainer(experiment, dataset, run, lambda _: None)
    for _, batch in first.remaining_batches():
        first.step(batch)
        first.checkpoint()
        break
    second = Trainer(experiment, dataset, run, lambda _: None)
    second.train(resume=True)
    return second


def tensors_of(trainer: Trainer) -> dict[str, Tensor]:
    """Everything that a step reads or moves, batches aside."""
    found: dict[str, Tensor] = {**trainer.model.state_dict(), "mean": trainer.optimizers.lazy.mean}
    found |= {"square": trainer.optimizers.lazy.square}
    for place, state in enumerate(trainer.optimizers.dense.state.values()):
        found |= {f"{place}.{name}": value for name, value in state.items()}
    return found | {f"kept.{name}": value for name, value in trainer.kept.state_dict().items()}


def trained_as_on_the_cpu(path: Path, options: dict[str, Any], dataset: Dataset, **training: Any) -> Trainer:
    """What trained on the device, in two parts, to the weights, moments and scores of a training on the CPU in one."""
    on_cpu, here = (planted_experiment(options, device=name, **SMALL | training) for name in ("cpu", "cuda"))
    train_into(path / "cpu", on_cpu, dataset)
    with fake_cuda():
        trainer = trained(path / "cuda", here, dataset)
        assert {name: value.device for name, value in tensors_of(trainer).items() if value.device != CUDA} == {}
    expected, found = (load_tensors(RunFolder(path / name).checkpoint_file)[0] for name in ("cpu", "cuda"))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    best, of_cpu = (RunFolder(path / name).training.best for name in ("cuda", "cpu"))
    assert best == pytest.approx(of_cpu, abs=1e-4)
    return trainer


def assert_same(found: Predictions, expected: Predictions) -> None:
    for name, values in vars(expected).items():
        if values is not None:
            np.testing.assert_allclose(getattr(found, name), values, atol=1e-5, err_msg=name)


SIZES_ALONE = {"base-without-repeats", "one-scenario", "wide", "small-intention", "wide-small-intention"}
SIZES_ALONE |= {"nothing-shared", "plain-nothing-shared", "without-ids", "din-match", "base-attention"}
"""Variants that compute nothing on a device that others do not."""
FIRST_THEN_OTHERS = [
    variant if variant in FIRST.values() else pytest.param(variant, marks=pytest.mark.slow)
    for variant in VARIANTS
    if variant not in SIZES_ALONE
]


@pytest.mark.parametrize("variant", FIRST_THEN_OTHERS)
def test_trains_resumes_and_scores_as_on_the_cpu(
    variant: str, weighted_dataset: Dataset, wide_dataset: Dataset, tmp_path: Path
):
    dataset = wide_dataset if variant in FIRST.values() else weighted_dataset
    model = trained_as_on_the_cpu(tmp_path, VARIANTS[variant], dataset).model
    with fake_cuda():
        answers = predict(model, dataset, "test", scenario_logits=True)
        model.to("cpu")
    assert_same(answers, predict(model, dataset, "test", scenario_logits=True))


@pytest.mark.parametrize("training", [{"average": 0.9}, {"dropout": 0.3}, {"precision": "float64"}], ids=str)
def test_takes_every_way_of_training(training: dict[str, Any], planted_dataset: Dataset, tmp_path: Path):
    trained_as_on_the_cpu(tmp_path, VARIANTS["soft-attention"], planted_dataset, **training)


@contextmanager
def one_thread() -> Iterator[Any]:
    """What `permutation_importance` takes its threads from: the device is known to this one alone."""

    class Pool:
        map = map

    yield Pool


def found_of(model: ClickModel, dataset: Dataset) -> dict[str, Any]:
    """What reports and adaptation make of a model."""
    predictions, requests = predict(model, dataset, "test"), np.arange(40)
    followed = finetune(model, dataset, predictions, AdaptOptions(), FinetuneOptions(every=8))
    found = {"points": points_of(model, dataset, requests), "prototypes": prototypes_of(model)}
    lost = permutation_importance(model, dataset, requests, repeats=1, resamples=5)
    return found | {"importance": [one.overall.value for one in lost], "fine-tuned": followed.predictions.logit}


@pytest.mark.parametrize("variant", ["soft-attention", "paper-soft"])
def test_is_reported_and_fine_tuned_as_on_the_cpu(
    variant: str, planted_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(importance, "_a_core_each", one_thread)
    experiment = planted_experiment(VARIANTS[variant], **SMALL)
    trainer = trained(tmp_path / "run", experiment, planted_dataset)
    expected = found_of(trainer.model, planted_dataset)
    with fake_cuda() as device:
        found = found_of(trainer.model.to(device), planted_dataset)
    assert set(found) == set(expected)
    for name, values in expected.items():
        if values is not None:
            np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)


def test_batches_are_pinned_for_a_card_alone(planted_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    experiment = planted_experiment(VARIANTS["base"], device="cuda", **SMALL)
    with fake_cuda() as device:
        pin, pinned = Tensor.pin_memory, []

        def counted(tensor: Tensor) -> Tensor:
            pinned.append(tensor)
            return pin(tensor)

        monkeypatch.setattr(Tensor, "pin_memory", counted)
        trainer = Trainer(experiment, planted_dataset, RunFolder(tmp_path), lambda _: None)
        _, batch = next(trainer.remaining_batches())
        assert len(pinned) >= len([value for value in vars(batch).values() if value is not None])
        pinned.clear()
        on_card = predict(trainer.model, planted_dataset, "test")
        assert pinned
        pinned.clear()
        assert_same(predict(trainer.model.to("cpu"), planted_dataset, "test"), on_card)
        assert not pinned
        assert device == batch.rows.device
