"""One command per step: parses, calls `musenet.api`, prints. Heavy imports wait until a command needs them."""

import errno
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from musenet import __version__
from musenet.errors import FirstWorkerFailedError, UserError
from musenet.files import plain, write_text
from musenet.progress import Reporter

INTERRUPTED = 130

app = typer.Typer(
    name="musenet",
    help="Learn the hidden scenarios in a recommendation log, and predict clicks with them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
simulate_app = typer.Typer(help="Write simulated logs: ordinary files that the sources read.", no_args_is_help=True)
app.add_typer(simulate_app, name="simulate")

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="the experiment's YAML")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")]
Out = Annotated[Path | None, typer.Option("--out", help="where the result goes")]
Set = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="change a value of the configuration")]
Json = Annotated[
    bool, typer.Option("--json", help="end with one JSON object on standard output, all else goes to stderr")
]
DatasetFolder = Annotated[
    Path | None, typer.Option("--dataset", help="the dataset's folder (datasets/<name>, if left out)")
]
EngineChoice = Annotated[
    Literal["duckdb", "spark"], typer.Option("--engine", help="what computes the relations; the dataset is the same")
]
MemoryLimit = Annotated[
    str | None,
    typer.Option("--memory-limit", help="memory of the engine, as 4GB (half of what is free, if left out)"),
]
SplitName = Annotated[Literal["train", "valid", "test"], typer.Option("--split", help="which period")]


Models = Annotated[str | None, typer.Option("--models", help="labels, comma-separated (all, if left out)")]
Seeds = Annotated[int | None, typer.Option("--seeds", min=1, help="trainings per model (as configured, if left out)")]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="trainings at once, in processes")]


@app.callback(invoke_without_command=True)
def musenet(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version and exit", is_eager=True)] = False,
) -> None:
    """Learn the hidden scenarios in a recommendation log, and predict clicks with them."""
    if version:
        typer.echo(f"musenet {__version__}")
        raise typer.Exit
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and context.invoked_subcommand != "train":
        raise UserError(f"{context.invoked_subcommand} is the work of one process: start it without torchrun")


@app.command()
def init(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Parquet or CSV files of a log")],
    out: Annotated[Path, typer.Option("--out", help="the YAML to write; never overwritten")] = Path("musenet.yaml"),
    as_json: Json = False,
) -> None:
    """Look at a log's files and write a commented configuration, doubts included."""
    from musenet import api

    with Reporter():
        written = api.init(files, out)
    _finish(as_json, {"config": written}, f"wrote {written}: read its comments, then `musenet train {written}`")


@app.command()
def prepare(
    config: Config,
    out: Out = None,
    engine: EngineChoice = "duckdb",
    memory_limit: MemoryLimit = None,
    changes: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Turn a log into a dataset that leaks nothing from the future, and check it."""
    from musenet import api
    from musenet.preparation.checks.checks import render

    with Reporter() as reporter:
        prepared = api.prepare(
            config, out, engine=engine, memory_limit=memory_limit, overrides=changes, listener=reporter
        )
    manifest = prepared.dataset.manifest
    counts = {name: getattr(manifest, name) for name in ("users", "items", "events", "requests", "candidates")}
    content = {
        "dataset": prepared.folder,
        "fingerprint": manifest.fingerprint,
        "reused": prepared.reused,
        **counts,
        "splits": {name: period.model_dump() for name, period in manifest.splits.items()},
        "warnings": prepared.checks.warnings,
    }

    def show(console: Console) -> None:
        render(prepared.checks, console)
        numbers = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        console.print(f"{prepared.folder}: {numbers}", markup=False, soft_wrap=True)

    _finish(as_json, content, show)


@app.command()
def train(
    config: Config,
    resume: Annotated[bool, typer.Option("--resume", help="go on from the run's checkpoint")] = False,
    out: Out = None,
    dataset: DatasetFolder = None,
    changes: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Train the experiment's model; prepares its dataset first if need be."""
    from musenet import api
    from musenet.distributed import workers

    with workers.joined(), Reporter() as reporter:
        result = api.train(config, out, resume=resume, dataset=dataset, overrides=changes, listener=reporter)
        if not workers.is_first():
            return
    best = result.best
    text = (
        f"{result.run}: best at step {best['step']:,}, validation AUC {best['auc']:.4f}, "
        f"logloss {best['logloss']:.4f}; {result.seconds:,.0f} s, {result.samples_per_second:,.0f} samples/s; "
        f"stopped: {result.stopped}"
    )
    _finish(as_json, result.to_json(), text)


@app.command()
def evaluate(run: Run, split: SplitName = "test", out: Out = None, as_json: Json = False) -> None:
    """Measure a run: AUC, GAUC, logloss, calibration and its scenarios, with intervals and the protocol."""
    from musenet import api
    from musenet.files import write_json

    with Reporter():
        result = api.evaluate(run, split)
        if out is not None:
            write_json(out, result.to_json())
    _finish(as_json, result.to_json(), result.show)


@app.command()
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
    changes: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Put models side by side, over seeds, paired: one table on the terminal, as Markdown and as JSON."""
    from musenet import api
    from musenet.studies.comparison.table import show, show_parts

    with Reporter() as reporter:
        if all(path.is_dir() for path in paths):
            comparison = api.compare_runs(paths, out, dataset=dataset, reference=reference, listener=reporter)
        elif len(paths) == 1:
            if reference is not None:
                raise UserError("compare: --reference is for run folders: give --set compare.reference=LABEL instead")
            comparison = api.compare(
                paths[0],
                out,
                models=_labels(models),
                seeds=seeds,
                jobs=jobs,
                dataset=dataset,
                overrides=changes,
                listener=reporter,
            )
        else:
            missing = next(path for path in paths if not path.is_dir())
            raise UserError(f"compare: {missing} is no run folder: give one configuration, or run folders alone")

    def show_all(console: Console) -> None:
        show(comparison, console)
        show_parts(comparison, console)

    _finish(as_json, comparison.to_json(), show_all)


@app.command()
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
    """Take MUSENET apart (the paper's Table 3): with and without scenarios and repeat intentions."""
    from musenet import api
    from musenet.studies.comparison.table import show

    with Reporter() as reporter:
        result = api.ablate(
            config,
            out,
            models=_labels(models),
            seeds=seeds,
            jobs=jobs,
            dataset=dataset,
            overrides=changes,
            listener=reporter,
        )

    def show_all(console: Console) -> None:
        show(result, console)
        console.print()
        console.print(result.sentences, markup=False)

    _finish(as_json, result.to_json(), show_all)


@app.command()
def sweep(  # noqa: PLR0913, PLR0917 - one per option
    config: Config,
    parameters: Annotated[
        list[str], typer.Option("--parameter", metavar="KEY=VALUE,VALUE", help="values to try (as configured)")
    ] = [],  # noqa: B006
    models: Models = None,
    split: Annotated[
        Literal["valid", "test"] | None, typer.Option("--split", help="which period is measured (as configured)")
    ] = None,
    seeds: Seeds = None,
    jobs: Jobs = 1,
    out: Out = None,
    dataset: DatasetFolder = None,
    changes: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Vary one option at a time around the configured values (the paper's Fig 4), measured on validation."""
    from musenet import api
    from musenet.studies.sweep.plan import parse_parameters
    from musenet.studies.sweep.table import show

    with Reporter() as reporter:
        result = api.sweep(
            config,
            out,
            parameters=parse_parameters(parameters) or None,
            models=_labels(models),
            split=split,
            seeds=seeds,
            jobs=jobs,
            dataset=dataset,
            overrides=changes,
            listener=reporter,
        )
    _finish(as_json, result.to_json(), lambda console: show(result, console))


@app.command()
def scenarios(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="a .parquet or .csv file: a row per request")],
    as_json: Json = False,
) -> None:
    """Hand out the scenario of every request, and say what each scenario is."""
    from musenet import api
    from musenet.portraits.portraits import show_portraits

    with Reporter():
        rows = api.scenarios(run, out)
        portraits = api.describe_scenarios(run)

    def show(console: Console) -> None:
        show_portraits(portraits, console)
        console.print(f"wrote {rows:,} requests to {out}", markup=False, soft_wrap=True)

    _finish(as_json, {"out": out, "rows": rows, "scenarios": [one.to_json() for one in portraits]}, show)


@app.command()
def report(
    run: Run,
    out: Out = None,
    note: Annotated[
        Path | None, typer.Option("--note", help="Markdown that tells what was learned, to stand below the headline")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a page that shows a run: `report.html` in its folder unless --out names another `.html` or `.md`."""
    from musenet import api

    with Reporter() as reporter:
        written = api.report(run, out, note=note, listener=reporter)
    _finish(as_json, {"report": written}, f"wrote {written}")


@app.command()
def export(
    run: Run, out: Annotated[Path, typer.Option("--out", help="the folder to write")], as_json: Json = False
) -> None:
    """Write what serving a run takes into one folder: graphs, tables and a manifest."""
    from musenet import api

    with Reporter():
        written = api.export(run, out)
    _finish(as_json, {"export": written}, f"wrote {written}")


@app.command()
def predict(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="a folder that `musenet export` wrote")],
    requests: Annotated[Path, typer.Argument(metavar="FILE", help="Parquet: a row per candidate")],
    out: Annotated[Path, typer.Option("--out", help="the Parquet file to write")],
    as_json: Json = False,
) -> None:
    """Score every row of a Parquet file by an export, in the order of the rows."""
    from musenet import api

    with Reporter() as reporter:
        rows = api.predict(export, requests, out, progress=reporter.steps("scoring"))
    _finish(as_json, {"out": out, "rows": rows}, f"wrote {rows:,} scores to {out}")


@app.command()
def serve(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="the folder that `musenet export` wrote")],
    host: Annotated[str, typer.Option("--host", help="where to listen; elsewhere than here, a token is needed")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8000,
    store: Annotated[
        str, typer.Option("--store", help="histories: a SQLite file, or an URL of Valkey or Redis")
    ] = "history.sqlite",
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="holds the bearer token ($MUSENET_TOKEN, if left out)")
    ] = None,
) -> None:
    """Score, keep histories and show why, over HTTP, until told to stop."""
    from musenet.serving.http.server import serve as run_server

    run_server(export, host, port, store, token_file)


@app.command()
def fill(
    run: Run,
    store: Annotated[
        str, typer.Option("--store", help="histories: a SQLite file, or an URL of Valkey or Redis")
    ] = "history.sqlite",
    until: Annotated[
        str | None, typer.Option("--until", help="leave out events from this time on, such as 2026-01-31T00:00:00Z")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fill a history store with the events of the log that a run was trained on."""
    from musenet import api

    with Reporter() as reporter:
        new = api.fill(run, store, until=until, progress=reporter.steps("filling"))
    _finish(as_json, {"store": store, "new_events": new}, f"{store}: {new:,} new events")


@simulate_app.command("hotels")
def simulate_hotels(
    out: Annotated[Path, typer.Option("--out", help="the folder to write")],
    impressions: Annotated[int, typer.Option("--impressions")] = 2_000_000,
    seed: Annotated[int, typer.Option("--seed")] = 1,
    scenario_count: Annotated[int, typer.Option("--scenarios", help="planted scenarios")] = 4,
    noise: Annotated[float, typer.Option("--noise", help="chance in which scenario applies")] = 1.0,
    strength: Annotated[float, typer.Option("--strength", help="how much scenarios differ; 0: in nothing")] = 1.0,
    shift: Annotated[float, typer.Option("--shift", help="how much their shares change in the last week")] = 0.0,
    as_json: Json = False,
) -> None:
    """An online travel log with planted scenarios, as ordinary Parquet files."""
    from musenet import api

    with Reporter() as reporter:
        rows = api.simulate_hotels(
            out,
            progress=reporter.steps("simulating"),
            impressions=impressions,
            seed=seed,
            scenarios=scenario_count,
            noise=noise,
            strength=strength,
            shift=shift,
        )
    numbers = ", ".join(f"{count:,} {name}" for name, count in rows.items())
    _finish(as_json, {"out": out, "rows": rows}, f"{out}: {numbers}")


@simulate_app.command("ads")
def simulate_ads(
    out: Annotated[Path, typer.Option("--out", help="the folder to write")],
    scale: Annotated[
        float | None, typer.Option("--scale", help="share of the published size (0.01, if neither is given)")
    ] = None,
    impressions: Annotated[
        int | None, typer.Option("--impressions", help="the same as about so many impressions")
    ] = None,
    seed: Annotated[int, typer.Option("--seed")] = 1,
    as_json: Json = False,
) -> None:
    """The four files of Ali Display Ads, as published in schema and figures, of any size."""
    from musenet import api

    with Reporter() as reporter:
        progress = reporter.steps("simulating")
        rows = api.simulate_ads(out, progress=progress, scale=scale, impressions=impressions, seed=seed)
    numbers = ", ".join(f"{count:,} in {name}" for name, count in rows.items())
    _finish(as_json, {"out": out, "rows": rows}, f"{out}: {numbers}")


@app.command()
def demo(
    config: Annotated[Path, typer.Argument(metavar="CONFIG")] = Path("configs/demo.yaml"),
    out: Out = None,
    changes: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """From a real log to learned scenarios, an honest table and a report, by one command."""
    from musenet import api
    from musenet.portraits.portraits import show_portraits
    from musenet.studies.comparison.table import show

    with Reporter() as reporter:
        result = api.demo(config, out, overrides=changes, listener=reporter)

    def show_all(console: Console) -> None:
        show(result, console)
        console.print()
        show_portraits(result.scenarios, console)
        console.print(f"The report: {result.report}", markup=False, soft_wrap=True)

    _finish(as_json, result.to_json(), show_all)


@app.command("config-schema")
def config_schema(out: Out = None) -> None:
    """The JSON schema of a configuration, for editors to complete."""
    from musenet.config.loading import json_schema

    text = json.dumps(json_schema(), indent=2)
    if out is None:
        typer.echo(text)
    else:
        write_text(out, text + "\n")


def _labels(text: str | None) -> list[str] | None:
    return None if text is None else [label.strip() for label in text.split(",")]


def _finish(as_json: bool, content: dict[str, Any], show: str | Callable[[Console], None]) -> None:
    """Print a command's result for people, or, with --json, for programs: one line on standard output."""
    if as_json:
        typer.echo(json.dumps(plain(content), ensure_ascii=False, allow_nan=False))
        return
    console = Console(highlight=False)
    if isinstance(show, str):
        console.print(show, markup=False, soft_wrap=True)
    else:
        show(console)


def main() -> None:
    """Entry point: runs a command and ends with its exit status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; what goes wrong is one sentence on standard error and an exit status.

    0: done. 1: our mistake or the machine's. 2: the user can mend it. 130: interrupted.
    """
    try:
        status = app(arguments, prog_name="musenet", standalone_mode=False)
    except FirstWorkerFailedError:
        return 2
    except UserError as error:
        return _fail(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; there is nobody to tell
        return 1
    except Exception as error:
        return _explain(error)
    if status == INTERRUPTED:  # some versions of typer turn the interruption into this status themselves
        return _fail("interrupted; what was written is kept: the same command goes on (`train` with --resume)", status)
    return status if isinstance(status, int) else 0


def _explain(error: Exception) -> int:
    usage = getattr(error, "format_message", None)  # a mistake in the command line itself
    if callable(usage):
        return _fail(f"{str(usage()).rstrip('.')}: see `musenet --help`", 2)
    if _is_disk_full(error):
        where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        return _fail(f"the disk is full{where}: free some space and run the same command again", 1)
    with tempfile.NamedTemporaryFile("w", prefix="musenet-error-", suffix=".txt", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return _fail(f"musenet broke ({what}); the traceback is saved in {file.name}: please report it", 1)


def _is_disk_full(error: Exception) -> bool:
    number = error.errno if isinstance(error, OSError) else None
    return number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)


def _fail(sentence: str, status: int) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
