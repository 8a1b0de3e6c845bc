"""An export of the shape of Ali Display Ads, with random weights: what scoring costs does not depend on what they are.

1.14 million users, 0.85 million ads, embeddings of 16, histories of 50 events of (category, brand). The dataset is
written in the prepared format without a log, since nothing is trained on it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from musenet.config.loading import validate_experiment
from musenet.dataset.batch import schema_of
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import FIRST_VALUE, Field, Manifest, Period
from musenet.models.registry import build_model
from musenet.runs.folder import RunFolder
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


def write_dataset(folder: Path, users: int = USERS, items: int = ADS) -> Dataset:
    """The dataset's users, items and vocabularies."""
    random = np.random.default_rng(1)
    sizes = {"user": users, "adgroup_id": items, "pid": 2, **PROFILE_VALUES, **ITEM}
    (folder / "keys").mkdir(parents=True)
    (folder / "vocabularies").mkdir()
    for name, size in sizes.items():
        values = pa.array(range(1, size + 1)).cast(pa.string())
        pq.write_table(pa.table({"value": values}), folder / "vocabularies" / f"{name}.parquet")
    ids = {"users": ("user", users), "items": ("adgroup_id", items)}
    columns = {f"{side}/{name}": np.arange(rows + 1) + FIRST_VALUE - 1 for side, (name, rows) in ids.items()}
    columns |= {
        f"users/{name}": random.integers(0, size, users + 1) + FIRST_VALUE for name, size in PROFILE_VALUES.items()
    }
    columns |= {f"items/{name}": random.integers(0, size, items + 1) + FIRST_VALUE for name, size in ITEM.items()}
    for name, column in columns.items():
        (folder / name).parent.mkdir(exist_ok=True)
        np.save(folder / f"{name}.npy", column.astype(np.int32))
    np.save(folder / "items" / "price.npy", random.normal(size=items + 1).astype(np.float32))
    keys = {name: pa.array(columns[f"items/{name}"] - FIRST_VALUE + 1) for name in ("cate_id", "brand")}
    pq.write_table(pa.table({"_user": pa.array([None, *range(1, users + 1)])}), folder / "keys" / "users.parquet")
    pq.write_table(
        pa.table({"_item": pa.array([None, *range(1, items + 1)]), **keys}), folder / "keys" / "items.parquet"
    )
    (folder / "manifest.json").write_text(_manifest(sizes, users, items).model_dump_json())
    return Dataset(folder)


def _manifest(sizes: dict[str, int], users: int, items: int) -> Manifest:
    def field(name: str, side: Any, **changes: Any) -> Field:
        return Field(name=name, side=side, kind="categorical", vocabulary=name, column=name, **changes)

    nothing = Period(begin=0, end=0, impressions=0, positives=0, first_time=None, last_time=None)
    price = {"numeric": "log", "mean": 5.0, "deviation": 1.5, "has_missing": False}
    return Manifest(
        version="0",
        fingerprint="ads-shape",
        protocol="generated",
        timezone="Asia/Shanghai",
        negative_sampling_rate=1.0,
        users=users,
        items=items,
        events=0,
        requests=0,
        candidates=0,
        splits={"train": nothing, "valid": nothing, "test": nothing},
        fields=[
            field("user", "user", is_id=True),
            *(field(name, "user") for name in PROFILE_VALUES),
            field("adgroup_id", "item", is_id=True),
            *(field(name, "item") for name in ITEM),
            Field(name="price", side="item", kind="dense", column="price"),
            field("pid", "context"),
            field("cate_id", "history"),
            field("brand", "history"),
        ],
        vocabularies={name: size + FIRST_VALUE - 1 for name, size in sorted(sizes.items())},
        numeric={"price": price},
        history_length=LENGTH,
        has_repeats=True,
        user_column="user",
        item_column="adgroup_id",
        event_columns={"cate_id": "events", "brand": "events"},
        key_columns={"cate_id": "items", "brand": "items"},
        checksums={},
    )


def export_model(folder: Path, dataset: Dataset, options: dict[str, Any]) -> torch.nn.Module:
    """Export a model with random weights to `folder/export`; the model itself."""
    experiment = validate_experiment(EXPERIMENT | {"model": options}, "ads-shape")
    torch.manual_seed(1)
    model = build_model(experiment.model, schema_of(dataset))
    run = RunFolder.create(folder / "run", experiment, dataset)
    run.save_model(model.state_dict())
    export_run(run, folder / "export")
    return model
