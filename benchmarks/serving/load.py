"""A service under load: `/score` and `/events` mixed, from many connections at once.

    python benchmarks/serving/load.py export --seconds 300

Starts `musenet serve` on a new store, asks it from 32 connections without pause (one call in ten brings an event, the
others score 100 candidates), and tells requests a second, p50 and p99 of each kind, failed requests, those told to come
again, and the memory of the service at the beginning and at the end. What one overloads it with,

    python benchmarks/serving/load.py export --connections 300 --candidates 1000

is answered by 503 where it would have waited for long.
"""

import asyncio
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import numpy as np
import typer

from musenet.serving.explorer.routes import Choices

WARM_UP_SECONDS = 3.0
CODE = "import sys; from musenet.cli.main import run; sys.exit(run(sys.argv[1:]))"


class Load:
    """Calls and what came of them."""

    def __init__(self, choices: Choices, candidates: int, event_share: float) -> None:
        self._choices, self._event_share = choices, event_share
        self._items = (choices.items * (candidates // max(len(choices.items), 1) + 1))[:candidates]
        self._context = {
            one.name: one.typical if one.kind == "number" else one.values[0]
            for one in choices.context
            if one.kind == "number" or one.values
        }
        self.times: dict[str, list[float]] = defaultdict(list)
        self.failed: list[str] = []
        self.refused = 0
        """Calls that were told to come again."""

    def call(self) -> tuple[str, dict[str, Any]]:
        """A path and a body."""
        user = random.choice(self._choices.users)
        if random.random() < self._event_share:
            kind = random.choice(self._choices.kinds) if self._choices.kinds else None
            return "/events", {"events": [{"user": user, "item": random.choice(self._items), "kind": kind}]}
        candidates = [{"item": item} for item in random.sample(self._items, len(self._items))]
        return "/score", {"user": user, "context": self._context, "candidates": candidates}

    async def connection(self, address: str, until: float) -> None:
        """One connection that asks again as soon as it is answered."""
        async with httpx.AsyncClient(base_url=address, timeout=60, verify=False) as client:
            while time.perf_counter() < until:
                path, body = self.call()
                begin = time.perf_counter()
                try:
                    answer = await client.post(path, json=body)
                    if answer.status_code == 503 and "retry-after" in answer.headers:
                        self.refused += 1
                        await asyncio.sleep(float(answer.headers["retry-after"]) * random.uniform(0.5, 1.5))
                        continue
                    failure = "" if answer.status_code == 200 else f"{path} {answer.status_code}: {answer.text[:200]}"
                except httpx.HTTPError as error:
                    failure = f"{path}: {type(error).__name__} {error}"
                if failure:
                    self.failed.append(failure)
                else:
                    self.times[path].append(time.perf_counter() - begin)


async def measure(load: Load, address: str, connections: int, seconds: float, service: int) -> None:
    """Ask, and tell."""
    until = time.perf_counter() + WARM_UP_SECONDS
    await asyncio.gather(*(load.connection(address, until) for _ in range(connections)))
    before, load.times, load.refused = memory_of(service), defaultdict(list), 0
    begin = time.perf_counter()
    await asyncio.gather(*(load.connection(address, begin + seconds) for _ in range(connections)))
    took, after = time.perf_counter() - begin, memory_of(service)
    for path, times in sorted(load.times.items()):
        p50, p99, worst = np.quantile(times, [0.5, 0.99, 1.0]) * 1000
        rate = len(times) / took
        typer.echo(f"{path}: {rate:,.0f} a second, p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {worst:.0f} ms")
    typer.echo(f"memory: {before:,.0f} MiB after {WARM_UP_SECONDS:.0f} s, {after:,.0f} MiB at the end")
    typer.echo(f"told to come again: {load.refused:,}")
    typer.echo(f"failed: {len(load.failed)}{''.join(f'{chr(10)}  {one}' for one in load.failed[:5])}")


def memory_of(process: int, which: Literal["VmRSS", "VmHWM"] = "VmRSS") -> float:
    """Resident MiB now, or the most that were since the process began or its peak was forgotten."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def main(
    export: Annotated[Path, typer.Argument(help="the folder that `musenet export` wrote")],
    seconds: Annotated[float, typer.Option()] = 300,
    connections: Annotated[int, typer.Option()] = 32,
    candidates: Annotated[int, typer.Option(help="of a request")] = 100,
    event_share: Annotated[float, typer.Option(help="of the calls")] = 0.1,
    store: Annotated[str | None, typer.Option(help="a store's path or URL (a new file, if left out)")] = None,
) -> None:
    """Start the service and load it."""
    random.seed(0)
    with tempfile.TemporaryDirectory(prefix="musenet-") as folder:
        where = store or f"{folder}/history.sqlite"
        command = [sys.executable, "-c", CODE, "serve", str(export), "--port", "0", "--store", where]
        log = Path(folder) / "log"
        with log.open("w") as out, subprocess.Popen(command, stderr=out) as service:
            address = wait_for(log, service)
            try:
                load = Load(
                    Choices.model_validate(httpx.get(f"{address}/explorer/choices", timeout=60).json()),
                    candidates,
                    event_share,
                )
                asyncio.run(measure(load, address, connections, seconds, service.pid))
            finally:
                service.terminate()
        statuses = [json.loads(line) for line in log.read_text().splitlines()]
        typer.echo(f"server errors logged: {sum(line.get('level') == 'error' for line in statuses)}")


def wait_for(log: Path, service: "subprocess.Popen[bytes]") -> str:
    """The address at which the service listens, from its log."""
    while service.poll() is None:
        found = re.search(r"http://[\d.]+:\d+", log.read_text())
        if found:
            return found[0]
        time.sleep(0.05)
    raise SystemExit(log.read_text())


if __name__ == "__main__":
    typer.run(main)
