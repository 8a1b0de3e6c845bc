"""An export of the shape of Ali Display Ads, with random weights: what scoring costs does not depend on what they are.

1.14 million users, 0.85 million ads, embeddings of 16, histories of 50 events of (category, brand). The dataset is
written in the prepared format without a log, since nothing is trained on it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from musenet.config.loading import validate_experiment
from musenet.dataset.batch import schema_of
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import FIRST_VALUE, Field, FieldSide
from musenet.dataset.writer import Arrays, write_dataset
from musenet.models.registry import build_model
from musenet.runs.folder import RunFolder
from musenet.runs.run import Run
from musenet.serving.export.export import export_run
from musenet.simulators.ads.published import ADS, BRANDS, CAMPAIGNS, CATEGORIES, CUSTOMERS, PROFILE_VALUES, USERS

ITEM = {"cate_id": CATEGORIES, "campaign_id": CAMPAIGNS, "customer": CUSTOMERS, "brand": BRANDS}
LENGTH = 50
EXPERIMENT: dict[str, Any] = {
    "name": "ads-shape",
    "data": {"source": "complete_journey"},
    "features": {
        "user": list(PROFILE_VALUES),
        "item": [*ITEM, {"price": {"numeric": "log"}}],
        "context": ["pid"],
    },
    "history": {"columns": ["cate_id", "brand"], "length": LENGTH},
    "repeat": {"key": ["cate_id", "brand"], "optional": ["brand"]},
    "split": {"parts": 4},
}


def write_ads_shape(folder: Path, users: int = USERS, items: int = ADS) -> Dataset:
    """The dataset's users, items and vocabularies, and no request."""
    random = np.random.default_rng(1)
    sizes = {"user": users, "adgroup_id": items, "pid": 2, **PROFILE_VALUES, **ITEM}

    def drawn(rows: int, values: dict[str, int], **ids: NDArray[Any]) -> dict[str, NDArray[Any]]:
        codes = {name: random.integers(0, size, rows + 1) + FIRST_VALUE for name, size in values.items()}
        return {name: column.astype(np.int32) for name, column in (ids | codes).items()}

    of_users = drawn(users, PROFILE_VALUES, user=np.arange(users + 1) + FIRST_VALUE - 1)
    of_items = drawn(items, ITEM, adgroup_id=np.arange(items + 1) + FIRST_VALUE - 1)
    looked_up = {name: pa.array(of_items[name].astype(np.int64) - FIRST_VALUE + 1) for name in ("cate_id", "brand")}
    none, nowhere = np.zeros(0, dtype=np.int64), np.zeros(users + 2, dtype=np.int64)
    return write_dataset(
        folder,
        Arrays(
            users=of_users,
            items=of_items | {"price": random.normal(size=items + 1).astype(np.float32)},
            events=dict.fromkeys(("cate_id", "brand"), none) | {"offset": nowhere},
            requests=dict.fromkeys(("user", "time", "history_end", "pid"), none) | {"candidate_offset": nowhere[:1]},
            candidates=dict.fromkeys(("item", "label", "repeat_indicator"), none),
        ),
        _fields(),
        {"train": (0, 0), "valid": (0, 0), "test": (0, 0)},
        {name: pa.array(range(1, sizes[name] + 1)).cast(pa.string()) for name in sorted(sizes)},
        {
            "users": pa.table({"_user": pa.array([None, *range(1, users + 1)])}),
            "items": pa.table({"_item": pa.array([None, *range(1, items + 1)]), **looked_up}),
        },
        fingerprint="ads-shape",
        protocol="generated",
        timezone="Asia/Shanghai",
        numeric={"price": {"numeric": "log", "mean": 5.0, "deviation": 1.5, "has_missing": False}},
        history_length=LENGTH,
        user_column="user",
        item_column="adgroup_id",
        event_columns={"cate_id": "events", "brand": "events"},
        key_columns={"cate_id": "items", "brand": "items"},
    )


def _fields() -> list[Field]:
    def field(name: str, side: FieldSide, **changes: Any) -> Field:
        return Field(name=name, side=side, kind="categorical", vocabulary=name, column=name, **changes)

    return [
        field("user", "user", is_id=True),
        *(field(name, "user") for name in PROFILE_VALUES),
        field("adgroup_id", "item", is_id=True),
        *(field(name, "item") for name in ITEM),
        Field(name="price", side="item", kind="dense", column="price"),
        field("pid", "context"),
        field("cate_id", "history"),
        field("brand", "history"),
    ]


def export_model(folder: Path, dataset: Dataset, options: dict[str, Any]) -> torch.nn.Module:
    """Export a model with random weights to `folder/export`; the model itself."""
    experiment = validate_experiment(EXPERIMENT | {"model": options}, "ads-shape")
    torch.manual_seed(1)
    model = build_model(experiment.model, schema_of(dataset))
    run = RunFolder.create(folder / "run", experiment, dataset)
    run.save_model(model.state_dict())
    export_run(Run(run), folder / "export")
    return model
