"""The report as one HTML page that needs nothing but itself."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from musenet.reporting.contents import ScenarioFacts
from musenet.reporting.pages.document import TEMPLATES, Document, environment, scenario_tables, template_names

if TYPE_CHECKING:
    from musenet.reporting.figures.pictures import Picture


def render_html(document: Document) -> str:
    """The page as HTML; touches no files but its templates."""
    from plotly.offline import get_plotlyjs

    return (
        environment()
        .get_template("report.html")
        .render(
            **template_names(document),
            figures=script_json(document.pictures),
            plotly=get_plotlyjs(),
            style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
            script=(TEMPLATES / "report.js").read_text(encoding="utf-8"),
            mark=_mark,
        )
    )


def render_scenarios(scenarios: ScenarioFacts, pictures: "Sequence[Picture]") -> str:
    """The section on scenarios as HTML, without its figures' data and style."""
    from musenet.reporting.words import sentences

    return (
        environment()
        .get_template("scenarios.html")
        .render(
            scenarios=scenarios,
            warnings=sentences.warnings(scenarios),
            words=sentences,
            tables=scenario_tables(scenarios),
            pictures={picture.name: picture for picture in pictures},
            mark=_mark,
        )
    )


def script_json(pictures: "Sequence[Picture]") -> str:
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


def _mark(scenario: int) -> str:
    from musenet.reporting.figures.drawing import mark_of

    return mark_of(scenario)[0]
