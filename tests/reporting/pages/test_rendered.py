"""The page in a real browser: no errors, every figure drawn, nothing wider than the window."""

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from musenet.reporting.figures.browser import SCALE, WIDTH
from musenet.reporting.pages.report import figures_folder, write_report
from musenet.runs.run import Run
from reporting.page_reading import Heard
from shown_runs import comparison_in, measure_little, write_run

pytestmark = pytest.mark.slow

COLLECT = """
window.problems = [];
window.addEventListener("error", (event) => problems.push(String(event.message)), true);
window.addEventListener("unhandledrejection", (event) => problems.push(String(event.reason)));
window.addEventListener("securitypolicyviolation", (event) => problems.push("policy: " + event.violatedDirective));
for (const kind of ["error", "warn"]) console[kind] = (...words) => problems.push(words.join(" "));
"""
DRAWN = "document.querySelectorAll('.plot .main-svg:first-child').length === document.querySelectorAll('.plot').length"
REPORT = """() => {
  const root = document.documentElement;
  const wide = [...document.querySelectorAll("main *")].filter((element) =>
    !element.closest(".scroll") && element.getBoundingClientRect().right > root.clientWidth + 1);
  return {
    problems: problems, width: root.clientWidth, scroll: root.scrollWidth,
    plots: document.querySelectorAll(".plot").length,
    wide: wide.map((element) => element.tagName + "." + element.getAttribute("class")).slice(0, 5),
    sizes: [...document.querySelectorAll(".plot .main-svg:first-child")].map(
      (drawing) => [drawing.clientWidth, drawing.clientHeight]),
    ink: getComputedStyle(document.querySelector(".plot text")).fill,
  };
}"""
PATIENCE = 120_000
"""Milliseconds: a busy machine is slow, not wrong."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of soft scenarios, beside a comparison."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch)
        return write_report(write_run(folder, "soft"), folder / "report.html", comparison_in(folder))


@contextmanager
def shown(browser: Any, page: Path, width: int, **options: Any) -> Iterator[Any]:
    """The page in a window of this width, once every figure is drawn."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    try:
        context.set_default_timeout(PATIENCE)
        context.add_init_script(COLLECT)
        opened = context.new_page()
        opened.goto(page.as_uri())
        opened.wait_for_function(DRAWN)
        yield opened
    finally:
        context.close()


@pytest.mark.parametrize("width", [360, 1400])
def test_page_fits_and_runs_without_errors(browser: Any, page: Path, width: int) -> None:
    with shown(browser, page, width) as opened:
        said = opened.evaluate(REPORT)
    assert said["problems"] == []
    assert said["width"] in range(width - 20, width + 1)
    assert said["scroll"] <= said["width"]
    assert said["wide"] == []
    assert said["plots"] >= 9


def test_figures_follow_the_dark_scheme(browser: Any, page: Path) -> None:
    ink = {}
    for scheme in ("light", "dark"):
        with shown(browser, page, 800, color_scheme=scheme) as opened:
            ink[scheme] = opened.evaluate(REPORT)["ink"]
    assert _brightness(ink["light"]) < 60
    assert _brightness(ink["dark"]) > 200


@pytest.mark.usefixtures("chromium")
def test_each_figure_is_drawn_as_a_small_png(make_run: Callable[..., Run], heard: Heard, tmp_path: Path) -> None:
    page = write_report(make_run("soft"), tmp_path / "report.md", draw=True, listener=heard)
    assert "as PNG and its numbers as CSV" in heard.said[0]
    folder = figures_folder(page)
    pictures = {file.stem: file.read_bytes() for file in folder.glob("*.png")}
    assert set(pictures) == {file.stem for file in folder.glob("*.csv")}
    for name, content in pictures.items():
        assert content.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", content[16:24])
        assert width == SCALE * WIDTH
        assert height >= 350
        assert 5000 < len(content) < 60_000, "an empty canvas is smaller, and a repository wants small ones"
        assert f"(report-figures/{name}.png)" in page.read_text(encoding="utf-8")


def test_paper_holds_every_figure_whole_and_the_screen_gets_its_own_back(browser: Any, page: Path) -> None:
    with shown(browser, page, 1000) as opened:
        screen = opened.evaluate(REPORT)["sizes"]
        opened.evaluate("dispatchEvent(new Event('beforeprint'))")
        paper = opened.evaluate(REPORT)["sizes"]
        opened.evaluate("dispatchEvent(new Event('afterprint'))")
        again = opened.evaluate(REPORT)["sizes"]
    assert all(width in (322, 670) for width, _ in paper)
    assert all(height < 900 for _, height in paper), "a page of A4 between its margins is about 1000 pixels high"
    assert again == screen


def _brightness(colour: str) -> float:
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return (red + green + blue) / 3
