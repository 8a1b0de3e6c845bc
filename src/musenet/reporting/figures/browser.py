"""Figures as PNG, drawn by a headless browser of the Chromium family, all in one start and without network."""

import asyncio
import io
import logging
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kaleido import Kaleido
    from plotly.graph_objects import Figure

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
WIDTH = 900
SCALE = 1.4
"""Pixels of the picture by those of the drawing."""
TABS = 2
SECONDS = 120
SECONDS_TO_CLOSE = 5
BROWSER_LOG = "browser_proc"


def find_browser() -> str | None:
    """A browser that can draw; None if there is none on the path."""
    return next((found for name in BROWSERS if (found := shutil.which(name)) is not None), None)


Draw = Callable[["Mapping[str, Figure]"], dict[str, bytes]]


@contextmanager
def drawing(browser: str) -> Iterator[Draw]:
    """Starts the browser, which takes seconds, while the figures are still made; yields `draw`, to be called once.

    `draw` gives each figure as a small PNG, by name; those that the browser did not draw are missing. It raises
    `OSError` if the browser does not start, draws nothing, or takes more than two minutes for either.
    """
    figures: Future[list[Figure]] = Future()
    # In a thread of its own, since that of a notebook runs an event loop already.
    with _listening() as lines, ThreadPoolExecutor(1) as thread:
        pictures = thread.submit(asyncio.run, _drawn(figures, browser))

        def draw(named: "Mapping[str, Figure]") -> dict[str, bytes]:
            figures.set_result([_on_paper(figure) for figure in named.values()])
            error = pictures.exception()
            if error is not None:
                why = error if isinstance(error, TimeoutError) or not lines else lines[-1][:200]
                raise OSError(f"{browser} drew nothing ({why})") from error
            drawn = pictures.result()
            found = {name: png for name, png in zip(named, drawn, strict=True) if isinstance(png, bytes)}
            if named and not found:
                raise OSError(f"{browser} drew nothing ({drawn[0]!r})")
            return found

        try:
            yield draw
        finally:
            figures.cancel()


async def _drawn(figures: "Future[list[Figure]]", browser: str) -> list[bytes | BaseException]:
    """For each figure, once they are known, a PNG or what went wrong."""
    from kaleido import Kaleido

    drawer = Kaleido(n=TABS, path=browser, mathjax=False)  # MathJax would come from the network

    async def draw(figure: "Figure") -> bytes:
        return await asyncio.to_thread(small_png, await drawer.calc_fig(figure, {"format": "png", "scale": SCALE}))

    try:
        async with _limit(drawer):
            await drawer.open()
        known = await asyncio.wrap_future(figures)
        async with _limit(drawer):
            return await asyncio.gather(*map(draw, known), return_exceptions=True)
    finally:
        with suppress(Exception):
            async with asyncio.timeout(SECONDS_TO_CLOSE):
                await drawer.close()


@asynccontextmanager
async def _limit(drawer: "Kaleido") -> AsyncIterator[None]:
    """`TimeoutError` after two minutes, when the browser is killed: it may not listen when told to end."""
    limit = asyncio.timeout(SECONDS)
    try:
        async with limit:
            yield
    except Exception as error:
        if not limit.expired():
            raise
        with suppress(ProcessLookupError):
            os.killpg(drawer.subprocess.pid, signal.SIGKILL)
            drawer.subprocess.wait()
        raise TimeoutError(f"it did not finish within {SECONDS} seconds") from error


@contextmanager
def _listening() -> Iterator[list[str]]:
    """What the browser says: Kaleido makes log records of it, and of troubles of its own, which stay unsaid."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name == BROWSER_LOG and not record.getMessage().startswith("wrapper CLI"):
                lines.append(record.getMessage())

    listener = Listener()
    loggers = [logging.getLogger(name) for name in (BROWSER_LOG, "choreographer")]
    loggers[0].setLevel(logging.DEBUG)
    for logger in loggers:
        logger.addHandler(listener)
    try:
        yield lines
    finally:
        for logger in loggers:
            logger.removeHandler(listener)


def _on_paper(figure: "Figure") -> "Figure":
    """Black on white and of fixed width; on the page, the style sheet gives a figure its colours and size."""
    from plotly.graph_objects import Figure

    copy = Figure(figure)
    copy.update_layout(width=WIDTH, margin={"l": 30, "r": 30, "t": 50, "b": 30})
    copy.update_layout(paper_bgcolor="white", plot_bgcolor="white", font={"color": "black", "family": "sans-serif"})
    return copy.update_annotations(bgcolor="rgba(255,255,255,0.8)")


def small_png(png: bytes) -> bytes:
    """With a list of 256 colours, as drawings have few; the frequent ones stay as they are."""
    from PIL import Image

    out = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256).save(out, "PNG", optimize=True)
    return out.getvalue()
