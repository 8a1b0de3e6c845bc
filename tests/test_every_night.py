"""The script of docs/every-night.md, run as it stands there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import musenet as mn
from frame_logs import shop_frames
from musenet.dataset.dataset import Dataset
from musenet.serving.scorer.scorer import Scorer
from places import ROOT

PAGE = (ROOT / "docs" / "every-night.md").read_text(encoding="utf-8")
SCRIPT = next(block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if block.startswith("#!/bin/sh"))
LAST, TODAY = "2024-03-21", "2024-03-22"


def write_day(folder: Path, days: list[str], name: str) -> None:
    """The impressions and clicks of some days, as a file of each."""
    frames = shop_frames()
    for table, place, time in (("impressions", "shown", "shown_at"), ("events", "clicks", "clicked_at")):
        (folder / place).mkdir(exist_ok=True)
        frame = frames[table]
        frame[frame[time].dt.strftime("%Y-%m-%d").isin(days)].to_parquet(folder / place / f"{name}.parquet")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shop whose model of the day before is served, and whose files of the day have come."""
    days = [f"2024-03-{day:02}" for day in range(4, 22)]
    write_day(tmp_path, days, LAST)
    ids = {"user": "user_id", "item": "item_id"}
    config = {
        "name": "shop",
        "data": {
            "source": "own_files",
            "impressions": {"path": "shown", **ids, "time": "shown_at", "label": "clicked", "request": "search_id"},
            "events": {"path": "clicks", **ids, "time": "clicked_at", "kind": "action"},
        },
        "features": {"context": ["device"], "candidate": [{"price": {"numeric": "log"}}]},
        "history": {"columns": ["item_id"], "length": 5},
        "repeat": {"key": ["item_id"]},
        "split": {"test": "1 day", "valid": "1 day"},
        "model": {"name": "musenet", "scenarios": 2, "hidden": [8], "embedding": 4},
        "training": {"epochs": 1, "batch_size": 128, "learning_rate": 0.01},
    }
    (tmp_path / "shop.yaml").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    mn.prepare("shop.yaml", f"datasets/{LAST}")
    mn.train("shop.yaml", f"runs/{LAST}", dataset=f"datasets/{LAST}")
    mn.export(f"runs/{LAST}", "exports/current")
    for file in ("prepared", "served"):
        (tmp_path / file).write_text(f"{LAST}\n")
    write_day(tmp_path, [TODAY], TODAY)
    return tmp_path


def test_the_script_serves_the_better_model(shop: Path) -> None:
    places = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    command = ["sh", "-c", SCRIPT, "every-night.sh", TODAY]
    done = subprocess.run(command, env={**os.environ, **places}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    extended = Dataset(shop / "datasets" / TODAY).manifest
    assert extended.extends == Dataset(shop / "datasets" / LAST).manifest.fingerprint
    loss = {run: json.loads((shop / f"on-{TODAY}-{run}.json").read_text())["logloss"]["value"] for run in (LAST, TODAY)}
    shown = shop_frames()["impressions"]
    measured = json.loads((shop / f"on-{TODAY}-{TODAY}.json").read_text())
    assert measured["impressions"] == (shown.shown_at.dt.strftime("%Y-%m-%d") == TODAY).sum()
    better = TODAY if loss[TODAY] < loss[LAST] else LAST
    assert (shop / "served").read_text().strip() == better
    assert (shop / "prepared").read_text().strip() == TODAY
    weights = mn.Run(shop / "runs" / better).evaluate().weights
    assert weights is not None
    assert Scorer(shop / "exports" / "current").version == f"shop-{weights[:12]}"
    assert (shop / f"drift-{TODAY}.html").is_file()
