"""Simulated hotel logs with other options than the usual ones, each with the experiment of `configs/hotels.yaml`."""

import shutil
from pathlib import Path

import musenet
from musenet.config.experiment import Experiment
from musenet.dataset.manifest import holds_dataset

CONFIG = Path(__file__).parent.parent / "configs" / "hotels.yaml"
FILES = {"impressions": "impressions", "events": "clicks", "users": "users", "items": "hotels"}
"""The file that is each part of `data`."""


def hotels_with(work: Path, name: str, changes: list[str], **options: float | str) -> tuple[Experiment, Path]:
    """The experiment on a log simulated with these options, untuned, and the folder of its dataset.

    The log, `<work>/logs/<name>`, is simulated unless `<work>/datasets/<name>` has been prepared from it before.
    """
    log, dataset = work / "logs" / name, work / "datasets" / name
    if not holds_dataset(dataset):
        shutil.rmtree(log, ignore_errors=True)
        musenet.simulate_hotels(log, progress=None, **options)
    paths = [f"data.{part}.path={(log / file).resolve()}.parquet" for part, file in FILES.items()]
    untuned = ["compare.tuning=null", "compare.top=null"]
    return musenet.load(CONFIG, overrides=[f"name={name}", *paths, *untuned, *changes]), dataset
