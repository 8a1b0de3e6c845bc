"""Who is told how the work goes."""

from collections.abc import Callable
from typing import Any, Protocol


class Listener(Protocol):
    """Who is told how the work goes; the command line's tells a person."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def steps(self, name: str) -> Callable[[int, int], None]:
        """A listener for `done` of `total`."""

    def training(self, name: str) -> Callable[[dict[str, Any]], None]:
        """A listener for the training loop's reports of the run of that name."""


class _Silent:
    def say(self, text: str) -> None:
        pass

    def steps(self, name: str) -> Callable[[int, int], None]:
        return lambda done, total: None

    def training(self, name: str) -> Callable[[dict[str, Any]], None]:
        return lambda _: None


SILENT: Listener = _Silent()
