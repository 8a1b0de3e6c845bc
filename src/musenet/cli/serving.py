"""Commands that serve a run."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from musenet.cli.options import Export, Json, PastEvents, PastStore, Run, Set, Store
from musenet.cli.printing import finish, warnings_said_by
from musenet.errors import UserError
from musenet.reporter import Reporter


def _duration(text: str, option: str = "--retention") -> float:
    from pydantic import TypeAdapter, ValidationError

    from musenet.options import Seconds, reason

    try:
        return float(TypeAdapter(Seconds).validate_python(text))
    except ValidationError as error:
        raise UserError(f"{option} {text}: {reason(error)}") from error


def _answers_after(text: str) -> float:
    return _duration(text, "--answers-after")


def export(
    run: Run, out: Annotated[Path, typer.Option("--out", help="the folder to write")], as_json: Json = False
) -> None:
    """Write what serving a run takes into one folder: graphs, tables and a manifest."""
    from musenet import api

    with Reporter():
        written = api.export(run, out)
    finish(as_json, {"export": written}, f"wrote {written}")


def predict(
    export: Export,
    requests: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="a row per candidate, in Parquet, CSV or JSON lines: a file, folder, pattern or URL"
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="the Parquet or CSV file to write; of several files, the folder")],
    events: PastEvents = None,
    store: PastStore = None,
    now: Annotated[
        str | None,
        typer.Option(
            "--now",
            metavar="TIME",
            help="when all rows are shown, where they have no times: as 2026-01-31T12:00:00Z, or `now`",
        ),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="add each request's scenarios")] = False,
    as_json: Json = False,
) -> None:
    """Score every row of a file, or of a folder of files, by an export: the same rows, in their order, and `score`."""
    from musenet import api

    with Reporter() as reporter, warnings_said_by(reporter):
        rows = api.predict(
            export,
            requests,
            out,
            events=events,
            store=store,
            now=now,
            explain=explain,
            progress=reporter.steps("scoring"),
        )
    finish(as_json, {"out": out, "rows": rows}, f"wrote {rows:,} scores to {out}")


def drift(
    export: Export,
    log: Annotated[str, typer.Argument(metavar="LOG", help="impressions with labels: a file, folder, pattern or URL")],
    events: PastEvents = None,
    store: PastStore = None,
    out: Annotated[Path | None, typer.Option("--out", help="a page to write (.html)")] = None,
    changes: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Compare a log with what an export was trained on: whether columns, mix or taste moved (exit status 3), or not."""
    from musenet import api

    with Reporter() as reporter, warnings_said_by(reporter):
        found = api.drift(export, log, events=events, store=store, out=out, overrides=changes)
    finish(as_json, found.to_json(), found.show)
    if found.moved:
        raise typer.Exit(3)


def serve(
    export: Export,
    host: Annotated[str, typer.Option("--host", help="where to listen; elsewhere than here, a token is needed")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8000,
    store: Store = "history.sqlite",
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="holds the bearer token ($MUSENET_TOKEN, if left out)")
    ] = None,
    retention: Annotated[
        float | None,
        typer.Option(
            "--retention",
            metavar="DURATION",
            parser=_duration,
            help="forget what a user did not do again for so long, such as '400 days' (never, if left out)",
        ),
    ] = None,
    adapt: Annotated[
        bool, typer.Option("--adapt", help="follow the mix of scenarios by the answers to what was shown")
    ] = False,
    answers_after: Annotated[
        float | None,
        typer.Option(
            "--answers-after",
            metavar="DURATION",
            parser=_answers_after,
            help="with --adapt: what was not taken so long after it was shown counts as left (1 minute, if left out)",
        ),
    ] = None,
) -> None:
    """Score, keep histories and show why, over HTTP, until told to stop."""
    from musenet import api

    if answers_after is not None and not adapt:
        raise UserError("--answers-after says how the mix is followed: give --adapt too")
    options = adapt if answers_after is None else {"answers_after": answers_after}
    api.serve(export, host=host, port=port, store=store, token_file=token_file, retention=retention, adapt=options)


def forget(
    store: Annotated[str, typer.Argument(metavar="STORE", help="a history store")],
    user: Annotated[str, typer.Argument(metavar="USER", help="the user's id, as the log has it")],
    as_json: Json = False,
) -> None:
    """Remove all that a history store knows of a user."""
    from musenet import api

    found = api.forget(store, user)
    finish(as_json, {"store": store, "forgotten": found}, "forgotten" if found else f"{store} knows no such user")


def backup(
    store: Annotated[str, typer.Argument(metavar="STORE", help="a history store's file")],
    out: Annotated[Path, typer.Option("--out", help="the file to write, a store itself")],
    as_json: Json = False,
) -> None:
    """Copy a history store while it is in use."""
    from musenet import api

    api.backup(store, out)
    finish(as_json, {"store": store, "out": out}, f"wrote {out}")


def load_history(
    run: Run,
    store: Store = "history.sqlite",
    until: Annotated[
        str | None, typer.Option("--until", help="leave out events from this time on, such as 2026-01-31T00:00:00Z")
    ] = None,
    as_json: Json = False,
) -> None:
    """Load a history store with the events of the log that a run was trained on."""
    from musenet import api
    from musenet.dataset.roles import MICROSECONDS

    with Reporter() as reporter:
        found = api.load_history(run, store, until=until, progress=reporter.steps("loading"))
    since = None if found.since is None else datetime.fromtimestamp(found.since / MICROSECONDS, UTC).isoformat()
    told = f"{store}: {found.new:,} new events" + ("" if since is None else f" from {since} on")
    if found.late:
        told += f"; {found.late:,} earlier events came into the log since and are left out: fill a new store for them"
    finish(as_json, {"store": store, "new_events": found.new, "since": since, "late_events": found.late}, told)
