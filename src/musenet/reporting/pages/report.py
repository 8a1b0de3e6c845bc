"""The report of a run: an HTML page or a Markdown page, by its ending, and the figures one by one beside it."""

import csv
import io
import math
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musenet.errors import RunError
from musenet.files import replacing, write_text
from musenet.progress import SILENT, Listener
from musenet.reporting.contents import gather
from musenet.reporting.figures.browser import Draw, drawing, find_browser
from musenet.reporting.pages.document import Document, read_note
from musenet.runs.run import Run

if TYPE_CHECKING:
    from musenet.reporting.figures.pictures import Picture

ENDINGS = (".html", ".md")


def write_report(
    run: Run,
    out: Path,
    comparison: Path | None = None,
    note: Path | None = None,
    *,
    draw: bool = False,
    listener: Listener = SILENT,
) -> Path:
    """Write the page that shows a run, and beside it the numbers behind each figure: `<page>-figures/<figure>.csv`.

    Args:
        run: a trained run; its test split must not be empty.
        out: the page, replaced whole: HTML if it ends in `.html`, Markdown if in `.md`.
        comparison: the JSON that `musenet compare` wrote; if None, the `comparison.json` two folders above the run
            (where `compare` puts it) is taken if it names this run.
        note: Markdown that tells what was learned, to stand below the headline.
        draw: draw each figure as `<page>-figures/<figure>.png` as well, if there is a browser that can. A Markdown page
            shows the figures that were drawn and links the numbers of the others.
        listener: told what came of drawing.

    Returns:
        The file written.

    Raises:
        RunError: if the run, the comparison or the note is missing or damaged, the page ends otherwise, or the extra
            `report` is not installed.
    """
    if out.suffix not in ENDINGS:
        raise RunError(f"{out} ends in neither .html nor .md: name the report after what it shall be")
    _check_installed(draw)
    from musenet.reporting.figures.pictures import pictures_of
    from musenet.reporting.pages.html import render_html
    from musenet.reporting.pages.markdown import render_markdown

    text = "" if note is None else read_note(note)
    folder = figures_folder(out)
    browser = find_browser() if draw else None
    with nullcontext() if browser is None else drawing(browser) as draw_figures:
        contents = gather(run, comparison)
        document = Document(contents, list(pictures_of(contents)), text)
        for picture in document.pictures:
            write_text(folder / f"{picture.name}.csv", _csv(picture))
        drawn = [] if draw_figures is None else _write_pngs(document, folder, draw_figures, listener)
    if draw and browser is None:
        listener.say(f"{_numbers_in(folder)}; no Chromium or Chrome was found to draw them as PNG as well")
    write_text(out, render_html(document) if out.suffix == ".html" else render_markdown(document, folder.name, drawn))
    return out


def figures_folder(page: Path) -> Path:
    """Where the figures of a page lie, one by one."""
    return page.with_name(f"{page.stem}-figures")


def _write_pngs(document: Document, folder: Path, draw_figures: Draw, listener: Listener) -> list[str]:
    """The names of the figures that were drawn; it is told which were not, and why."""
    numbers = _numbers_in(folder)
    try:
        drawn = draw_figures({picture.name: picture.figure for picture in document.pictures})
    except OSError as error:
        listener.say(f"{numbers}; they could not be drawn as PNG ({error})")
        return []
    for name, png in drawn.items():
        with replacing(folder / f"{name}.png") as temporary:
            temporary.write_bytes(png)
    missing = [picture.name for picture in document.pictures if picture.name not in drawn]
    if missing:
        listener.say(f"{numbers} and as PNG, but for {', '.join(missing)}, which the browser did not draw")
    else:
        listener.say(f"{folder} holds each figure as PNG and its numbers as CSV")
    return list(drawn)


def _numbers_in(folder: Path) -> str:
    return f"{folder} holds the figures' numbers as CSV"


def _csv(picture: "Picture") -> str:
    """What is not known is left empty."""
    text = io.StringIO()
    rows = picture.rows
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if _is_nan(value) else value for name, value in row.items()})
    return text.getvalue()


def _is_nan(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _check_installed(draw: bool) -> None:
    try:
        import jinja2  # noqa: F401
        import plotly  # noqa: F401

        if draw:
            import kaleido  # noqa: F401
            import PIL  # noqa: F401
    except ImportError as error:
        raise RunError(f"the report needs the package {error.name}: pip install 'musenet[report]'") from error
