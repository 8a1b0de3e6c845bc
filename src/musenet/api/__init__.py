"""Every command as a Python call; the command line is a thin layer on these.

    import musenet

    musenet.train("configs/hotels.yaml", overrides=["model.scenarios=6"])
    musenet.evaluate("runs/hotels").to_json()

An experiment is an `Experiment` or the path of its YAML. Datasets lie in `datasets/<name>` and runs in `runs/<name>`
below the current folder unless another place is given. `overrides` are `key.path=value`, as `--set`; a `listener` is
told how the work goes. What the caller can fix is raised as a `UserError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from musenet.errors import missing_package

if TYPE_CHECKING:
    from musenet.api.demos import demo
    from musenet.api.experiments import guess, load, prepare
    from musenet.api.logs import init, simulate_ads, simulate_hotels
    from musenet.api.results import describe_scenarios, evaluate, export, name, report, reproduce, scenarios
    from musenet.api.run import Run
    from musenet.api.serving import backup, drift, fill, forget, load_history, predict, serve
    from musenet.api.studies import ablate, backtest, compare, compare_runs, sweep, tune
    from musenet.api.training import train
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
    "backtest",
    "backup",
    "compare",
    "compare_runs",
    "config_schema",
    "demo",
    "describe_scenarios",
    "drift",
    "evaluate",
    "export",
    "fill",
    "forget",
    "guess",
    "init",
    "load",
    "load_history",
    "name",
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

_HOMES = {
    "Experiment": "musenet.config.experiment.Experiment",
    "Listener": "musenet.progress.Listener",
    "Log": "musenet.sources.log.Log",
    "Moment": "musenet.progress.Moment",
    "Run": "musenet.api.run.Run",
    "SILENT": "musenet.progress.SILENT",
    "Scorer": "musenet.serving.scorer.scorer.Scorer",
    "Source": "musenet.sources.tables.Source",
    "ablate": "musenet.api.studies.ablate",
    "backup": "musenet.api.serving.backup",
    "compare": "musenet.api.studies.compare",
    "compare_runs": "musenet.api.studies.compare_runs",
    "config_schema": "musenet.config.loading.json_schema",
    "demo": "musenet.api.demos.demo",
    "describe_scenarios": "musenet.api.results.describe_scenarios",
    "drift": "musenet.api.serving.drift",
    "evaluate": "musenet.api.results.evaluate",
    "export": "musenet.api.results.export",
    "fill": "musenet.api.serving.fill",
    "forget": "musenet.api.serving.forget",
    "guess": "musenet.api.experiments.guess",
    "init": "musenet.api.logs.init",
    "load": "musenet.api.experiments.load",
    "load_history": "musenet.api.serving.load_history",
    "name": "musenet.api.results.name",
    "open_store": "musenet.serving.store.opening.open_store",
    "predict": "musenet.api.serving.predict",
    "prepare": "musenet.api.experiments.prepare",
    "report": "musenet.api.results.report",
    "reproduce": "musenet.api.results.reproduce",
    "scenarios": "musenet.api.results.scenarios",
    "serve": "musenet.api.serving.serve",
    "simulate_ads": "musenet.api.logs.simulate_ads",
    "simulate_hotels": "musenet.api.logs.simulate_hotels",
    "backtest": "musenet.api.studies.backtest",
    "sweep": "musenet.api.studies.sweep",
    "train": "musenet.api.training.train",
    "tune": "musenet.api.studies.tune",
}
"""Where each of them is, loaded when it is first used: who serves has no PyTorch, who trains waits for no server."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'musenet.api' has no attribute '{name}'")
    module, _, called = _HOMES[name].rpartition(".")
    try:
        return getattr(import_module(module), called)
    except ModuleNotFoundError as error:
        raise missing_package(error) from error
