"""One model tuned on its own: as a row of a comparison is, and trained with what was chosen."""

import json
from pathlib import Path
from typing import Any

import pytest

from musenet.config.experiment import Experiment
from musenet.config.loading import validate_experiment
from musenet.dataset.dataset import Dataset
from musenet.errors import ConfigError
from musenet.runs.run import Run
from musenet.studies.pool import TrainingPool
from musenet.studies.tuned_model import SPACE, tune_model
from planted import SMALL_BASE, SMALL_MUSENET, planted_experiment, write_planted


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_planted(tmp_path_factory.mktemp("tuned") / "dataset")


def experiment_of(compare: dict[str, Any]) -> Experiment:
    content = planted_experiment(threads=1).model_dump(mode="json", by_alias=True)
    return validate_experiment(content | {"model": SMALL_BASE, "compare": compare}, "tuned")


def test_the_model_is_trained_with_the_values_of_its_best_trial(dataset: Dataset, tmp_path: Path) -> None:
    rates = {"training.learning_rate": [0.0001, 0.01, 0.03]}
    compare = {
        "models": {"plain": SMALL_BASE, "soft": SMALL_MUSENET},
        "tuning": {
            "requests": 0.5,
            "keep_one_in": None,
            "seeds": 1,
            "shared": rates,
            "own": {"plain": {"model.hidden": [[4], [8]]}, "soft": {"model.scenarios": [2, 3]}},
        },
    }
    with TrainingPool(dataset) as pool:
        tuned = tune_model(experiment_of(compare), tmp_path, 4, pool)
    record = json.loads((tmp_path / tuned.model / "tuning.json").read_text())
    best = max(record["trials"], key=lambda trial: trial["auc"])
    assert len(record["trials"]) == 4
    assert record["chosen"]["values"] == best["values"]
    assert set(tuned.chosen) == {"training.learning_rate", "model.hidden"}
    assert best["values"].items() <= tuned.chosen.items()
    run = Run.open(Path(tuned.trained.run))
    assert run.experiment.training.learning_rate == tuned.chosen["training.learning_rate"]
    assert run.experiment.model.hidden == tuned.chosen["model.hidden"]  # type: ignore[attr-defined]
    assert run.experiment.training.requests == 1.0


def test_without_a_space_rate_and_decay_are_tried(dataset: Dataset, tmp_path: Path) -> None:
    with TrainingPool(dataset) as pool:
        tuned = tune_model(experiment_of({"models": {}}), tmp_path, 1, pool)
    assert set(tuned.chosen) == set(SPACE)
    assert tuned.chosen == tuned.configured, "the first trial is what was configured"


def test_a_key_that_the_model_lacks_is_said_before_anything_runs(dataset: Dataset, tmp_path: Path) -> None:
    experiment = experiment_of({"models": {"soft": SMALL_MUSENET}, "tuning": {"shared": {"model.scenarios": [2, 3]}}})
    with pytest.raises(ConfigError, match=r"model\.scenarios"), TrainingPool(dataset) as pool:
        tune_model(experiment, tmp_path, 2, pool)
    assert not any(tmp_path.iterdir())
