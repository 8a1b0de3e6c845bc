"""The report: one HTML page that needs nothing but itself, made from a run folder."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musenet.errors import RunError
from musenet.evaluation.intervals import Interval
from musenet.files import replacing, write_text
from musenet.report.browser import draw_figures, find_browser
from musenet.report.contents import Contents, gather
from musenet.run_folder import RunFolder

if TYPE_CHECKING:
    from musenet.report.pictures import Picture

TEMPLATES = Path(__file__).parent / "templates"


def write_report(run: RunFolder, out: Path, comparison: Path | None = None) -> Path:
    """Write the page that shows a run, and beside it the numbers behind each figure: `<page>-figures/<figure>.csv`.

    Args:
        run: a trained run; its test split must not be empty.
        out: the HTML file, replaced whole.
        comparison: the JSON that `musenet compare` wrote; if None, the `comparison.json` two folders above the run
            (where `compare` puts it) is taken if it names this run.

    Returns:
        The file written.

    Raises:
        RunError: if the run or the comparison is missing or damaged, or the extra `report` is not installed.
    """
    _check_installed()
    from musenet.report.pictures import pictures_of

    contents = gather(run, comparison)
    pictures = list(pictures_of(contents))
    write_text(out, render(contents, pictures))
    for picture in pictures:
        write_text(figures_folder(out) / f"{picture.name}.csv", _csv(picture))
    return out


def figures_folder(page: Path) -> Path:
    """Where the figures of a page lie, one by one."""
    return page.with_name(f"{page.stem}-figures")


def write_pngs(page: Path) -> str:
    """Draw each figure of a page as `<page>-figures/<figure>.png`, if there is a browser that can; what came of it."""
    folder = figures_folder(page)
    browser = find_browser()
    if browser is None:
        return (
            f"{folder} holds the figures' numbers as CSV; no Chromium or Chrome was found to draw them as PNG as well"
        )
    try:
        drawn = draw_figures(page, browser)
    except OSError as error:
        return f"{folder} holds the figures' numbers as CSV; they could not be drawn as PNG ({error})"
    for name, png in drawn.items():
        with replacing(folder / f"{name}.png") as temporary:
            temporary.write_bytes(png)
    return f"{folder} holds each figure as PNG and its numbers as CSV"


def render(contents: Contents, pictures: "Sequence[Picture]") -> str:
    """The page as HTML; touches no files but its templates."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    from musenet.report import captions, formats, sentences

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        contents=contents,
        words=sentences,
        formats=formats,
        captions=captions,
        tables=_tables(contents),
        pictures={picture.name: picture for picture in pictures},
        figures=_script_json(pictures),
        plotly=get_plotlyjs(),
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=(TEMPLATES / "report.js").read_text(encoding="utf-8"),
        mark=_mark,
        metric=lambda name: _metric(contents, name),
    )


def _tables(contents: Contents) -> dict[str, Any]:
    from musenet.report import tables

    found = {"periods": tables.periods_table(contents.log), "metrics": tables.metrics_table(contents)}
    if contents.comparison is not None:
        found["comparison"] = tables.comparison_table(contents.comparison, contents.verdict.subject)
    if contents.scenarios is not None:
        found["scenarios"] = tables.scenario_table(contents.scenarios)
        if contents.scenarios.differences:
            found["differences"] = tables.differences_table(contents.scenarios)
    return found


def _script_json(pictures: "Sequence[Picture]") -> str:
    """The figures as JSON that can stand inside a script element: no `<` to end it early."""
    parts = [f'"{picture.name}":{picture.figure.to_json()}' for picture in pictures]
    escapes: dict[str, str | int | None] = {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
    return ("{" + ",".join(parts) + "}").translate(str.maketrans(escapes))


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


def _metric(contents: Contents, name: str) -> Interval:
    found = contents.evaluation[name]
    bounds = (found.get(key) for key in ("value", "low", "high"))
    return Interval(*(float("nan") if bound is None else float(bound) for bound in bounds))


def _mark(scenario: int) -> str:
    from musenet.report.figures.drawing import mark_of

    return mark_of(scenario)[0]


def _check_installed() -> None:
    try:
        import jinja2  # noqa: F401
        import plotly  # noqa: F401
    except ImportError as error:
        raise RunError(f"the report needs the package {error.name}: pip install 'musenet[report]'") from error
