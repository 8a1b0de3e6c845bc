"""What `drift` found as one HTML page that needs nothing but itself, made of the report's parts."""

import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from musenet.errors import DataError, missing_extra
from musenet.evaluation.intervals import Interval
from musenet.files import write_text
from musenet.reporting.words.tables import Cell, Table
from musenet.serving.drift.drift import Drift

if TYPE_CHECKING:
    from musenet.reporting.figures.pictures import Picture

_MEANING = {
    "columns": "what requests and candidates look like",
    "mix": "how frequent the scenarios are among similar requests",
    "taste": "what is clicked within a scenario",
}


def check_page(out: Path) -> None:
    """Raise unless a page can be written: it ends in `.html`, and the extra `report` is installed."""
    if out.suffix != ".html":
        raise DataError(f"--out {out}: give a name that ends in .html")
    if find_spec("jinja2") is None or find_spec("plotly") is None:
        raise missing_extra("a page of drift needs Jinja and Plotly", "report")


def write_page(found: Drift, out: Path) -> None:
    """Write the page, whole or not at all."""
    from plotly.offline import get_plotlyjs

    from musenet.reporting.pages.document import TEMPLATES, environment
    from musenet.reporting.pages.html import script_json

    picture = _days_picture(found)
    page = (
        environment()
        .get_template("drift.html")
        .render(
            title=Path(found.log).name,
            lead=lead(found),
            sentences=list(_sentences(found)),
            tables=_tables(found),
            pictures={picture.name: picture},
            figures=script_json([picture]),
            plotly=get_plotlyjs(),
            style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
            script=(TEMPLATES / "report.js").read_text(encoding="utf-8"),
        )
    )
    write_text(out, page)


def lead(found: Drift) -> str:
    """What moved, in one sentence."""
    if not found.moved:
        return f"Nothing changed against {found.model}."
    named = " and ".join(f"the {name} ({_MEANING[name]})" for name in found.moved)
    return f"Against {found.model}, what changed is {named}."


def _sentences(found: Drift) -> Iterator[str]:
    yield (
        f"{found.impressions:,} impressions in {found.requests:,} requests of {found.users:,} users, "
        f"{found.positives:,} clicked."
    )
    if found.answers is None:
        yield "All labels are equal, so the log says nothing about mix and taste."
        return
    told = found.answers
    yield (
        f"Knowing the new mix and taste would save {100 * told.saved:.2f} % of the log's logloss, beyond what chance "
        f"gives (p {told.p:.2g}); {told.own_mix:.0%} of that is the mix's own part, {told.own_taste:.0%} the taste's."
    )


def _tables(found: Drift) -> dict[str, Table]:
    days = [("validation", None, found.before), *((day.day, day.impressions, day.figures) for day in found.days)]
    tables = {
        "days": Table(
            "Validation, which the weights were not fitted to, and the days of the log",
            ["day", "impressions", "AUC", "logloss", "predicted / observed"],
            [
                [Cell(day), _number(count, 0), *(_interval(one) for one in figures.values())]
                for day, count, figures in days
            ],
            strong=(0,),
        ),
        "columns": Table(
            "Columns, those that changed most first",
            ["column", "stability", "by chance", "unseen", "before", "changed"],
            [
                [
                    Cell(one.column),
                    _number(one.stability, 3),
                    _number(one.by_chance, 3),
                    _number(one.unseen, 3),
                    _number(one.unseen_before, 3),
                    Cell("yes" if one.moved else "no"),
                ]
                for one in found.most_moved()
            ],
            "Stability is the population stability index against training; unseen are shares of values, before: in "
            "validation.",
        ),
    }
    if found.scenarios is not None and found.answers is not None:
        told = found.answers
        columns = (
            found.scenarios["names"],
            found.scenarios["share_before"],
            found.scenarios["share"],
            told.share_before,
            told.share_now,
            told.level,
            told.slope,
        )
        tables["scenarios"] = Table(
            "Scenarios in validation and in the log",
            ["scenario", "share before", "share now", "mix before", "mix now", "level", "slope"],
            [[Cell(name), *(_number(one, 3) for one in row)] for name, *row in zip(*columns, strict=True)],
            "Shares follow from the columns, the mix from the labels of the log's requests; level and slope are, in "
            "a scenario, the change of the log-odds of a click and the factor of the model's logit.",
        )
    return tables


def _days_picture(found: Drift) -> "Picture":
    from plotly import graph_objects as go

    from musenet.reporting.figures.drawing import LINE, PALETTE, error_bars, finished
    from musenet.reporting.figures.pictures import Picture

    days, aucs = [day.day for day in found.days], [day.figures["auc"] for day in found.days]
    figure = go.Figure(
        go.Scatter(
            x=days,
            y=[one.value for one in aucs],
            error_y=error_bars(aucs, PALETTE[0]),
            mode="lines+markers",
            line={"color": PALETTE[0]},
        )
    )
    figure.add_hline(y=found.before["auc"].value, line={"color": LINE, "dash": "dot"})
    figure.update_xaxes(type="category")
    figure.update_yaxes(title_text="AUC", tickformat=".3f")
    rows: Sequence[dict[str, float | str]] = [
        {"day": day, "auc": one.value, "low": one.low, "high": one.high} for day, one in zip(days, aucs, strict=True)
    ]
    return Picture(
        "days",
        "AUC by day",
        f"AUC of each day of the log, beside {found.before['auc'].value:.4f} in validation.",
        "Bars are 95 % intervals over users; the dotted line is validation.",
        finished(figure, height=300),
        list(rows),
    )


def _number(value: float | None, digits: int) -> Cell:
    return Cell("–") if value is None or math.isnan(value) else Cell(f"{value:,.{digits}f}", value=value)


def _interval(found: Interval) -> Cell:
    if math.isnan(found.value):
        return Cell("–")
    return Cell(f"{found.value:.4f}", f"{found.low:.4f} … {found.high:.4f}", found.value)
