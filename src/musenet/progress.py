"""Who is told how the work goes: a callback, at named moments."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

MomentName = Literal["said", "progress", "begin", "step", "validation", "kept", "warning", "end"]


@dataclass(frozen=True)
class Moment:
    """What happened, to what, and its figures.

    | name | content |
    |---|---|
    | `said` | `text`: a line for people |
    | `progress` | `done` of `total`, and `seconds` since it began; `of` is what is being done |
    | `begin` | of training: `run`, its folder, and `resumed`: whether it goes on from a checkpoint |
    | `step` | of training, every few seconds: `step`, `planned`, `losses`, `samples_per_second`, `seconds_to_go` |
    | `validation` | `step`, `planned`, `valid` with `auc` and `logloss`, `health`, `best`: whether the best so far |
    | `kept` | the same, where the weights of that step were kept as the best so far |
    | `warning` | `warnings`: sentences about what looks wrong |
    | `end` | the keys of `TrainingResult` |
    """

    name: MomentName
    of: str
    """The name of the run, or of what is being done."""
    content: dict[str, Any]


class Listener:
    """Tells a callback of named moments, see `Moment`; what tells nobody is `SILENT`.

    Args:
        tell: called with every moment, in the thread that works; what it raises ends the work.
    """

    def __init__(self, tell: Callable[[Moment], object] = lambda _: None) -> None:
        self._tell = tell

    def tell(self, moment: Moment) -> None:
        """Tell of a moment."""
        self._tell(moment)

    def say(self, text: str) -> None:
        """Tell people a line."""
        self.tell(Moment("said", "", {"text": text}))

    def steps(self, name: str) -> Callable[[int, int], None]:
        """To be told of `done` of `total`."""
        started = time.monotonic()

        def told(done: int, total: int) -> None:
            seconds = time.monotonic() - started
            self.tell(Moment("progress", name, {"done": done, "total": total, "seconds": seconds}))

        return told

    def training(self, name: str) -> Callable[[dict[str, Any]], None]:
        """To be told of the reports of the training loop of the run of that name."""

        def told(report: dict[str, Any]) -> None:
            if "resumed" in report:
                self.tell(Moment("begin", name, report))
            if "losses" in report:
                self.tell(Moment("step", name, report))
            if "valid" in report:
                self.tell(Moment("validation", name, report))
            if report.get("best") is True:
                self.tell(Moment("kept", name, report))
            if report.get("warnings"):
                self.tell(Moment("warning", name, report))
            if "stopped" in report:
                self.tell(Moment("end", name, report))

        return told


SILENT = Listener()
