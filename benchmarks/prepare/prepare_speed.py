"""How long preparing a log takes beside sorting its events once, and how memory, disk and time grow with the log.

    python benchmarks/prepare/prepare_speed.py ratio
    python benchmarks/prepare/prepare_speed.py growth --scale 0.01 --scale 0.0333 --scale 0.1
    PYSPARK_SUBMIT_ARGS="--master local-cluster[2,1,2048] pyspark-shell" \\
        python benchmarks/prepare/prepare_speed.py growth --scale 0.01 --engine spark

`ratio`: 20 million events and 2 million impressions, prepared and, in turn, sorted by user and time by DuckDB and
written to Parquet with the same memory and threads. `growth`: shares of the shape of Ali Display Ads. Every measurement
is a process of its own and leaves out what Python takes to start. Anonymous memory is what a process holds without the
pages of files that are mapped into it.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, Any

import typer
from ads_shaped_log import EVENTS, IMPRESSIONS, Size, write_log

from musenet.engines.registry import EngineName

CONFIG = Path(__file__).parent / "ads_shaped.yaml"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Work = Annotated[Path, typer.Option(help="where logs and datasets go")]
Memory = Annotated[str, typer.Option(help="memory of the engine, for both")]


@app.command()
def ratio(
    work: Work = Path("runs/benchmark-prepare"),
    events: int = 20_000_000,
    impressions: int = 2_000_000,
    rounds: int = 3,
    memory: Memory = "1GiB",
) -> None:
    """Prepare and sort in turn, and print the ratio of the medians last."""
    log = log_of(work, Size(events, impressions))
    found: dict[str, list[dict[str, Any]]] = {"sort": [], "prepare": []}
    for place in range(rounds):
        for what, measured in found.items():
            measured.append(measure(what, log, memory))
            typer.echo(f"{place + 1} of {rounds}: {what} {in_words(measured[-1])}")
    sort, prepare = ([run["seconds"] for run in runs] for runs in found.values())
    each = [one / other for one, other in zip(prepare, sort, strict=True)]
    anonymous = max(run["anonymous"] for run in found["prepare"]) / 2**30
    median = statistics.median(prepare) / statistics.median(sort)
    typer.echo(f"prepare over one sort of the events: {median:.2f} ({min(each):.2f} to {max(each):.2f})")
    typer.echo(f"highest anonymous memory of prepare: {anonymous:.2f} GiB")


@app.command()
def growth(
    scale: Annotated[list[float], typer.Option(help="share of the whole log")] = [0.01, 0.0333, 0.1],  # noqa: B006
    work: Work = Path("runs/benchmark-prepare"),
    memory: Memory = "1GiB",
    keep: Annotated[bool, typer.Option(help="keep logs and datasets")] = False,
    engine: Annotated[str, typer.Option(help="duckdb, or spark where PYSPARK_SUBMIT_ARGS says")] = "duckdb",
) -> None:
    """Prepare shares of the whole log, one after another; memory is that of the process that asks the engine."""
    for share in scale:
        size = Size(round(EVENTS * share), round(IMPRESSIONS * share))
        log = log_of(work, size)
        found = measure("prepare" if engine == "duckdb" else engine, log, memory)
        per_event = 1e6 * found["seconds"] / size.events
        typer.echo(f"{share:g}: {size.events:,} events: {in_words(found)}, {per_event:.2f} microseconds an event")
        if not keep:
            shutil.rmtree(log)


@app.command(hidden=True)
def once(what: str, log: Path, memory: str) -> None:
    """Measure one thing in this process and print it as JSON."""
    works: dict[str, Callable[[], Callable[[], None]]] = {
        "sort": lambda: sorting(log, memory),
        "prepare": lambda: preparing(log, memory),
        "spark": lambda: preparing(log, memory, "spark"),
    }
    work = works[what]()
    with watched(log) as peaks:
        cpu, begin = time.process_time(), time.perf_counter()
        work()
        peaks |= {"seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
    print(json.dumps(peaks))


def sorting(log: Path, memory: str) -> Callable[[], None]:
    """One sort of the events by user and time, written to Parquet."""
    import duckdb

    connection = duckdb.connect(
        log / "sorting.duckdb", config={"memory_limit": memory, "temp_directory": str(log / "spilled")}
    )
    order = f"SELECT * FROM '{log / 'events.parquet'}' ORDER BY \"user\", time_stamp"

    def work() -> None:
        connection.execute(f"COPY ({order}) TO '{log / 'sorted.parquet'}'")

    return work


def preparing(log: Path, memory: str, engine: EngineName = "duckdb") -> Callable[[], None]:
    """A preparation from the log to its dataset."""
    import ibis.backends.duckdb  # noqa: F401  # as above, the database is there before the clock starts

    import musenet.api
    from musenet.progress import SILENT

    shutil.copy(CONFIG, log)
    shutil.rmtree(log / "dataset", ignore_errors=True)

    if engine == "spark":  # its session is found by the preparation
        from pyspark.sql import SparkSession

        SparkSession.builder.config("spark.driver.memory", memory.replace("iB", "").lower()).getOrCreate()

    def work() -> None:
        musenet.api.prepare(log / CONFIG.name, log / "dataset", engine=engine, memory_limit=memory, listener=SILENT)

    return work


@contextmanager
def watched(folder: Path) -> Iterator[dict[str, float]]:
    """The highest memory of this process and disk use of a folder, in bytes, filled in when the block ends."""
    peaks = {"anonymous": 0.0, "resident": 0.0, "disk": 0.0}
    before, ended = disk_use(folder), Event()

    def look() -> None:
        while not ended.wait(0.1):
            for name, value in memory_use().items():
                peaks[name] = max(peaks[name], value)
            peaks["disk"] = max(peaks["disk"], disk_use(folder) - before)

    watcher = Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        ended.set()
        watcher.join()


def memory_use() -> dict[str, int]:
    """Anonymous and resident memory of this process, in bytes."""
    lines = dict(line.split(":") for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    return {name: int(lines[key].split()[0]) << 10 for name, key in (("anonymous", "Anonymous"), ("resident", "Rss"))}


def disk_use(folder: Path) -> int:
    """Bytes on the disk of all files below a folder."""
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(path, name)).st_blocks * 512
            except FileNotFoundError:  # removed meanwhile
                continue
    return total


def log_of(work: Path, size: Size) -> Path:
    """The folder of a log, written if it is not there."""
    folder = work / f"{size.events}-{size.impressions}"
    if not (folder / "written").exists():
        typer.echo(f"writing {size.events:,} events and {size.impressions:,} impressions to {folder}")
        write_log(folder, size)
        (folder / "written").touch()
    return folder


def measure(what: str, log: Path, memory: str) -> dict[str, Any]:
    """What a process of its own takes."""
    command = [sys.executable, __file__, "once", what, str(log), memory]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def in_words(found: dict[str, Any]) -> str:
    """One measurement as a line."""
    anonymous, resident, disk = (found[name] / 2**30 for name in ("anonymous", "resident", "disk"))
    return (
        f"{found['seconds']:.1f} s ({found['cpu']:.1f} s of processors), {anonymous:.2f} GiB anonymous, "
        f"{resident:.2f} GiB resident, {disk:.2f} GiB of disk"
    )


if __name__ == "__main__":
    app()
