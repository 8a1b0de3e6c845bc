"""A tiny dataset, written column by column, and the experiment that stands beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from musenet.config.experiment import Experiment
from musenet.config.loading import validate_experiment
from musenet.dataset import writer
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Field, Split
from musenet.dataset.writer import Arrays

USERS, ITEMS, CANDIDATES = 12, 10, 4
PERIODS: dict[Split, tuple[int, int]] = {"train": (0, 60), "valid": (60, 75), "test": (75, 100)}
DAY = 86_400_000_000
FIELDS = [
    Field(name="user_id", side="user", kind="categorical", vocabulary="user_id", is_id=True),
    Field(name="item_id", side="item", kind="categorical", vocabulary="item_id", is_id=True),
    Field(name="city", side="item", kind="categorical", vocabulary="city"),
    Field(name="device", side="context", kind="categorical", vocabulary="device"),
    Field(name="days_ahead", side="context", kind="dense"),
    Field(name="city", side="history", kind="categorical", vocabulary="city"),
]


def _arrays() -> Arrays:
    random = np.random.default_rng(0)
    requests = PERIODS["test"][1]
    candidates = requests * CANDIDATES
    user = random.integers(1, USERS, requests).astype(np.int32)
    device = random.integers(3, 5, requests).astype(np.int32)
    item = random.integers(1, ITEMS, candidates).astype(np.int32)
    indicator = (random.random(candidates) < 0.3).astype(np.float32)
    chance = 0.15 + 0.5 * indicator * np.repeat(device == 3, CANDIDATES)
    return Arrays(
        users={
            "user_id": (np.arange(USERS) + 2).clip(1).astype(np.int32),
        },
        items={
            "item_id": (np.arange(ITEMS) + 2).clip(1).astype(np.int32),
            "city": random.integers(3, 6, ITEMS).astype(np.int32),
        },
        events={
            "time": np.arange(USERS, dtype=np.int64),
            "city": random.integers(3, 6, USERS).astype(np.int32),
            "offset": np.arange(USERS + 1, dtype=np.int64),
        },
        requests={
            "user": user,
            "time": np.arange(requests, dtype=np.int64) * DAY // 4,
            "history_end": user.astype(np.int64) + 1,
            "candidate_offset": np.arange(requests + 1, dtype=np.int64) * CANDIDATES,
            "repeat_fraction": random.random(requests).astype(np.float32),
            "true_scenario": (device - 3).astype(np.int32),
            "device": device,
            "days_ahead": random.normal(size=requests).astype(np.float32),
        },
        candidates={
            "item": item,
            "label": (random.random(candidates) < chance).astype(np.int8),
            "repeat_indicator": indicator,
            "repeat_count": indicator * 2,
            "repeat_recency": np.where(indicator > 0, 3600.0, np.nan).astype(np.float32),
        },
    )


def write_dataset(folder: Path, fingerprint: str = "tiny") -> Dataset:
    arrays = _arrays()
    requests = PERIODS["test"][1]
    keys = {"_request": [f"s{row}" for row in range(requests)], "_user": [f"u{u}" for u in arrays.requests["user"]]}
    sizes = {"user_id": USERS, "item_id": ITEMS, "city": 3, "device": 2}
    return writer.write_dataset(
        folder,
        arrays,
        FIELDS,
        PERIODS,
        {name: [f"{name}-{n}" for n in range(size)] for name, size in sizes.items()},
        {"requests": pa.table(keys | {"_time": arrays.requests["time"]})},
        fingerprint=fingerprint,
        protocol="a row is an item shown; negatives are items shown and not clicked",
        history_length=5,
        true_scenarios=2,
        user_column="user_id",
        item_column="item_id",
    )


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_dataset(tmp_path_factory.mktemp("dataset") / "tiny")


@pytest.fixture(scope="session")
def make_experiment() -> Callable[..., Experiment]:
    def make(**changes: Any) -> Experiment:
        content: dict[str, Any] = {
            "name": "tiny",
            "data": {"source": "complete_journey"},
            "features": {"item": ["city"], "context": ["device", {"days_ahead": {"numeric": "standardise"}}]},
            "split": {"parts": 4},
            "model": {"name": "musenet", "scenarios": 2, "hidden": [4], "embedding": 2},
            "training": {"epochs": 1, "batch_size": 64, "validations_per_epoch": 1, "threads": 1},
        }
        return validate_experiment(content | changes, "tiny")

    return make
