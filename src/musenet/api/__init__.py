"""Every command as a Python call; the command line is a thin layer on these.

    import musenet

    musenet.train("configs/hotels.yaml", overrides=["model.scenarios=6"])
    musenet.evaluate("runs/hotels").to_json()

An experiment is an `Experiment` or the path of its YAML. Datasets lie in `datasets/<name>` and runs in `runs/<name>`
below the current folder unless another place is given. `overrides` are `key.path=value`, as `--set`; a `listener` is
told how the work goes. What the caller can fix is raised as a `UserError`.
"""

from musenet.api.experiments import guess, load, prepare, train
from musenet.api.logs import init, simulate_ads, simulate_hotels
from musenet.api.results import describe_scenarios, evaluate, export, report, reproduce, scenarios
from musenet.api.run import Run
from musenet.api.serving import backup, fill, forget, load_history, predict, serve
from musenet.api.studies import ablate, compare, compare_runs, demo, sweep, tune
from musenet.config.experiment import Experiment
from musenet.config.loading import json_schema as config_schema
from musenet.progress import SILENT, Listener, Moment
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.store.opening import open_store
from musenet.sources.log import Log
from musenet.sources.tables import Source

__all__ = [
    "SILENT",
    "Experiment",
    "Listener",
    "Log",
    "Moment",
    "Run",
    "Scorer",
    "Source",
    "ablate",
    "backup",
    "compare",
    "compare_runs",
    "config_schema",
    "demo",
    "describe_scenarios",
    "evaluate",
    "export",
    "fill",
    "forget",
    "guess",
    "init",
    "load",
    "load_history",
    "open_store",
    "predict",
    "prepare",
    "report",
    "reproduce",
    "scenarios",
    "serve",
    "simulate_ads",
    "simulate_hotels",
    "sweep",
    "train",
    "tune",
]
