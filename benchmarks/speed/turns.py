"""Processes that take turns at being measured, and what is said of their times."""

import json
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from worker import READY

from musenet.files import write_json


class Worker:
    """A process that answers orders; see worker.py.

    Args:
        command: what runs it.
        name: for messages.
        environment: of the process.
    """

    def __init__(self, command: Sequence[str | Path], name: str, environment: dict[str, str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        while self._line() != READY:  # what libraries print while they are imported
            pass

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        """The answer to an order."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Let the process end."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._line())
        return answer

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} has ended (status {self._process.wait()}): its message stands above")
        return line.strip()


@dataclass(frozen=True)
class Contestant:
    """Who is measured: a script, its interpreter and its task."""

    name: str
    python: Path
    script: Path
    task: dict[str, Any]
    do: str = "steps"
    """The order that is timed."""


@contextmanager
def started(contestants: Sequence[Contestant], folder: Path, environment: dict[str, str]) -> Iterator[list[Worker]]:
    """A process for each, all alive at once."""
    with ExitStack() as stack:
        workers = []
        for contestant in contestants:
            task = folder / f"{contestant.name.replace(' ', '-')}.json"
            write_json(task, contestant.task)
            worker = Worker([contestant.python, contestant.script, task], contestant.name, environment)
            stack.callback(worker.end)
            workers.append(worker)
        yield workers


@dataclass(frozen=True)
class Speed:
    """Samples per second, turn by turn."""

    name: str
    by_wall: list[float]
    by_cpu: list[float]
    """Samples per second of processor time of all cores: what a busy machine leaves comparable."""

    @property
    def median(self) -> float:
        """Samples per second."""
        return statistics.median(self.by_wall)

    def to_json(self) -> dict[str, Any]:
        """What was measured."""
        return asdict(self) | {"median": self.median}


def take_turns(
    contestants: Sequence[Contestant], folder: Path, environment: dict[str, str], *, turns: int, steps: int
) -> list[Speed]:
    """Every contestant takes `steps` in every turn, one after the other: A B A B …; a first turn is not counted."""
    answers: dict[str, list[dict[str, Any]]] = {contestant.name: [] for contestant in contestants}
    with started(contestants, folder, environment) as workers:
        for turn in range(turns + 1):
            for contestant, worker in zip(contestants, workers, strict=True):
                answer = worker.ask(contestant.do, steps=steps if turn else 2)
                answers[contestant.name] += [answer] if turn else []
    return [
        Speed(
            name,
            [answer["samples"] / answer["seconds"] for answer in given],
            [answer["samples"] / answer["cpu_seconds"] for answer in given],
        )
        for name, given in answers.items()
    ]


@dataclass(frozen=True)
class Ratio:
    """Something measured against something else, turn by turn."""

    name: str
    median: float
    low: float
    high: float
    by_cpu: float | None = None
    """The median ratio of processor times."""
    aim: str = ""

    def line(self) -> str:
        """Such as `DIN over FuxiCTR, pages: 6.10 (5.80 to 6.40)`."""
        cpu = "" if self.by_cpu is None else f", by processor time {self.by_cpu:.3g}"
        aim = f"; aim {self.aim}" if self.aim else ""
        return f"{self.name}: {self.median:.3g} ({self.low:.3g} to {self.high:.3g}{cpu}{aim})"


def ratio(name: str, over: Speed, under: Speed, aim: str = "") -> Ratio:
    """How many times as fast `over` is: the median over turns, with the least and the most."""
    each = [a / b for a, b in zip(over.by_wall, under.by_wall, strict=True)]
    cpu = [a / b for a, b in zip(over.by_cpu, under.by_cpu, strict=True)]
    return Ratio(name, statistics.median(each), min(each), max(each), statistics.median(cpu), aim)
