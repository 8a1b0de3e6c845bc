"""A tiny dataset, written column by column, and the experiment that stands beside it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musenet.config.experiment import Experiment
from musenet.config.loading import validate_experiment
from musenet.dataset.dataset import Dataset
from musenet.files import checksum

USERS, ITEMS, CANDIDATES = 12, 10, 4
PERIODS = {"train": (0, 60), "valid": (60, 75), "test": (75, 100)}
DAY = 86_400_000_000
FIELDS: list[dict[str, Any]] = [
    {"name": "user_id", "side": "user", "kind": "categorical", "vocabulary": "user_id", "is_id": True},
    {"name": "item_id", "side": "item", "kind": "categorical", "vocabulary": "item_id", "is_id": True},
    {"name": "city", "side": "item", "kind": "categorical", "vocabulary": "city"},
    {"name": "device", "side": "context", "kind": "categorical", "vocabulary": "device"},
    {"name": "days_ahead", "side": "context", "kind": "dense"},
    {"name": "city", "side": "history", "kind": "categorical", "vocabulary": "city"},
]


def _columns() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    requests = PERIODS["test"][1]
    candidates = requests * CANDIDATES
    user = random.integers(1, USERS, requests).astype(np.int32)
    device = random.integers(3, 5, requests).astype(np.int32)
    item = random.integers(1, ITEMS, candidates).astype(np.int32)
    indicator = (random.random(candidates) < 0.3).astype(np.float32)
    chance = 0.15 + 0.5 * indicator * np.repeat(device == 3, CANDIDATES)
    return {
        "users/user_id": (np.arange(USERS) + 2).clip(1).astype(np.int32),
        "items/item_id": (np.arange(ITEMS) + 2).clip(1).astype(np.int32),
        "items/city": random.integers(3, 6, ITEMS).astype(np.int32),
        "events/time": np.arange(USERS, dtype=np.int64),
        "events/city": random.integers(3, 6, USERS).astype(np.int32),
        "events/offset": np.arange(USERS + 1, dtype=np.int64),
        "requests/user": user,
        "requests/time": np.arange(requests, dtype=np.int64) * DAY // 4,
        "requests/history_end": user.astype(np.int64) + 1,
        "requests/candidate_offset": np.arange(requests + 1, dtype=np.int64) * CANDIDATES,
        "requests/repeat_fraction": random.random(requests).astype(np.float32),
        "requests/true_scenario": (device - 3).astype(np.int32),
        "requests/device": device,
        "requests/days_ahead": random.normal(size=requests).astype(np.float32),
        "candidates/item": item,
        "candidates/label": (random.random(candidates) < chance).astype(np.int8),
        "candidates/repeat_indicator": indicator,
        "candidates/repeat_count": indicator * 2,
        "candidates/repeat_recency": np.where(indicator > 0, 3600.0, np.nan).astype(np.float32),
    }


def write_dataset(folder: Path, fingerprint: str = "tiny") -> Dataset:
    columns = _columns()
    for name, column in columns.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", column)
    requests = PERIODS["test"][1]
    (folder / "keys").mkdir()
    keys = {"_request": [f"s{row}" for row in range(requests)], "_user": [f"u{u}" for u in columns["requests/user"]]}
    pq.write_table(pa.table(keys | {"_time": columns["requests/time"]}), folder / "keys" / "requests.parquet")
    vocabularies = {"user_id": USERS, "item_id": ITEMS, "city": 3, "device": 2}
    (folder / "vocabularies").mkdir()
    for name, size in vocabularies.items():
        values = pa.table({"value": [f"{name}-{n}" for n in range(size)], "count": [1] * size})
        pq.write_table(values, folder / "vocabularies" / f"{name}.parquet")
    label, time = columns["candidates/label"], columns["requests/time"]
    splits = {
        name: {
            "begin": begin,
            "end": end,
            "impressions": (end - begin) * CANDIDATES,
            "positives": int(label[begin * CANDIDATES : end * CANDIDATES].sum()),
            "first_time": int(time[begin]),
            "last_time": int(time[end - 1]),
        }
        for name, (begin, end) in PERIODS.items()
    }
    manifest = {
        "format": 1,
        "version": "0",
        "fingerprint": fingerprint,
        "protocol": "a row is an item shown; negatives are items shown and not clicked",
        "timezone": "UTC",
        "negative_sampling_rate": 1.0,
        "users": USERS,
        "items": ITEMS,
        "events": USERS,
        "requests": requests,
        "candidates": requests * CANDIDATES,
        "splits": splits,
        "fields": FIELDS,
        "vocabularies": {name: size + 2 for name, size in vocabularies.items()},
        "history_length": 5,
        "has_repeats": True,
        "true_scenarios": 2,
        "user_column": "user_id",
        "item_column": "item_id",
        "checksums": {f"{name}.npy": checksum(folder / f"{name}.npy") for name in columns},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Dataset(folder)


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
