"""The average of the weights: as by hand, validated and kept, and the same after an interruption."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from musenet.config.experiment import Experiment
from musenet.dataset.batch import Batch
from musenet.dataset.dataset import Dataset
from musenet.models.interface import Term
from musenet.runs.folder import RunFolder
from musenet.training.loop import Trainer
from planted import SMALL_BASE, planted_experiment
from training.trained_runs import assert_same_run, train_into, validations_of

SHARE = 0.4


def averaging() -> Experiment:
    return planted_experiment(SMALL_BASE, epochs=2, validations_per_epoch=2, checkpoint_every=2, average=SHARE)


def test_what_is_kept_is_the_average_of_all_steps_by_hand(
    planted_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    weights: list[dict[str, Tensor]] = []
    take_step = Trainer.step

    def step(trainer: Trainer, batch: Batch) -> dict[str, Term]:
        terms = take_step(trainer, batch)
        weights.append({name: value.detach().clone() for name, value in trainer.model.named_parameters()})
        return terms

    monkeypatch.setattr(Trainer, "step", step)
    result = train_into(tmp_path / "run", averaging(), planted_dataset)
    expected = {name: value.double().numpy() for name, value in weights[0].items()}
    for n, later in enumerate(weights[1 : int(result.best["step"])], start=1):
        kept = min(SHARE, (1 + n) / (10 + n))
        expected = {name: kept * old + (1 - kept) * later[name].double().numpy() for name, old in expected.items()}
    state = RunFolder(tmp_path / "run").load_state()
    assert set(expected) == set(state)
    for name, value in expected.items():
        np.testing.assert_allclose(state[name], value, rtol=1e-4, atol=1e-6)


def test_the_average_is_what_is_validated(planted_dataset: Dataset, tmp_path: Path):
    """The same steps are taken, and other scores are found."""
    train_into(tmp_path / "averaged", averaging(), planted_dataset)
    plain = planted_experiment(SMALL_BASE, epochs=2, validations_per_epoch=2, checkpoint_every=2)
    train_into(tmp_path / "plain", plain, planted_dataset)
    first, second = (RunFolder(tmp_path / name).metrics()[0] for name in ("averaged", "plain"))
    losses = [[entry["losses"]["click"] for entry in entries if "losses" in entry] for entries in (first, second)]
    assert losses[0] == losses[1]
    scores = [
        [entry["valid"]["logloss"] for entry in validations_of(tmp_path / name)] for name in ("averaged", "plain")
    ]
    assert scores[0] != scores[1]


def test_interrupted_and_resumed_the_average_is_the_same(
    planted_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train_into(tmp_path / "whole", averaging(), planted_dataset)
    take_step = Trainer.step

    def step(trainer: Trainer, batch: Batch) -> dict[str, Term]:
        if trainer.state.step == 3:
            raise ConnectionError
        return take_step(trainer, batch)

    with monkeypatch.context() as broken:
        broken.setattr(Trainer, "step", step)
        with pytest.raises(ConnectionError):
            train_into(tmp_path / "resumed", averaging(), planted_dataset)
    train_into(tmp_path / "resumed", averaging(), planted_dataset, resume=True)
    assert_same_run(tmp_path / "resumed", tmp_path / "whole")


def test_dropout_changes_what_is_learned_and_not_how_a_run_is_scored(planted_dataset: Dataset, tmp_path: Path):
    found = []
    for name in ("first", "second"):
        train_into(tmp_path / name, planted_experiment(SMALL_BASE, dropout=0.5), planted_dataset)
        found.append(RunFolder(tmp_path / name).load_state())
    train_into(tmp_path / "without", planted_experiment(SMALL_BASE), planted_dataset)
    without = RunFolder(tmp_path / "without").load_state()
    assert all(torch.equal(found[0][name], found[1][name]) for name in without)
    assert not torch.equal(found[0]["mlp.mlp.first.weight"], without["mlp.mlp.first.weight"])
