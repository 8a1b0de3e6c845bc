"""What adding a log's last tenth to a dataset costs beside preparing the whole log.

    python benchmarks/prepare/extension_cost.py --impressions 5000000

A generated hotel log is cut by time into two files of impressions and two of clicks. Then, in turn and each in a
process of its own, the whole log is prepared, and the second files are added to the dataset of the first. Told are
seconds of processors and of the clock, without what Python takes to start.
"""

import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

CONFIG = Path(__file__).parents[2] / "configs" / "hotels.yaml"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def compare(
    work: Annotated[Path, typer.Option(help="where the log and datasets go")] = Path("runs/benchmark-extension"),
    impressions: int = 5_000_000,
    share: Annotated[float, typer.Option(help="of the impressions, the last ones, that are added")] = 0.1,
    rounds: int = 3,
) -> None:
    """Prepare the whole log and extend a part of it in turn, and print the ratio of the medians last."""
    log = work / f"{impressions}-{share:g}"
    if not (log / "first").exists():
        write_log(log, impressions, share)
    found: dict[str, list[dict[str, float]]] = {"whole": [], "extended": []}
    for place in range(rounds):
        for what, measured in found.items():
            command = [sys.executable, __file__, "once", what, str(log)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            measured.append(json.loads(done.stdout.splitlines()[-1]))
            told = ", ".join(f"{value:.1f} s {name}" for name, value in measured[-1].items())
            typer.echo(f"{place + 1} of {rounds}: {what} {told}")
    for name in ("of processors", "by the clock"):
        whole, extended = ([one[name] for one in measured] for measured in found.values())
        each = [other / one for one, other in zip(whole, extended, strict=True)]
        median = statistics.median(extended) / statistics.median(whole)
        typer.echo(f"extended over whole, {name}: {median:.3f} ({min(each):.3f} to {max(each):.3f})")


def write_log(log: Path, impressions: int, share: float) -> None:
    """The log in two parts by time, and the dataset of the first."""
    import musenet as mn

    mn.simulate_hotels(log / "made", impressions=impressions, seed=1)
    shown = pl.read_parquet(log / "made" / "impressions.parquet")
    cut = shown["shown_at"].quantile(1 - share, "nearest")
    for name, column in (("impressions", "shown_at"), ("clicks", "clicked_at")):
        rows = pl.read_parquet(log / "made" / f"{name}.parquet")
        for part, late in (("1", False), ("2", True)):
            (log / part).mkdir(exist_ok=True)
            rows.filter((pl.col(column) >= cut) == late).write_parquet(log / part / f"{name}-{part}.parquet")
    mn.prepare(CONFIG, log / "first", overrides=overrides(log, "1"))


def overrides(log: Path, parts: str) -> list[str]:
    """Where the log lies; its parts are the first, the second, or both."""
    made = (log / "made").resolve()
    paths = {
        name: [str(log.resolve() / part / f"{name}-{part}.parquet") for part in parts]
        for name in ("impressions", "clicks")
    }
    return [
        f"data.impressions.path={json.dumps(paths['impressions'])}",
        f"data.events.path={json.dumps(paths['clicks'])}",
        f"data.users.path={made / 'users.parquet'}",
        f"data.items.path={made / 'hotels.parquet'}",
    ]


@app.command(hidden=True)
def once(what: str, log: Path) -> None:
    """Measure one preparation in this process and print it as JSON."""
    import musenet as mn
    from musenet.progress import SILENT

    shutil.rmtree(log / what, ignore_errors=True)
    extends = None if what == "whole" else log / "first"
    mn.load(CONFIG)  # what it imports is there before the clock starts
    cpu, begin = time.process_time(), time.perf_counter()
    mn.prepare(CONFIG, log / what, extends=extends, overrides=overrides(log, "12"), listener=SILENT)
    print(json.dumps({"of processors": time.process_time() - cpu, "by the clock": time.perf_counter() - begin}))


if __name__ == "__main__":
    app()
