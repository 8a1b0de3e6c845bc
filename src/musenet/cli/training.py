"""The command that trains."""

from pathlib import Path
from typing import Annotated

import typer

from musenet.cli.options import Config, DatasetFolder, Json, Out, Set, there_is_a_log
from musenet.cli.printing import finish
from musenet.reporter import Reporter


def train(
    config: Config,
    resume: Annotated[bool, typer.Option("--resume", help="continue from the run's last checkpoint")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="start again, replacing the run in the folder")] = False,
    start_from: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="warm start from the weights of this run"),
    ] = None,
    out: Out = None,
    dataset: DatasetFolder = None,
    changes: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Train a model; prepares its dataset first if needed.

    For example: musenet train hotels.yaml --set training.epochs=3 --out runs/hotels
    """
    from musenet import api

    with Reporter() as reporter:
        there_is_a_log(config, changes)
        run = api.train(
            config,
            out,
            resume=resume,
            restart=restart,
            start_from=start_from,
            dataset=dataset,
            overrides=changes,
            listener=reporter,
        )
    result = run.training
    best = result.best
    text = (
        f"{result.run}: best at step {best['step']:,}, validation AUC {best['auc']:.4f}, "
        f"logloss {best['logloss']:.4f}; {result.seconds:,.0f} s, {result.samples_per_second:,.0f} samples/s; "
        f"stopped: {result.stopped}"
    )
    finish(as_json, result.to_json(), text)
