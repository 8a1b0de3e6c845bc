"""The command `musenet`: parses, calls `musenet.api`, prints. Heavy imports wait until a command needs them."""

import atexit
import errno
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Annotated

import typer

from musenet import __version__
from musenet.cli import data, reports, serving, studies, training
from musenet.errors import OtherWorkerFailedError, UserError, missing_package
from musenet.plugins import place_of
from musenet.storage.addresses import addresses_in

INTERRUPTED = 130
LONGEST_SHOWN = 200
_NO_PLACE = {
    errno.ENOTDIR: "there is a file where a folder is needed: name another path",
    errno.EISDIR: "there is a folder where a file is needed: name another path",
    errno.EEXIST: "name another path",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ELOOP: "its links form a loop: name another path",
    errno.EROFS: "nothing can be written there: name another path with --out, or work in another folder",
    errno.EACCES: "change its permissions, or name another path",
    errno.EPERM: "change its permissions, or name another path",
}
"""What is wrong with a path that the user gave, and what to do about it."""

app = typer.Typer(
    name="musenet",
    help="Learn latent scenarios from a log, and predict clicks with them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
COMMANDS = (
    data.init,
    data.prepare,
    training.train,
    reports.evaluate,
    studies.compare,
    studies.tune,
    studies.ablate,
    studies.sweep,
    studies.backtest,
    reports.scenarios,
    reports.name,
    reports.report,
    reports.reproduce,
    serving.export,
    serving.predict,
    serving.drift,
    serving.serve,
    serving.load_history,
    serving.forget,
    serving.backup,
    studies.demo,
)
OF_SEVERAL = ("train", "evaluate", "scenarios")
"""What several processes do together (docs/distributed.md)."""
for command in COMMANDS:
    app.command()(command)
app.command("fill", hidden=True, help="Old name of load-history.")(serving.load_history)
app.command("config-schema")(data.config_schema)
simulate = typer.Typer(help="Write simulated logs, as ordinary files.", no_args_is_help=True)
simulate.command("hotels")(data.simulate_hotels)
simulate.command("ads")(data.simulate_ads)
app.add_typer(simulate, name="simulate")


@app.callback(invoke_without_command=True)
def musenet(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version and exit", is_eager=True)] = False,
) -> None:
    """Learn latent scenarios from a log, and predict clicks with them."""
    if version:
        typer.echo(f"musenet {__version__}")
        raise typer.Exit
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and context.invoked_subcommand not in OF_SEVERAL:
        raise UserError(f"{context.invoked_subcommand} runs in one process: start it without torchrun")


def main() -> None:
    """Entry point: runs a command and ends with its exit status; libraries' warnings are not for its user."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    status = [1]
    atexit.register(_end, status)  # first, so that it is called after all that libraries register
    status[0] = run(sys.argv[1:])
    sys.exit(status[0])


def _end(status: list[int]) -> None:
    """End without taking the interpreter apart, at which DuckDB's bindings tell of a hundred objects "leaked"."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # a full disk, or a closed stream
        status[0] = status[0] or 1
    os._exit(status[0])


def run(arguments: list[str]) -> int:
    """Run one command line; what goes wrong is one sentence on standard error and an exit status.

    0: done. 1: our mistake or the machine's. 2: the user can fix it. 3: `drift` found that something moved. 130:
    interrupted.
    """
    try:
        with _together():
            status = app(arguments, prog_name="musenet", standalone_mode=False)
    except OtherWorkerFailedError:
        return 2
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; there is nobody to tell
        return 1
    except Exception as error:
        return _explain(error)
    if status == INTERRUPTED:  # some versions of typer turn the interruption into this status themselves
        return _fail(
            "interrupted; what was written is kept: the same command continues (`train` with --resume)", status
        )
    return status if isinstance(status, int) else 0


@contextmanager
def _together() -> Iterator[None]:
    """Where torchrun has started several of this process: be one of them, of whom the first one alone prints."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    from musenet.distributed import workers

    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        workers.joined(),
        redirect_stdout(sys.stdout if workers.is_first() else nowhere),
    ):
        yield


def _explain(error: Exception) -> int:
    if isinstance(error, ModuleNotFoundError):
        error = missing_package(error)
    if isinstance(error, UserError):
        return _fail(str(error), 2)
    usage = getattr(error, "format_message", None)  # a mistake in the command line itself
    if callable(usage):
        said, context = str(usage()).rstrip("."), getattr(error, "ctx", None)
        helping = "musenet" if context is None else context.command_path
        return _fail(f"{said}: see `{helping} --help`", 2) if said else 2  # a command alone has shown its help already
    if _is_disk_full(error):
        where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        return _fail(f"the disk is full{where}: free some space and run the same command again", 1)
    if isinstance(error, OSError) and error.filename is not None and error.errno in _NO_PLACE:
        where, why = str(error.filename), os.strerror(error.errno).lower()
        shown = where if len(where) <= LONGEST_SHOWN else f"{where[:LONGEST_SHOWN]}…"
        return _fail(f"{shown}: {why}: {_NO_PLACE[error.errno]}", 2)
    with tempfile.NamedTemporaryFile("w", prefix="musenet-error-", suffix=".txt", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    place = place_of(error)
    if place is not None:
        return _fail(f"{what} (in {place}); the traceback is saved in {file.name}: mend it there", 2)
    return _fail(f"internal error ({what}); the traceback is saved in {file.name}: please report it", 1)


def _is_disk_full(error: Exception) -> bool:
    number = error.errno if isinstance(error, OSError) else None
    return number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)


def _fail(sentence: str, status: int) -> int:
    print(f"error: {addresses_in(sentence)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
