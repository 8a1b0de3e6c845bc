"""Commands that serve a run."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

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
    """Export a run for serving: ONNX graphs, tables, a manifest.

    For example: musenet export runs/hotels --out exports/hotels
    """
    from musenet import api

    with Reporter():
        written = api.export(run, out)
    finish(as_json, {"export": written}, f"wrote {written}")


def predict(  # noqa: PLR0913, PLR0917 - one per option
    export: Export,
    requests: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="impressions to score, in Parquet, CSV or JSON lines: a file, folder, pattern or URL"
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="the Parquet or CSV file to write; for several files, the folder")],
    events: PastEvents = None,
    store: PastStore = None,
    now: Annotated[
        str | None,
        typer.Option(
            "--now",
            metavar="TIME",
            help="time of impressions without one: such as 2026-01-31T12:00:00Z, or `now`",
        ),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="add each request's scenarios")] = False,
    engine: Annotated[
        Literal["spark"] | None,
        typer.Option("--engine", help="spark: score on its executors, into a new folder of Parquet files"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score impressions in files: adds the column `score`.

    For example: musenet predict exports/hotels tonight.parquet --events clicks.parquet --out scores.parquet
    """
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
            engine=engine,
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
    """Compare a log with the data that an export was trained on.

    Says whether features, the mix of scenarios or tastes within them changed; the exit status is 3 if one did.

    For example: musenet drift exports/hotels last_week.parquet --events clicks.parquet
    """
    from musenet import api

    with Reporter() as reporter, warnings_said_by(reporter):
        found = api.drift(export, log, events=events, store=store, out=out, overrides=changes)
    finish(as_json, found.to_json(), found.show)
    if found.moved:
        raise typer.Exit(3)


def serve(
    export: Export,
    host: Annotated[
        str, typer.Option("--host", help="address to listen on; a token is needed unless it is local")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8000,
    store: Store = "history.sqlite",
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="file with the bearer token ($MUSENET_TOKEN)")
    ] = None,
    retention: Annotated[
        float | None,
        typer.Option(
            "--retention",
            metavar="DURATION",
            parser=_duration,
            help="delete repeat keys not seen for this long, such as '400 days' (never)",
        ),
    ] = None,
    adapt: Annotated[bool, typer.Option("--adapt", help="follow the mix of scenarios, from labels in /events")] = False,
    answers_after: Annotated[
        float | None,
        typer.Option(
            "--answers-after",
            metavar="DURATION",
            parser=_answers_after,
            help="with --adapt: without a click after this time, a candidate is a negative (1 minute)",
        ),
    ] = None,
) -> None:
    """Serve an export over HTTP: scores, histories, explanations.

    For example: musenet serve exports/hotels --store history.sqlite
    """
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
    """Delete a user from a history store.

    For example: musenet forget history.sqlite 4711
    """
    from musenet import api

    found = api.forget(store, user)
    finish(as_json, {"store": store, "forgotten": found}, "forgotten" if found else f"{store} has no such user")


def backup(
    store: Annotated[str, typer.Argument(metavar="STORE", help="a history store's file")],
    out: Annotated[Path, typer.Option("--out", help="the file to write, again a store")],
    as_json: Json = False,
) -> None:
    """Back up a history store while it is in use.

    For example: musenet backup history.sqlite --out backup.sqlite
    """
    from musenet import api

    api.backup(store, out)
    finish(as_json, {"store": store, "out": out}, f"wrote {out}")


def load_history(
    run: Run,
    store: Store = "history.sqlite",
    until: Annotated[
        str | None, typer.Option("--until", help="leave out events at or after this time, such as 2026-01-31T00:00:00Z")
    ] = None,
    as_json: Json = False,
) -> None:
    """Load a history store with the events of a run's log.

    For example: musenet load-history runs/hotels --store history.sqlite
    """
    from musenet import api
    from musenet.dataset.roles import MICROSECONDS

    with Reporter() as reporter:
        found = api.load_history(run, store, until=until, progress=reporter.steps("loading"))
    since = None if found.since is None else datetime.fromtimestamp(found.since / MICROSECONDS, UTC).isoformat()
    told = f"{store}: {found.new:,} new events" + ("" if since is None else f" from {since} on")
    if found.late:
        told += f"; {found.late:,} earlier events were added to the log since, and are left out: fill a new store"
    finish(as_json, {"store": store, "new_events": found.new, "since": since, "late_events": found.late}, told)
