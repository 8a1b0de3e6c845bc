"""Drawing figures: small pictures of the same colours, and a sentence whatever the browser does."""

import asyncio
import io
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plotly import graph_objects as go

from musenet.reporting.figures import browser as browsers
from musenet.reporting.figures.browser import drawing, small_png


def small(pixels: np.ndarray) -> np.ndarray:
    """The pixels of the small PNG of a PNG; it has a list of colours."""
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    picture = Image.open(io.BytesIO(small_png(png.getvalue())))
    assert (picture.format, picture.mode) == ("PNG", "P")
    return np.asarray(picture.convert("RGB"))


def test_few_colours_come_back_as_they_were() -> None:
    random = np.random.default_rng(1)
    colours = random.integers(0, 256, (200, 3), dtype=np.uint8)
    pixels = colours[random.integers(0, 200, (37, 53))]
    np.testing.assert_array_equal(small(pixels), pixels)


def test_of_many_colours_the_most_frequent_are_kept_and_the_others_become_near_ones() -> None:
    random = np.random.default_rng(1)
    frequent = random.integers(0, 256, (20, 3), dtype=np.uint8)[random.integers(0, 20, (50, 400))]
    grey = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
    odd = np.concatenate([grey, grey // 2 + [[[0, 0, 60]]]], axis=1)[:, :400].astype(np.uint8)
    found = small(np.concatenate([frequent, odd]))
    np.testing.assert_array_equal(found[:50], frequent)
    assert np.abs(found[50:].astype(int) - odd).max() <= 8


@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo no display >&2; exit 1", "no display"), ("exec sleep 100", "did not finish within 1 seconds")],
    ids=["that fails", "that hangs"],
)
def test_a_browser_is_one_sentence_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    monkeypatch.setattr(browsers, "SECONDS", 1)
    monkeypatch.setattr(browsers, "SECONDS_TO_CLOSE", 1)
    browser = tmp_path / "chromium"
    browser.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\n{script}\n")
    browser.chmod(0o755)
    with pytest.raises(OSError, match=f"chromium drew nothing .*{reason}") as raised, drawing(str(browser)) as draw:
        draw({"dots": go.Figure(go.Scatter(y=[1, 2]))})
    assert "\n" not in str(raised.value)
    assert not (Path("/proc") / (tmp_path / "pid").read_text().strip()).exists()


def test_figures_are_drawn_where_an_event_loop_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook."""
    picture = io.BytesIO()
    Image.new("RGB", (4, 3)).save(picture, "PNG")

    async def drawn(figures: "Future[list[go.Figure]]", browser: str) -> list[bytes | BaseException]:
        await asyncio.wrap_future(figures)
        return [picture.getvalue(), RuntimeError("no such font")]

    async def notebook() -> dict[str, bytes]:
        with drawing("chromium") as draw:
            return draw({"dots": go.Figure(), "bars": go.Figure()})

    monkeypatch.setattr(browsers, "_drawn", drawn)
    assert list(asyncio.run(notebook())) == ["dots"]


def test_figures_that_are_never_made_close_the_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    async def drawn(figures: "Future[list[go.Figure]]", browser: str) -> list[bytes | BaseException]:
        try:
            await asyncio.wrap_future(figures)
            raise AssertionError("there are no figures")
        finally:
            closed.append(browser)

    def fail() -> None:
        with drawing("chromium"):
            raise OSError("no such run")

    monkeypatch.setattr(browsers, "_drawn", drawn)
    with pytest.raises(OSError, match="no such run"):
        fail()
    assert closed == ["chromium"]
