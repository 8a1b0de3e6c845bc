"""A small prepared dataset with every kind of column, its experiment, and a batch made by hand.

The dataset is written by `musenet.dataset.writer`, without `prepare`. Its labels follow a rule that every
model can learn: on a phone the even brands are clicked, elsewhere the cheap items.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from musenet.config.experiment import Experiment
from musenet.config.loading import validate_experiment
from musenet.dataset.batch import Batch, Schema
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Field, Split
from musenet.dataset.writer import Arrays, write_dataset

Columns = dict[str, NDArray[Any]]

USERS, ITEMS, BRANDS, TAGS, DEVICES, RANKS = 14, 18, 6, 8, 2, 5
REQUESTS: dict[Split, int] = {"train": 60, "valid": 24, "test": 24}
HISTORY_LENGTH = 5
VOCABULARIES = {
    "user_id": USERS + 2,
    "age": 5,
    "tag": TAGS + 2,
    "item_id": ITEMS + 2,
    "brand": BRANDS + 2,
    "device": DEVICES + 2,
    "hours": 6,
    "price": 6,
    "rank": RANKS + 2,
}


def planted_fields(width: int) -> list[Field]:
    """Ids, categories, several values, buckets, numbers and a position, on every side that may have them."""
    return [
        Field(name="user_id", side="user", kind="categorical", vocabulary="user_id", is_id=True),
        Field(name="tag", side="user", kind="multi_valued", vocabulary="tag", width=width),
        Field(name="age", side="user", kind="categorical", vocabulary="age"),
        Field(name="spend", side="user", kind="dense"),
        Field(name="item_id", side="item", kind="categorical", vocabulary="item_id", is_id=True),
        Field(name="brand", side="item", kind="categorical", vocabulary="brand"),
        Field(name="label_tag", side="item", kind="multi_valued", vocabulary="tag", width=width),
        Field(name="quality", side="item", kind="dense"),
        Field(name="device", side="context", kind="categorical", vocabulary="device"),
        Field(name="hours_bucket", side="context", kind="categorical", vocabulary="hours", is_bucketed=True),
        Field(name="hours", side="context", kind="dense"),
        Field(name="price_bucket", side="candidate", kind="categorical", vocabulary="price", is_bucketed=True),
        Field(name="price", side="candidate", kind="dense"),
        Field(name="rank", side="candidate", kind="categorical", vocabulary="rank", is_position=True),
        Field(name="item_id", side="history", kind="categorical", vocabulary="item_id", is_id=True),
        Field(name="brand", side="history", kind="categorical", vocabulary="brand"),
    ]


def write_planted(
    folder: Path, *, width: int = 3, seed: int = 0, weighted: bool = False, changes: Arrays | None = None
) -> Dataset:
    """Write the dataset and open it.

    Args:
        folder: to be made.
        width: of the multi-valued fields, at least 3; more is padding.
        seed: of everything in it.
        weighted: whether impressions have weights.
        changes: columns to put in place of the planted ones.
    """
    random = np.random.default_rng(seed)
    users, items = _entities(random, width)
    arrays = Arrays(users=users, items=items, events=_events(random))
    arrays |= Arrays(requests=_requests(random, arrays.events))
    arrays |= Arrays(candidates=_candidates(random, arrays))
    if weighted:
        arrays.candidates["weight"] = np.linspace(0.5, 2.0, len(arrays.candidates["item"])).astype(np.float32)
    ends = np.cumsum(list(REQUESTS.values())).tolist()
    return write_dataset(
        folder,
        arrays | (changes or Arrays()),
        planted_fields(width),
        {split: (end - count, end) for (split, count), end in zip(REQUESTS.items(), ends, strict=True)},
        VOCABULARIES,
        fingerprint=f"planted-{width}-{seed}",
        protocol="a row is an item shown",
        history_length=HISTORY_LENGTH,
        predefined_scenarios=["work", "leisure"],
        true_scenarios=2,
        user_column="user_id",
        item_column="item_id",
    )


def _entities(random: np.random.Generator, width: int) -> tuple[Columns, Columns]:
    """Users and items; row 0 is the unseen one."""
    users, items = USERS + 1, ITEMS + 1
    codes: tuple[Columns, Columns] = (
        {
            "user_id": np.arange(users) + 2,
            "age": random.integers(3, 6, users),
            "tag": _several(random, users, width),
        },
        {
            "item_id": np.arange(items) + 2,
            "brand": np.arange(items) % BRANDS + 3,
            "label_tag": _several(random, items, width),
        },
    )
    for columns in codes:
        for name, column in columns.items():
            column[0] = 0 if column.ndim == 2 else 1
            columns[name] = column.astype(np.int32)
    codes[0]["spend"] = random.normal(size=users).astype(np.float32)
    codes[1]["quality"] = random.normal(size=items).astype(np.float32)
    return codes


def _several(random: np.random.Generator, rows: int, width: int) -> NDArray[Any]:
    """(rows, width) no to three codes each, the rest padding."""
    codes = random.integers(1, TAGS + 3, (rows, 3)) * (np.arange(3) < random.integers(0, 4, rows)[:, None])
    return np.pad(codes, ((0, 0), (0, width - 3)))


def _events(random: np.random.Generator) -> Columns:
    """None for the unseen user and the first two; up to eleven for the others."""
    counts = random.integers(1, 12, USERS + 1)
    counts[:3] = 0
    item = random.integers(1, ITEMS // 2, counts.sum())
    return {
        "offset": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "time": np.concatenate([np.sort(random.integers(0, 10**6, count)) for count in counts]).astype(np.int64),
        "item_id": (item + 2).astype(np.int32),
        "brand": (item % BRANDS + 3).astype(np.int32),
    }


def _requests(random: np.random.Generator, events: Columns) -> Columns:
    count = sum(REQUESTS.values())
    user = random.integers(0, USERS + 1, count)
    begin, end = events["offset"][user], events["offset"][user + 1]
    device = random.integers(3, 3 + DEVICES, count)
    hours = random.normal(size=count)
    history_end = random.integers(begin, end + 1)
    fraction = [_repeated_share(events["item_id"][b:e]) for b, e in zip(begin, history_end, strict=True)]
    return {
        "user": user.astype(np.int32),
        "time": 10**6 + np.arange(count, dtype=np.int64) * 3600,
        "history_end": history_end.astype(np.int64),
        "candidate_offset": np.concatenate([[0], np.cumsum(random.integers(1, 6, count))]).astype(np.int64),
        "repeat_fraction": np.array(fraction, dtype=np.float32),
        "predefined_scenario": random.integers(0, 2, count).astype(np.int32),
        "true_scenario": (device - 3).astype(np.int32),
        "device": device.astype(np.int32),
        "hours": hours.astype(np.float32),
        "hours_bucket": (np.digitize(hours, [-0.7, 0.0, 0.7]) + 3).astype(np.int32),
    }


def _repeated_share(items: NDArray[Any]) -> float:
    return float("nan") if len(items) == 0 else 1 - len(np.unique(items)) / len(items)


def _candidates(random: np.random.Generator, arrays: Arrays) -> Columns:
    events, requests = arrays.events, arrays.requests
    offset = requests["candidate_offset"]
    request = np.repeat(np.arange(len(offset) - 1), np.diff(offset))
    item = random.integers(1, ITEMS + 1, len(request)).astype(np.int32)
    price = random.normal(size=len(request))
    count = np.zeros(len(request), dtype=np.float32)
    recency = np.full(len(request), np.nan, dtype=np.float32)
    for row, of in enumerate(request):
        begin, end = events["offset"][requests["user"][of]], requests["history_end"][of]
        same = np.flatnonzero(events["item_id"][begin:end] == item[row] + 2)
        if len(same):
            count[row] = len(same)
            recency[row] = requests["time"][of] - events["time"][begin + same[-1]]
    clicked = np.where(requests["device"][request] == 3, item % BRANDS % 2 == 0, price < 0)
    return {
        "item": item,
        "label": clicked.astype(np.int8),
        "price": price.astype(np.float32),
        "price_bucket": (np.digitize(price, [-0.7, 0.0, 0.7]) + 3).astype(np.int32),
        "rank": (np.arange(len(request)) - offset[request] + 3).astype(np.int32),
        "repeat_indicator": (count > 0).astype(np.int8),
        "repeat_count": count,
        "repeat_recency": recency,
    }


SMALL_BASE = {"name": "base_model", "embedding": 4, "hidden": [12]}
SMALL_MUSENET = {
    "name": "musenet",
    "embedding": 4,
    "hidden": [12],
    "scenarios": 3,
    "metric_space": {"hidden": [8], "dimension": 4},
}


def planted_experiment(model: dict[str, Any] | None = None, **training: Any) -> Experiment:
    """An experiment on the planted dataset: a small model, small batches, one thread.

    Args:
        model: options; `SMALL_MUSENET` if left out.
        training: options beside one epoch of batches of 32.
    """
    training = {"epochs": 1, "batch_size": 32, "threads": 1, "device": "cpu", "learning_rate": 0.01} | training
    content = {
        "name": "planted",
        "data": {"source": "complete_journey"},
        "features": {"user": ["age"], "item": ["brand"], "context": ["device"]},
        "split": {"parts": 4},
        "model": model or SMALL_MUSENET,
        "training": training,
    }
    return validate_experiment(content, "planted")


HAND_MADE_SCHEMA = Schema(
    request_fields=(Field(name="device", side="context", kind="categorical", vocabulary="device"),),
    candidate_fields=(
        Field(name="item_id", side="item", kind="categorical", vocabulary="item_id", is_id=True),
        Field(name="tag", side="item", kind="multi_valued", vocabulary="tag", width=2),
    ),
    history_fields=(Field(name="item_id", side="history", kind="categorical", vocabulary="item_id", is_id=True),),
    request_dense=(Field(name="hours", side="context", kind="dense"),),
    candidate_dense=(),
    embedding_rows=12,
    has_repeats=True,
    predefined_scenarios=None,
    true_scenarios=None,
)


def hand_made_batch() -> Batch:
    """Two requests, the first of two candidates, the second of one and without history."""
    return Batch(
        rows=torch.tensor([0, 3, 4, 7, 8, 10]),
        request_codes=torch.tensor([[1], [2]]),
        candidate_codes=torch.tensor([[3, 5, 0], [4, 5, 1], [3, 0, 0]]),
        history_codes=torch.tensor([[3], [4]]),
        history_offset=torch.tensor([0, 2, 2]),
        request_dense=torch.tensor([[0.5], [-1.0]]),
        candidate_dense=torch.zeros(3, 0),
        request_vectors=torch.zeros(2, 0),
        candidate_vectors=torch.zeros(3, 0),
        request=torch.tensor([0, 0, 1]),
        repeat_indicator=torch.tensor([True, False, False]),
        repeat_features=torch.tensor([[1.0, 0.7, 0.1], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        repeat_fraction=torch.tensor([0.25, torch.nan]),
        label=torch.tensor([1.0, 0.0, 1.0]),
        weight=None,
        predefined_scenario=None,
        true_scenario=None,
        request_index=torch.tensor([0, 1]),
    )
