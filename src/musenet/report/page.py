"""The report: one HTML page that needs nothing but itself, made from a run folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musenet.errors import RunError
from musenet.evaluation.intervals import Interval
from musenet.files import write_text
from musenet.report.contents import Contents, gather
from musenet.run_folder import RunFolder

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its anchor, title, what it shows in words, and how to read it."""

    name: str
    title: str
    description: str
    """Read out in place of the picture."""
    caption: str
    figure: "Figure"


def write_report(run: RunFolder, out: Path, comparison: Path | None = None) -> Path:
    """Write the page that shows a run.

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
    write_text(out, render(gather(run, comparison)))
    return out


def render(contents: Contents) -> str:
    """The page as HTML; touches no files but its templates."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    from musenet.report import sentences

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = {picture.name: picture for picture in pictures_of(contents)}
    return environment.get_template("report.html").render(
        contents=contents,
        words=sentences,
        tables=_tables(contents),
        pictures=pictures,
        figures=_script_json(list(pictures.values())),
        plotly=get_plotlyjs(),
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=(TEMPLATES / "report.js").read_text(encoding="utf-8"),
        mark=_mark,
        metric=lambda name: _metric(contents, name),
    )


def pictures_of(contents: Contents) -> Iterator[Picture]:
    """Every figure that there is data for, in the page's order."""
    from musenet.report import figures

    if contents.comparison is not None and contents.comparison.rows:
        yield _auc_picture(contents)
    if contents.scenarios is not None:
        yield from _scenario_pictures(contents)
    if contents.calibration:
        yield Picture(
            "calibration",
            "Predicted and observed click rates",
            "Dots of observed against predicted click rate; on the dotted diagonal both are equal.",
            "Each dot is a bin of equally many impressions. Above the diagonal the model promises too little, "
            "below too much.",
            figures.figure_calibration(contents.calibration),
        )
    yield from _training_pictures(contents)


def _auc_picture(contents: Contents) -> Picture:
    from musenet.report.figures import figure_auc

    assert contents.comparison is not None
    best = max(contents.comparison.rows, key=lambda row: row.auc.value)
    return Picture(
        "auc",
        "AUC of each model",
        f"Dots with intervals, a row per model; the highest is {best.name} with {best.auc.value:.4f}.",
        "Bars are 95\u00a0% intervals of each model alone. Two models whose bars overlap can still differ clearly, as "
        "both were measured on the same users: the table's paired difference is what counts.",
        figure_auc(contents.comparison.rows),
    )


def _scenario_pictures(contents: Contents) -> Iterator[Picture]:
    from musenet.report import figures, sentences

    scenarios = contents.scenarios
    assert scenarios is not None
    shares = sentences.listing([f"{p.scenario}: {sentences.percent(p.share)}" for p in scenarios.portraits])
    yield Picture(
        "shares",
        "How large they are",
        f"Bars of each scenario's share of the requests. {shares}.",
        "Each request counts for every scenario with its probability.",
        figures.figure_shares(scenarios),
    )
    yield Picture(
        "confidence",
        "How sure the model is",
        "Histogram of the probability of each request's likeliest scenario, on average "
        f"{sentences.percent(scenarios.mean_max_probability)}.",
        "Near 100\u00a0% a request clearly belongs to one scenario; at the dotted line to all alike.",
        figures.figure_confidence(scenarios),
    )
    if any(portrait.repeat_probability is not None for portrait in scenarios.portraits):
        yield Picture(
            "repeat-intention",
            "What they come back for",
            "Dots per scenario: the model's repeat intention, and the observed share of repeats among clicks.",
            "The model's repeat intention is not identified by itself; trust it where the observed share has the same "
            "order. Bars are 95\u00a0% intervals over users.",
            figures.figure_repeat_intention(scenarios.portraits),
        )
    yield Picture(
        "click-rates",
        "How they click",
        "Dots with intervals per scenario: the share clicked of repeats, and of new items.",
        "Bars are 95\u00a0% intervals over users.",
        figures.figure_click_rates(scenarios.portraits),
    )
    if scenarios.differences:
        traits = ", ".join(sentences.trait_name(row.trait) for row in scenarios.differences[:3])
        yield Picture(
            "differences",
            "What sets them apart",
            f"Dots with intervals, a row per feature and a dot per scenario; the largest differences are in {traits}.",
            "Right of the line: more than in the whole log. “clicked” speaks of the items that were clicked, all else "
            "of the requests. Bars are 95\u00a0% intervals over users.",
            figures.figure_differences(scenarios.differences),
        )


def _training_pictures(contents: Contents) -> Iterator[Picture]:
    from musenet.report import figures

    curves = contents.curves
    if curves.validation_auc:
        yield Picture(
            "validation",
            "AUC on validation",
            f"A line over {len(curves.validation_auc)} validations.",
            "The star marks the weights that were kept.",
            figures.figure_validation(curves),
        )
    if contents.scenarios is not None and curves.health:
        yield Picture(
            "health",
            "Health of the scenarios",
            "Lines of the mean confidence and of each scenario's share during training.",
            "Confidence on the dotted line means melted scenarios; a share near zero a dead one.",
            figures.figure_health(curves, len(contents.scenarios.portraits)),
        )
    if curves.losses:
        yield Picture(
            "losses",
            "Terms of the loss",
            f"A line for each of {', '.join(curves.losses)}.",
            "Single batches, so the lines are ragged; each term has its own scale.",
            figures.figure_losses(curves),
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


def _script_json(pictures: list[Picture]) -> str:
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


def _metric(contents: Contents, name: str) -> Interval:
    found = contents.evaluation[name]
    bounds = (found.get(key) for key in ("value", "low", "high"))
    return Interval(*(float("nan") if bound is None else float(bound) for bound in bounds))


def _mark(scenario: int) -> str:
    from musenet.report.figures import mark_of

    return mark_of(scenario)[0]


def _check_installed() -> None:
    try:
        import jinja2  # noqa: F401
        import plotly  # noqa: F401
    except ImportError as error:
        raise RunError(f"the report needs the package {error.name}: pip install 'musenet[report]'") from error
