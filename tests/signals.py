"""Signals as a terminal's own commands meet them, however the tests were started."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def handled(number: signal.Signals, by: signal.Handlers | Callable[..., Any]) -> Iterator[None]:
    """Not ignored, as what runs in the background ignores SIGINT, and what nohup started SIGHUP."""
    before = signal.signal(number, by)
    try:
        yield
    finally:
        signal.signal(number, before)
