"""A small log in many spellings, and exports of untrained models on it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from musenet.config.experiment import Experiment
from musenet.config.loading import validate_experiment
from musenet.dataset.dataset import Dataset
from musenet.preparation.prepare import prepare
from musenet.serving.export.export import export_run
from musenet.sources.registry import open_source
from serving.exports import untrained_run

Tables = dict[str, pd.DataFrame]
CONFIG: dict[str, Any] = {
    "name": "case",
    "features": {
        "item": ["category"],
        "context": ["device"],
        "candidate": ["flag", "code", {"price": {"numeric": "log"}}],
    },
    "history": {"columns": ["item_id", "category"], "length": 5},
    "repeat": {"key": ["item_id"]},
    "split": {"test": "2 days", "valid": "1 day"},
    "model": {"name": "musenet", "scenarios": 2, "embedding": 4, "hidden": [6]},
}
ROLES = {"user": "user_id", "item": "item_id"}


def tables(seed: int = 1, users: int = 30, items: int = 12, requests: int = 150, first: int = 1) -> Tables:
    """`shown`, `events`, `items` of ten days, typed as pandas types them; ids count from `first` on."""
    r = np.random.default_rng(seed)
    seconds = np.sort(r.integers(0, 10 * 86_400, requests))
    shown = pd.DataFrame(
        [
            (int(r.integers(users)) + first if not place else None, int(item) + first, second, request)
            for request, second in enumerate(seconds)
            for place, item in enumerate(r.choice(items, 3, replace=False))
        ],
        columns=["user_id", "item_id", "shown_at", "search_id"],
    )
    shown["user_id"] = shown.user_id.ffill().astype("int64")
    shown["shown_at"] = pd.Timestamp("2024-03-04") + pd.to_timedelta(shown.shown_at, unit="s")
    shown["clicked"] = (r.random(len(shown)) < 0.3).astype(int)
    shown["device"] = shown.search_id.map(dict(enumerate(r.choice(["phone", "tv"], requests))))
    shown["flag"] = shown.item_id % 2 == 0
    shown["code"] = np.where(shown.item_id % 5 == 0, np.nan, shown.item_id % 4)
    shown["price"] = r.lognormal(3, 1, len(shown)).round(2)
    events = shown[shown.clicked == 1][["user_id", "item_id", "shown_at"]].rename(columns={"shown_at": "at"})
    events["at"] += pd.Timedelta(seconds=20)
    known = pd.DataFrame({"item_id": np.arange(items) + first, "category": r.integers(1, 4, items)})
    return {"shown": shown, "events": events.reset_index(drop=True), "items": known}


def write(folder: Path, log: Tables, ending: str = "parquet", **changes: Any) -> Experiment:
    """Write the tables, and the experiment that reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in log.items():
        path = folder / f"{name}.{ending}"
        table.to_parquet(path, index=False) if ending == "parquet" else table.to_csv(path, index=False)
    return of_written(folder, ending, **changes)


def of_written(folder: Path, ending: str = "parquet", **changes: Any) -> Experiment:
    """The experiment that reads tables that were written."""
    data = {
        "source": "own_files",
        "impressions": ROLES
        | {"path": str(folder / f"shown.{ending}"), "time": "shown_at", "label": "clicked", "request": "search_id"},
        "events": ROLES | {"path": str(folder / f"events.{ending}"), "time": "at"},
        "items": {"path": str(folder / f"items.{ending}"), "item": "item_id"},
    }
    return validate_experiment(CONFIG | {"data": data} | changes, "case")


def prepared(folder: Path, experiment: Experiment) -> Dataset:
    return prepare(open_source(experiment.data, experiment.recipe), experiment.recipe, folder / "dataset").dataset


def exported(folder: Path, experiment: Experiment) -> tuple[Dataset, Path]:
    """The dataset, and the export of an untrained model on it."""
    dataset = prepared(folder, experiment)
    export_run(untrained_run(folder / "run", dataset, experiment), folder / "export")
    return dataset, folder / "export"
