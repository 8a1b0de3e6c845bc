"""How a command ends: its result, for people or for programs."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

from musenet.errors import LogWarning
from musenet.files import json_ready
from musenet.reporter import Reporter
from musenet.storage.addresses import addresses_in


@contextmanager
def warnings_said_by(reporter: Reporter) -> Iterator[None]:
    """Tell of what a log lacks as of all else."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", LogWarning)
        warnings.showwarning = lambda message, *_: reporter.say(f"warning: {message}")
        yield


def finish(as_json: bool, content: dict[str, Any], show: str | Callable[[Console], None]) -> None:
    """Print a command's result for people, or, with --json, for programs: one line on standard output."""
    if as_json:
        typer.echo(addresses_in(json.dumps(json_ready(content), ensure_ascii=False, allow_nan=False)))
        return
    console = Console(markup=False, highlight=False)  # names and values may hold square brackets
    if isinstance(show, str):
        console.print(addresses_in(show), soft_wrap=True)
    else:
        show(console)
