"""Learn latent scenarios from a recommendation log, and predict clicks with them.

The calls of `musenet.api` are here too: `musenet.train("configs/hotels.yaml")`, and `musenet.Scorer(folder)`. They are
loaded when first used, so that the command line answers for help without waiting for torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musenet.api import (
        SILENT,
        Experiment,
        Listener,
        Log,
        Moment,
        Run,
        Scorer,
        Source,
        ablate,
        backtest,
        backup,
        compare,
        compare_runs,
        config_schema,
        demo,
        describe_scenarios,
        drift,
        evaluate,
        export,
        fill,
        forget,
        guess,
        init,
        load,
        load_history,
        name,
        open_store,
        predict,
        prepare,
        report,
        reproduce,
        scenarios,
        serve,
        simulate_ads,
        simulate_hotels,
        sweep,
        train,
        tune,
    )

__version__ = "0.1.0"

__all__ = [
    "SILENT",
    "Experiment",
    "Listener",
    "Log",
    "Moment",
    "Run",
    "Scorer",
    "Source",
    "__version__",
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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'musenet' has no attribute '{name}'")
    from musenet import api

    return getattr(api, name)
