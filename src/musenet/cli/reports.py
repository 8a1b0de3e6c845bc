"""Commands that look at one run."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from musenet.cli.options import Json, Out, PastEvents, Run, SplitName
from musenet.cli.printing import finish, warnings_said_by
from musenet.reporter import Reporter
from musenet.storage.addresses import address


def evaluate(  # noqa: PLR0913, PLR0917 - one per option
    run: Run,
    split: SplitName = "test",
    dataset: Annotated[
        Path | None,
        typer.Option("--dataset", help="another prepared dataset to evaluate on (the run's own)"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="LOG",
            help="another log instead of a split: labelled impressions, a file, folder or URL",
        ),
    ] = None,
    events: PastEvents = None,
    adapt: Annotated[
        bool, typer.Option("--adapt", help="follow the mix of scenarios, request by request, in order of time")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="verify the checksum of every file of the dataset first")
    ] = False,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """AUC, GAUC, NDCG, logloss and calibration, with intervals.

    For example: musenet evaluate runs/hotels --data december.parquet --events clicks.parquet
    """
    from musenet import api
    from musenet.distributed import workers
    from musenet.files import write_json
    from musenet.storage.copies import result_at

    with Reporter() as reporter, warnings_said_by(reporter):
        result = api.evaluate(run, split, dataset=dataset, data=data, events=events, adapt=adapt, verify=verify)
        if out is not None and workers.is_first():
            with result_at(out) as file:
                write_json(file, result.to_json())
    finish(as_json, result.to_json(), result.show)


def reproduce(run: Run, out: Out = None, as_json: Json = False) -> None:
    """Train a run again, and say which metrics changed.

    Checksums and versions are compared too. The exit status is 1 if a metric changed. The default of --out is
    `RUN-again`.

    For example: musenet reproduce runs/hotels
    """
    from musenet import api

    with Reporter() as reporter:
        result = api.reproduce(run, out, listener=reporter)
    finish(as_json, result.to_json(), result.show)
    if not result.same_metrics:
        raise typer.Exit(1)


def scenarios(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="a .parquet or .csv file: a row per request")],
    as_json: Json = False,
) -> None:
    """Write each request's scenario, and describe the scenarios.

    For example: musenet scenarios runs/hotels --out scenarios.parquet
    """
    from musenet import api
    from musenet.portraits.portraits import show_portraits

    with Reporter():
        rows = api.scenarios(run, out)
        portraits = api.describe_scenarios(run)

    def show(console: Console) -> None:
        show_portraits(portraits, console)
        console.print(f"wrote {rows:,} requests to {address(out)}", soft_wrap=True)

    finish(as_json, {"out": out, "rows": rows, "scenarios": [one.to_json() for one in portraits]}, show)


def name(
    run: Run,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[K=NAME]...", help='as 0="business trips"; 0= removes a name')
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the names of scenarios, or set them.

    For example: musenet name runs/hotels 0="business trips"
    """
    from musenet import api
    from musenet.errors import UserError

    given: dict[int, str] = {}
    for one in names or []:
        number, equals, called = one.partition("=")
        if not equals or not number.isdecimal():
            raise UserError(f"name: '{one}': give scenario and name, as 0=\"business trips\"")
        given[int(number)] = called
    with Reporter():
        found = api.name(run, given)
    lines = [f"scenario {scenario}: {called}" for scenario, called in enumerate(found.names)]
    finish(as_json, {"run": run, "names": found.names, "given": found.given}, "\n".join(lines))


def report(
    run: Run,
    out: Out = None,
    note: Annotated[
        Path | None, typer.Option("--note", help="a Markdown file with what was learned, shown below the headline")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a report of a run, as HTML or Markdown.

    Written to `report.html` in the run's folder, unless --out names another `.html` or `.md`.

    For example: musenet report runs/hotels --out hotels.html
    """
    from musenet import api

    with Reporter() as reporter:
        written = api.report(run, out, note=note, listener=reporter)
    finish(as_json, {"report": written}, f"wrote {written}")
