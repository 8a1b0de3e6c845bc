"""Which runs the training loop really trained, for tests of what is reused."""

from typing import Any

import pytest

from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.runs.folder import RunFolder
from musenet.training import train_run as training_runs


def record_trainings(monkeypatch: pytest.MonkeyPatch, dataset: Dataset, parts: int = 2) -> list[str]:
    """The last parts of their paths, in order, growing as they are trained; preparation gives the dataset."""
    paths: list[str] = []
    loop = training_runs.train  # type: ignore[attr-defined]

    def train(experiment: Experiment, dataset: Dataset, run: RunFolder, **options: Any) -> Any:
        paths.append("/".join(run.path.parts[-parts:]))
        return loop(experiment, dataset, run, **options)

    monkeypatch.setattr(training_runs, "train", train)
    monkeypatch.setattr("musenet.api.studies.prepared_dataset", lambda *_: dataset)
    return paths
