"""The page in a real browser: no errors, every figure drawn, nothing wider than the window."""

import html
import json
import os
import re
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from musenet.reporting.figures.browser import SCALE, WIDTH, find_browser
from musenet.reporting.pages.report import figures_folder, write_report
from musenet.runs.run import Run
from reporting.page_reading import Heard

pytestmark = pytest.mark.slow

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --virtual-time-budget=5000 --window-size=1600,1000 --dump-dom"
)

COLLECT = """<script>
window.problems = [];
window.addEventListener("error", (event) => problems.push(String(event.message)), true);
window.addEventListener("unhandledrejection", (event) => problems.push(String(event.reason)));
window.addEventListener("securitypolicyviolation", (event) => problems.push("policy: " + event.violatedDirective));
for (const kind of ["error", "warn"]) console[kind] = (...words) => problems.push(words.join(" "));
</script>"""

REPORT = """<script>
window.addEventListener("load", () => setTimeout(() => {
  const root = document.documentElement;
  const wide = [...document.querySelectorAll("main *")].filter((element) =>
    !element.closest(".scroll") && element.getBoundingClientRect().right > root.clientWidth + 1);
  parent.postMessage({
    problems: problems, width: root.clientWidth, scroll: root.scrollWidth,
    plots: document.querySelectorAll(".plot").length,
    drawn: document.querySelectorAll(".plot .main-svg:first-child").length,
    wide: wide.map((element) => element.tagName + "." + element.getAttribute("class")).slice(0, 5),
    sizes: [...document.querySelectorAll(".plot .main-svg:first-child")].map(
      (drawing) => [drawing.clientWidth, drawing.clientHeight]),
    ink: getComputedStyle(document.querySelector(".plot text")).fill,
  }, "*");
}, 1500));
</script>"""


@pytest.fixture
def chromium() -> str:
    found = find_browser()
    if found is None:
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail("chromium is not installed: apt-get install chromium")
        pytest.skip("chromium is not installed")
    return found


def rendered(chromium: str, page: Path, width: int, folder: Path, *flags: str) -> dict[str, Any]:
    """What the page says of itself in a frame of this width (a headless window cannot be narrower than 500)."""
    text = page.read_text(encoding="utf-8").replace("<head>", f"<head>{COLLECT}", 1)
    before, after = text.rsplit("</body>", 1)
    (folder / "inner.html").write_text(f"{before}{REPORT}</body>{after}", encoding="utf-8")
    outer = folder / "outer.html"
    outer.write_text(
        "<!doctype html><body><script>addEventListener('message', (event) =>"
        " { document.body.dataset.said = JSON.stringify(event.data); });</script>"
        f"<iframe src='inner.html' style='width:{width}px;height:900px;border:0'></iframe></body>"
    )
    command = [chromium, *FLAGS.split(), *flags, f"--user-data-dir={folder / 'profile'}", outer.as_uri()]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said = re.search(r'data-said="([^"]*)"', answer.stdout)
    assert said is not None, answer.stderr[-2000:]
    return dict(json.loads(html.unescape(said[1])))


@pytest.mark.parametrize("width", [360, 1400])
def test_page_fits_and_runs_without_errors(
    make_run: Callable[..., Run],
    write_comparison: Callable[..., Path],
    tmp_path: Path,
    chromium: str,
    width: int,
) -> None:
    page = write_report(make_run("soft"), tmp_path / "report.html", write_comparison())
    said = rendered(chromium, page, width, tmp_path)
    assert said["problems"] == []
    assert said["width"] in range(width - 20, width + 1)
    assert said["scroll"] <= said["width"]
    assert said["wide"] == []
    assert said["drawn"] == said["plots"] >= 9


def test_figures_follow_the_dark_scheme(make_run: Callable[..., Run], tmp_path: Path, chromium: str) -> None:
    page = write_report(make_run(), tmp_path / "report.html")
    light = rendered(chromium, page, 800, tmp_path, "--blink-settings=preferredColorScheme=1")
    dark = rendered(chromium, page, 800, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert _brightness(light["ink"]) < 60
    assert _brightness(dark["ink"]) > 200


@pytest.mark.parametrize("ending", ["html", "md"])
def test_each_figure_is_drawn_as_a_small_png(
    make_run: Callable[..., Run], heard: Heard, tmp_path: Path, chromium: str, ending: str
) -> None:
    page = write_report(make_run("soft"), tmp_path / f"report.{ending}", draw=True, listener=heard)
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
        assert ending == "html" or f"(report-figures/{name}.png)" in page.read_text(encoding="utf-8")


def test_paper_holds_every_figure_whole_and_the_screen_gets_its_own_back(
    make_run: Callable[..., Run], tmp_path: Path, chromium: str
) -> None:
    page = write_report(make_run("soft"), tmp_path / "report.html")
    screen = rendered(chromium, page, 1000, tmp_path)["sizes"]
    told = {}
    for events in (["beforeprint"], ["beforeprint", "afterprint"]):
        dispatched = "".join(f'window.dispatchEvent(new Event("{event}"));' for event in events)
        copy = tmp_path / "copy.html"
        before, after = page.read_text(encoding="utf-8").rsplit("</body>", 1)
        copy.write_text(f"{before}<script>{dispatched}</script></body>{after}", encoding="utf-8")
        told[events[-1]] = rendered(chromium, copy, 1000, tmp_path)["sizes"]
    paper = told["beforeprint"]
    assert all(width in (322, 670) for width, _ in paper)
    assert all(height < 900 for _, height in paper), "a page of A4 between its margins is about 1000 pixels high"
    assert told["afterprint"] == screen


def _brightness(colour: str) -> float:
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return (red + green + blue) / 3
