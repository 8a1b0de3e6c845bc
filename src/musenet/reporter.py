"""How far things are: bars with a time to go on a terminal and in notebooks, plain lines elsewhere."""

import html
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from musenet.progress import Listener, Moment
from musenet.storage.addresses import addresses_in

SECONDS_BETWEEN_LINES, SECONDS_BETWEEN_BARS = 15.0, 0.2
AnyListener = Listener | Callable[[Moment], object]


class Reporter(Listener):
    """Tells a person how the work goes; use it as a context manager around the work.

    Args:
        console: where to; standard error if left out.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self.console = console or Console(stderr=True, highlight=False)
        bar = BarColumn(bar_width=24)
        name, about = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[about]}"))
        columns = (name, bar, about, TimeElapsedColumn())
        self._progress = Progress(*columns, console=self.console, transient=True)
        self._tasks: dict[str, TaskID] = {}
        self._displays: dict[str, Any] = {}
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

    def tell(self, moment: Moment) -> None:
        """Show what happened."""
        found = moment.content
        if moment.name == "said":
            self.console.print(Text(addresses_in(found["text"])), soft_wrap=True)
        elif moment.name == "progress":
            done, total = found["done"], found["total"]
            to_go = found["seconds"] * (total - done) / done if done else 0.0
            self._show(moment.of, done, total, f"{done:,} of {total:,}, {_clock(to_go)} to go")
        elif moment.name == "step":
            losses = ", ".join(f"{term} {value:.4f}" for term, value in found["losses"].items())
            speed, to_go = found["samples_per_second"], _clock(found["seconds_to_go"])
            about = f"step {found['step']:,} of {found['planned']:,}, {speed:,.0f} samples/s, {to_go} to go, {losses}"
            self._show(moment.of, found["step"], found["planned"], about)
        elif moment.name == "validation":
            scores, best = found["valid"], ", the best so far" if found.get("best") else ""
            self.say(
                f"{moment.of}: step {found['step']:,} of {found['planned']:,}, validation AUC {scores['auc']:.4f}, "
                f"logloss {scores['logloss']:.4f}{best}"
            )
        elif moment.name == "warning":
            for warning in found["warnings"]:
                self.say(f"{moment.of}: warning: {warning}")

    def _show(self, name: str, done: int, total: int, about: str) -> None:
        if self.console.is_terminal:
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, about="")
            self._progress.update(self._tasks[name], completed=done, total=total, about=about, visible=done < total)
            return
        now, between = time.monotonic(), SECONDS_BETWEEN_BARS if self.console.is_jupyter else SECONDS_BETWEEN_LINES
        if done >= total or now - self._spoken.setdefault(name, now) >= between:
            self._spoken[name] = now
            if self.console.is_jupyter:
                self._draw(name, done, total, about)
            else:
                self.say(f"{name}: {about}")

    def _draw(self, name: str, done: int, total: int, about: str) -> None:
        """A bar in a notebook; every frontend shows HTML, while widgets need packages of their own."""
        from IPython.display import HTML, display

        bar = HTML(f'{html.escape(name)} <progress value="{done}" max="{total}"></progress> {html.escape(about)}')
        if name in self._displays:
            self._displays[name].update(bar)
        else:
            self._displays[name] = display(bar, display_id=True)


@contextmanager
def told(listener: AnyListener | None) -> Iterator[Listener]:
    """Who is told: the listener given, a callback as one, or a reporter of this call's own if there is none."""
    if isinstance(listener, Listener):
        yield listener
    elif listener is not None:
        yield Listener(listener)
    else:
        with Reporter() as reporter:
            yield reporter


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    return f"{minutes}:{rest:02d}"
