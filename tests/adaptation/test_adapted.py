"""A run evaluated on the way through a period: its JSON, its rivals, and whom it is refused to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import musenet
from musenet.adaptation.adapted import adapted
from musenet.config.adaptation import AdaptOptions
from musenet.dataset.dataset import Dataset
from musenet.errors import ConfigError, DatasetError, RunError
from musenet.evaluation.evaluation import Evaluation
from musenet.runs.folder import RunFolder
from musenet.runs.run import Run
from musenet.training.train_run import train_run
from planted import SMALL_MUSENET, planted_experiment

OPTIONS = {"every": 2, "answers_after": 0}


def trained(dataset: Dataset, path: Path, **model: Any) -> Run:
    train_run(planted_experiment({"embedding": 2} | model), dataset, path)
    return Run(RunFolder.open(path))


@pytest.mark.parametrize("assignment", ["soft", "hard", "gate", "predefined", "uniform"])
def test_every_kind_of_assignment_can_be_adapted(planted_dataset: Dataset, run_path: Path, assignment: str) -> None:
    trained(planted_dataset, run_path, **(SMALL_MUSENET | {"assignment": assignment}))
    plain = musenet.evaluate(run_path).to_json()
    files = {file: file.read_bytes() for file in run_path.rglob("*") if file.is_file()}
    found = musenet.evaluate(run_path, adapt=OPTIONS)
    assert {file: file.read_bytes() for file in run_path.rglob("*") if file.is_file()} == files
    as_json = found.to_json()
    assert set(as_json) == {*plain, "unadapted", "adaptation"}
    for metric, interval in plain.items():
        assert as_json["unadapted"][metric] == (pytest.approx(interval) if metric == "logloss" else interval)
    assert as_json["logloss"]["value"] != plain["logloss"]["value"]
    assert found.adaptation is not None
    gained = found.adaptation.gained["logloss"].value
    assert gained == pytest.approx(found.logloss.value - plain["logloss"]["value"])
    assert as_json["adaptation"]["answered"] == 22
    assert as_json["adaptation"]["options"]["every"] == 2
    assert Evaluation.model_validate(as_json).to_json() == as_json


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ({"name": "ple"}, "ple reads the scenario from a column"),
        ({"name": "star"}, "star reads the scenario from a column"),
        ({"name": "revman"}, "revman reads the scenario from a column"),
        ({"name": "base_model"}, "base_model mixes no scenarios"),
        (SMALL_MUSENET | {"scenarios": 1}, "musenet has one scenario"),
    ],
)
def test_models_without_a_mix_are_refused(
    planted_dataset: Dataset, run_path: Path, model: dict[str, Any], why: str
) -> None:
    trained(planted_dataset, run_path, **model)
    with pytest.raises(RunError, match=rf"{why}.*no mix to adapt.*--adapt"):
        musenet.evaluate(run_path, adapt=True)
    for rival in ({"intercept": True}, {"finetune": {"every": 5}}):
        assert musenet.evaluate(run_path, adapt=OPTIONS | rival, resamples=5).unadapted is not None


def test_fine_tuning_learns_from_blocks_of_answers_and_leaves_the_run_alone(
    planted_dataset: Dataset, run_path: Path
) -> None:
    run = trained(planted_dataset, run_path, name="base_model")
    weights = {name: value.clone() for name, value in run.model.state_dict().items()}

    def moved_by(**finetune: Any) -> np.ndarray:
        options = AdaptOptions(answers_after=0, finetune=finetune)
        followed, unadapted = adapted(run, planted_dataset, "test", options)
        return followed.predictions.logit - unadapted.logit

    moved = moved_by(every=10, learning_rate=0.01)
    first = planted_dataset.sizes_of(np.arange(84, 94)).sum()  # the test split begins at request 84
    assert moved[:first] == pytest.approx(0, abs=1e-6)
    assert np.abs(moved).max() > 1e-3
    assert moved_by(every=10, learning_rate=0.01) == pytest.approx(moved)
    assert moved_by(every=10, learning_rate=1e-9) == pytest.approx(0, abs=1e-5)
    assert moved_by(every=1000, learning_rate=0.01) == pytest.approx(0, abs=1e-6)
    assert all(torch.equal(value, weights[name]) for name, value in run.model.state_dict().items())


def test_what_is_no_way_to_adapt_is_said(planted_dataset: Dataset, run_path: Path, tmp_path: Path) -> None:
    trained(planted_dataset, run_path, **SMALL_MUSENET)
    for wrong, why in (
        ({"half_life": "soon"}, r"adapt.*half_life: 'soon' is not a duration"),
        ({"finetune": {}, "intercept": True}, "choose one"),
        ({"finetun": {}}, "finetun"),
    ):
        with pytest.raises(ConfigError, match=why):
            musenet.evaluate(run_path, adapt=wrong)
    with pytest.raises(DatasetError):
        musenet.evaluate(run_path, dataset=tmp_path / "none", adapt=True)
