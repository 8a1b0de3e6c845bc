"""Puts tests/ on the import path, and lends what many tests share."""

from pathlib import Path

import pytest

from browsing import browser, chromium
from musenet.dataset.dataset import Dataset
from planted import write_planted
from shown_runs import heard, make_run, write_comparison
from tiny_runs import make_experiment, tiny_dataset

__all__ = ["browser", "chromium", "heard", "make_experiment", "make_run", "tiny_dataset", "write_comparison"]


@pytest.fixture(scope="session")
def planted_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_planted(tmp_path_factory.mktemp("planted") / "dataset")


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    return tmp_path / "run"
