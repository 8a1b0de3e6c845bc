"""Commands that train many models and put them side by side."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from musenet.cli.options import (
    Config,
    DatasetFolder,
    Jobs,
    Json,
    Models,
    Out,
    Seeds,
    Set,
    labels,
    there_is_a_config,
    there_is_a_log,
)
from musenet.cli.printing import finish
from musenet.errors import UserError
from musenet.reporter import Reporter
from musenet.storage.addresses import is_url


def compare(  # noqa: PLR0913, PLR0917 - one per option
    paths: Annotated[list[Path], typer.Argument(metavar="CONFIG | RUN...", help="a YAML, or trained runs")],
    models: Models = None,
    seeds: Seeds = None,
    jobs: Jobs = 1,
    out: Out = None,
    dataset: Annotated[
        Path | None,
        typer.Option("--dataset", help="CONFIG: the dataset's folder; RUN...: another dataset to score them on"),
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", help="RUN...: the row to compare the others with (the first)")
    ] = None,
    adapt: Annotated[
        bool,
        typer.Option("--adapt", help="RUN...: add a row that follows the mix for each model with scenarios"),
    ] = False,
    changes: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Compare models over seeds, with paired differences.

    Trains the models of a configuration, or takes trained runs. The table is printed, and written as Markdown and JSON.

    For example: musenet compare hotels.yaml --models musenet,din --seeds 3
    """
    if not is_url(str(paths[0])):
        there_is_a_config(paths[0])
    from musenet import api
    from musenet.results import show

    with Reporter() as reporter:
        if all(map(_may_be_a_run, paths)):
            if changes or jobs != 1 or (models, seeds) != (None, None):
                raise UserError("compare: --models, --seeds, --jobs and --set are for a configuration: leave them out")
            comparison = api.compare_runs(
                paths, out, dataset=dataset, reference=reference, adapt=adapt, listener=reporter
            )
        elif len(paths) == 1:
            if adapt:
                raise UserError("compare: --adapt is for run folders: name adapted rows in compare.adapted instead")
            if reference is not None:
                raise UserError("compare: --reference is for run folders: give --set compare.reference=LABEL instead")
            there_is_a_log(paths[0], changes)
            comparison = api.compare(
                paths[0],
                out,
                models=labels(models),
                seeds=seeds,
                jobs=jobs,
                dataset=dataset,
                overrides=changes,
                listener=reporter,
            )
        else:
            missing = next(path for path in paths if not _may_be_a_run(path))
            raise UserError(f"compare: {missing} is not a run folder: give one configuration, or only run folders")

    finish(as_json, comparison.to_json(), lambda console: show(comparison, console))


def _may_be_a_run(path: Path) -> bool:
    return path.is_dir() or is_url(str(path))


def tune(
    config: Config,
    trials: Annotated[
        int | None,
        typer.Option("--trials", min=1, help="number of trials, the configured values first (as configured, or 27)"),
    ] = None,
    jobs: Jobs = 1,
    out: Out = None,
    dataset: DatasetFolder = None,
    changes: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Tune hyperparameters on validation, and train with the best.

    Uses successive halving: most trials stop early.

    For example: musenet tune hotels.yaml --trials 27 --jobs 2
    """
    from musenet import api

    with Reporter() as reporter:
        there_is_a_log(config, changes)
        tuned = api.tune(config, out, trials=trials, jobs=jobs, dataset=dataset, overrides=changes, listener=reporter)
    values = ", ".join(
        f"{key} {value} (was {tuned.configured[key]})" if value != tuned.configured[key] else f"{key} {value}"
        for key, value in tuned.chosen.items()
    )
    best = tuned.trained.best
    finish(
        as_json,
        tuned.to_json(),
        f"{tuned.trained.run}: {values}; validation AUC {best['auc']:.4f}, logloss {best['logloss']:.4f}",
    )


def ablate(
    config: Config,
    models: Models = None,
    seeds: Seeds = None,
    jobs: Jobs = 1,
    out: Out = None,
    dataset: DatasetFolder = None,
    changes: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Ablation: MUSENET with and without each of its parts.

    The parts are scenarios and repeat intentions, as in the paper's Table 3.

    For example: musenet ablate hotels.yaml --seeds 3
    """
    from musenet import api
    from musenet.results import show

    with Reporter() as reporter:
        there_is_a_log(config, changes)
        result = api.ablate(
            config,
            out,
            models=labels(models),
            seeds=seeds,
            jobs=jobs,
            dataset=dataset,
            overrides=changes,
            listener=reporter,
        )

    finish(as_json, result.to_json(), lambda console: show(result, console))


def sweep(  # noqa: PLR0913, PLR0917 - one per option
    config: Config,
    parameters: Annotated[
        list[str], typer.Option("--parameter", metavar="KEY=VALUE,VALUE", help="values to try (as configured)")
    ] = [],  # noqa: B006
    models: Models = None,
    split: Annotated[
        Literal["valid", "test"] | None, typer.Option("--split", help="which period to evaluate on (as configured)")
    ] = None,
    seeds: Seeds = None,
    jobs: Jobs = 1,
    out: Out = None,
    dataset: DatasetFolder = None,
    changes: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Vary one hyperparameter at a time, on validation.

    The others keep their configured values, as in the paper's Fig 4.

    For example: musenet sweep hotels.yaml --parameter model.scenarios=2,4,8
    """
    there_is_a_log(config, changes)
    from musenet import api
    from musenet.results import show
    from musenet.studies.sweep.plan import parse_parameters

    with Reporter() as reporter:
        result = api.sweep(
            config,
            out,
            parameters=parse_parameters(parameters) or None,
            models=labels(models),
            split=split,
            seeds=seeds,
            jobs=jobs,
            dataset=dataset,
            overrides=changes,
            listener=reporter,
        )
    finish(as_json, result.to_json(), lambda console: show(result, console))


def backtest(
    config: Config,
    models: Models = None,
    out: Out = None,
    dataset: DatasetFolder = None,
    changes: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Backtest: train, test on the next period, walk forward.

    Compares policies: a model left alone, with its mix followed, fine-tuned online, warm-started before each period,
    or retrained.

    For example: musenet backtest hotels.yaml --set backtest.periods=4
    """
    from musenet import api
    from musenet.results import show

    with Reporter() as reporter:
        there_is_a_log(config, changes)
        result = api.backtest(config, out, models=labels(models), dataset=dataset, overrides=changes, listener=reporter)
    finish(as_json, result.to_json(), lambda console: show(result, console))


def demo(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="a YAML (the bundled one, on a simulated log, if left out)")
    ] = None,
    out: Out = None,
    impressions: Annotated[
        int | None, typer.Option("--impressions", help="without CONFIG: how many are simulated (600,000)")
    ] = None,
    changes: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """From a log to scenarios, a comparison and a report.

    Without CONFIG it needs no data: a log with planted scenarios is simulated.

    For example: musenet demo
    """
    if config is not None:
        there_is_a_config(config)
    from musenet import api
    from musenet.results import show

    with Reporter() as reporter:
        if config is not None and impressions is None:
            there_is_a_log(config, changes)
        result = api.demo(config, out, impressions=impressions, overrides=changes, listener=reporter)

    finish(as_json, result.to_json(), lambda console: show(result, console))
