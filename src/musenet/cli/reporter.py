"""How far things are: bars with a time to go on a terminal, plain lines elsewhere; always on standard error."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

SECONDS_BETWEEN_LINES = 15.0


class Reporter:
    """Tells a person how the work goes; use it as a context manager around the work.

    Args:
        console: where to; standard error if left out.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        bar = BarColumn(bar_width=24)
        columns = (TextColumn("{task.description}"), bar, TextColumn("{task.fields[about]}"), TimeElapsedColumn())
        self._progress = Progress(*columns, console=self.console, transient=True)
        self._tasks: dict[str, TaskID] = {}
        self._spoken: dict[str, float] = {}

    def __enter__(self) -> "Reporter":
        if self.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._progress.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(Text(text), soft_wrap=True)

    def steps(self, name: str) -> Callable[[int, int], None]:
        """A listener for `done` of `total`."""
        started = time.monotonic()

        def listen(done: int, total: int) -> None:
            spent = time.monotonic() - started
            to_go = spent * (total - done) / done if done else 0.0
            self._show(name, done, total, f"{done:,} of {total:,}, {_clock(to_go)} to go")

        return listen

    def training(self, name: str) -> Callable[[dict[str, Any]], None]:
        """A listener for the training loop's reports."""

        def listen(entry: dict[str, Any]) -> None:
            if "losses" not in entry:
                self._validated(name, entry)
                return
            losses = ", ".join(f"{term} {value:.4f}" for term, value in entry["losses"].items())
            speed, to_go = entry["samples_per_second"], _clock(entry["seconds_to_go"])
            about = f"step {entry['step']:,} of {entry['planned']:,}, {speed:,.0f} samples/s, {to_go} to go, {losses}"
            self._show(name, entry["step"], entry["planned"], about)

        return listen

    def _validated(self, name: str, entry: dict[str, Any]) -> None:
        if scores := entry.get("valid"):
            best = ", the best so far" if entry.get("best") else ""
            self.say(
                f"{name}: step {entry['step']:,} of {entry['planned']:,}, validation AUC {scores['auc']:.4f}, "
                f"logloss {scores['logloss']:.4f}{best}"
            )
        for warning in entry.get("warnings", ()):
            self.say(f"{name}: warning: {warning}")

    def _show(self, name: str, done: int, total: int, about: str) -> None:
        if self.console.is_terminal:
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, about="")
            self._progress.update(self._tasks[name], completed=done, total=total, about=about, visible=done < total)
            return
        now = time.monotonic()
        if done >= total or now - self._spoken.setdefault(name, now) >= SECONDS_BETWEEN_LINES:
            self._spoken[name] = now
            self.say(f"{name}: {about}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    return f"{minutes}:{rest:02d}"
