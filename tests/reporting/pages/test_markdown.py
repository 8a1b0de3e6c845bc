"""The Markdown page: the same report as the HTML page, its links lead somewhere, and odd values stay text."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt

from musenet.reporting.pages import report as report_page
from musenet.reporting.pages.markdown import escape
from musenet.reporting.pages.report import figures_folder, write_report
from musenet.runs.run import Run
from reporting.page_reading import Heard
from shown_runs import comparison_in, measure_little, write_run

MakeRun = Callable[..., Run]
ODD = "a|b *c* _d_ [e](https://example.org) `f` <i>g</i> $h$ ~~i~~ \\|"


class Sentences(HTMLParser):
    """The texts of a page's paragraphs, items, captions and headings, and its tables' cells, in order."""

    KINDS = re.compile(r"p|li|figcaption|h[1-6]|caption|dt|dd")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.cells: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self._into: list[str] | None = None
        self._skipped = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        unread = tag in ("script", "style", "nav", "noscript") or dict(attrs).get("class") in ("kicker", "screen")
        self._skipped += unread and tag not in ("p", "span")
        if unread and tag in ("p", "span"):
            self._into = None
        elif self.KINDS.fullmatch(tag):
            self._into = self.texts
            self._into.append("")
        elif tag in ("td", "th"):
            self._into = self.cells
            self._into.append("")

    def handle_endtag(self, tag: str) -> None:
        self._skipped -= tag in ("script", "style", "nav", "noscript")
        if self.KINDS.fullmatch(tag) or tag in ("td", "th"):
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into is not None and not self._skipped:
            self._into[-1] += data.strip() if self._into is self.cells else data


def rendered(page: Path) -> Sentences:
    return Sentences(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(page.read_text("utf-8")))


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sentences, Sentences]:
    """The HTML and the Markdown page of one run with odd values, a comparison and a note."""
    folder = tmp_path_factory.mktemp("both")
    run, file = write_run(folder, "soft"), comparison_in(folder, {"BaseModel": -0.03, ODD: -0.01})
    note = folder / "note.md"
    note.write_text("What we learned.\n\nAnd this.\n")
    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch)
        pages = [write_report(run, folder / "out" / name, file, note) for name in ("report.html", "report.md")]
    return Sentences(pages[0].read_text(encoding="utf-8")), rendered(pages[1])


def test_all_that_the_html_page_says_the_markdown_page_says_as_well(both: tuple[Sentences, Sentences]) -> None:
    html, markdown = both
    said = words(" ".join(markdown.texts))
    expected = [words(text) for text in html.texts if words(text)]
    assert len(expected) > 60
    assert [text for text in expected if text not in said] == []
    assert any(text.startswith("Scenario 3 (“") for text in expected)
    assert any("The scenarios are soft" in text for text in expected)
    assert "Scenarios paid" in expected
    assert "And this." in expected


def test_the_tables_have_the_same_cells(both: tuple[Sentences, Sentences]) -> None:
    html, markdown = both
    assert len(html.cells) > 100
    assert markdown.cells == html.cells


def test_odd_values_are_shown_and_are_no_markup(both: tuple[Sentences, Sentences]) -> None:
    _, markdown = both
    assert any(cell.startswith(ODD) for cell in markdown.cells)
    text = " ".join(markdown.texts)
    assert f"“{ODD}”" in text
    assert '<script>alert("1")</script>' in text
    assert "negatives are <shown> and not clicked" in text
    assert not markdown.tags & {"script", "i", "em", "s", "code", "img"}
    assert all(link.startswith("report-figures/") for link in markdown.links)


@pytest.mark.parametrize(
    "text",
    [
        ODD,
        "- a",
        "+ a",
        "1. a",
        "12) a",
        "# a",
        "> a",
        "---",
        "| - |",
        "a\nb",
        "&lt;",
        "-",
        "0.5 - 1",
        "***",
        "~~~",
        "\\",
    ],
)
def test_any_text_comes_back_from_markdown_as_it_was(text: str) -> None:
    back = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(escape(text))
    assert Sentences(back).texts == [words(text)]
    assert Sentences(back).tags == {"p"}


def test_links_lead_to_the_figures_beside_the_page(
    make_run: MakeRun, heard: Heard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(report_page, "find_browser", lambda: "a browser")
    drawn = {"shares": b"1", "map": b"2"}
    monkeypatch.setattr(report_page, "drawing", lambda browser: nullcontext(lambda figures: drawn))
    page = write_report(make_run(), tmp_path / "our docs" / "hotels (1).md", draw=True, listener=heard)
    links = [page.parent / unquote(link) for link in rendered(page).links]
    assert all(link.is_file() for link in links)
    assert {link.name for link in links if link.suffix == ".png"} == {"shares.png", "map.png"}
    numbers = {link for link in links if link.suffix == ".csv"}
    assert numbers == set(figures_folder(page).glob("*.csv"))
    assert "confidence, differences" in heard.said[0]
    assert "left out" not in page.read_text(encoding="utf-8")


def test_without_a_browser_the_numbers_are_linked_and_it_is_said(
    make_run: MakeRun, heard: Heard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    page = write_report(make_run(), tmp_path / "report.md", draw=True, listener=heard)
    read = rendered(page)
    assert "The figures are left out, as drawing them takes Chromium or Chrome" in " ".join(read.texts)
    assert read.links
    assert all(link.endswith(".csv") and (tmp_path / link).is_file() for link in read.links)
    assert "Bars of each scenario's share of the requests" in " ".join(read.texts)


def test_a_note_keeps_its_markdown(make_run: MakeRun, tmp_path: Path) -> None:
    note = tmp_path / "note.md"
    note.write_text("It *paid*, see [the table](hotels.md).\n\n- a little\n")
    page = write_report(make_run("none"), tmp_path / "report.md", None, note)
    text = page.read_text(encoding="utf-8")
    assert f"## What was learned\n\n{note.read_text()}\n> **Mind:** The figures are left out" in text


def test_a_model_without_scenarios_or_a_comparison_has_a_page(make_run: MakeRun, tmp_path: Path) -> None:
    read = rendered(write_report(make_run("none"), tmp_path / "report.md"))
    assert "Whether scenarios paid is not known" in read.texts
    assert any("there is nothing to tell apart" in text for text in read.texts)


def test_the_page_is_in_order(make_run: MakeRun, tmp_path: Path) -> None:
    text = write_report(make_run(), tmp_path / "report.md").read_text(encoding="utf-8")
    levels = [len(head) for head in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert "\n\n\n" not in text
