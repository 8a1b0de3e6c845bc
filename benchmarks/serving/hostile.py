"""Thousands of hostile bodies against a service: how long each takes, what memory, and whether `/health` still answers.

    python benchmarks/serving/hostile.py export --bodies 5000

Starts `musenet serve` on a new store, sends one body after the other and asks `/health` all the while from another
process. Ends with 1 if a body took longer or more memory than the limits, or was answered by a 5xx.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from load import CODE, memory_of, wait_for

from serving.hostile import LARGEST, hostile_bodies

HEALTH_EVERY_SECONDS = 0.01
JSON = {"content-type": "application/json"}


@dataclass
class OfKind:
    """What came of the bodies of one kind."""

    seconds: list[float] = field(default_factory=list)
    """Until the answer."""
    processor: list[float] = field(default_factory=list)
    """Seconds of the service's processor time."""
    mebibytes: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)


def ask_health(address: str, stop: Connection) -> None:
    """Until told to stop; then the seconds that each answer took."""
    took = []
    with httpx.Client(base_url=address, timeout=None) as client:
        while not stop.poll(HEALTH_EVERY_SECONDS):
            begin = time.perf_counter()
            try:
                client.get("/health").raise_for_status()
            except httpx.TransportError:  # a connection that was idle for too long, as on a machine that slept
                continue
            took.append(time.perf_counter() - begin)
    stop.send(took)


def send_all(address: str, service: int, bodies: int, seed: int, largest: int) -> dict[str, OfKind]:
    """Every body, and what it cost."""
    found: dict[str, OfKind] = defaultdict(OfKind)
    with httpx.Client(base_url=address, timeout=None) as client:
        for kind, path, body in hostile_bodies(bodies, seed, largest):
            forget_peak(service)
            before, worked = memory_of(service), processor_of(service)
            begin = time.perf_counter()
            try:
                status = client.post(path, content=body, headers=JSON).status_code
            except httpx.HTTPError:
                status = 0
            of_kind = found[kind]
            of_kind.seconds.append(time.perf_counter() - begin)
            of_kind.processor.append(processor_of(service) - worked)
            of_kind.mebibytes.append(memory_of(service, "VmHWM") - before)
            of_kind.statuses[status] += 1
    return found


def processor_of(process: int) -> float:
    """Seconds of processor time so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def forget_peak(process: int) -> None:
    """Let the highest memory be that of now."""
    Path(f"/proc/{process}/clear_refs").write_text("5")


def main(
    export: Annotated[Path, typer.Argument(help="the folder that `musenet export` wrote")],
    bodies: Annotated[int, typer.Option()] = 5000,
    seed: Annotated[int, typer.Option()] = 0,
    largest: Annotated[int, typer.Option(help="bytes")] = LARGEST,
    most_seconds: Annotated[
        float, typer.Option(help="of processor time for a body, which a busy machine does not change")
    ] = 1.0,
    most_mebibytes: Annotated[float, typer.Option()] = 200.0,
    health_ms: Annotated[float, typer.Option(help="99th percentile of /health")] = 100.0,
) -> None:
    """Start the service and send them."""
    with tempfile.TemporaryDirectory(prefix="musenet-") as folder:
        store, log = f"{folder}/history.sqlite", Path(folder) / "log"
        command = [sys.executable, "-c", CODE, "serve", str(export), "--port", "0", "--store", store]
        with log.open("w") as out, subprocess.Popen(command, stderr=out) as service:
            address = wait_for(log, service)
            here, there = multiprocessing.Pipe()
            asking = multiprocessing.Process(target=ask_health, args=(address, there))
            asking.start()
            try:
                start = memory_of(service.pid)
                found = send_all(address, service.pid, bodies, seed, largest)
                end = memory_of(service.pid)
                here.send("stop")
                health = np.array(here.recv()) * 1000
            finally:
                asking.join()
                service.terminate()
    for kind, one in found.items():
        answers = ", ".join(f"{count} of {status}" for status, count in sorted(one.statuses.items()))
        worst = f"{max(one.processor):.2f} s ({max(one.seconds):.2f} until answered), {max(one.mebibytes):.0f} MiB"
        typer.echo(f"{kind}: most {worst}; median {np.median(one.processor) * 1000:.0f} ms; {answers}")
    p50, p99 = np.quantile(health, [0.5, 0.99])
    typer.echo(f"/health: {len(health):,} times, p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {health.max():.0f} ms")
    typer.echo(f"memory: {start:.0f} MiB at the beginning, {end:.0f} MiB at the end")
    seconds = max(max(one.processor) for one in found.values())
    mebibytes = max(max(one.mebibytes) for one in found.values())
    broken = sum(count for one in found.values() for status, count in one.statuses.items() if not 200 <= status < 500)
    typer.echo(f"{bodies:,} bodies: {seconds:.2f} s and {mebibytes:.0f} MiB at most, {broken} without an answer or 5xx")
    held = seconds <= most_seconds and mebibytes <= most_mebibytes and p99 <= health_ms and not broken
    raise typer.Exit(0 if held else 1)


if __name__ == "__main__":
    typer.run(main)
