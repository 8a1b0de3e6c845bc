"""The report's figures, each a function of data.

All of them work from 320 pixels on: labels stand above their row inside the plot, not beside it. Colours keep three to
one against white and against the page's dark background, and differ for colour-blind eyes; scenarios differ in symbol
as well. Text has no colour here: the page's style sheet gives it one, light or dark.
"""

import html
import math
from collections.abc import Sequence
from typing import Any

from plotly import graph_objects as go
from plotly.subplots import make_subplots

from musenet.evaluation.intervals import Interval
from musenet.evaluation.portraits import Portrait
from musenet.report.comparison import ModelRow, Role
from musenet.report.contents import CalibrationBin, Curves, ScenarioFacts
from musenet.report.differences import TraitDifference
from musenet.report.sentences import between, number, percent, signed, trait_name

PALETTE = ("#0072B2", "#D55E00", "#00966E", "#B8639A", "#A87900", "#3A93C8", "#8B6BC2", "#7A7A7A")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "star", "hexagon")
ROLE_COLOURS: dict[Role, str] = {
    "learned": PALETTE[0],
    "control": PALETTE[1],
    "base": PALETTE[7],
    "diagnostic": PALETTE[4],
}
ROLE_NAMES: dict[Role, str] = {
    "learned": "learned scenarios",
    "control": "control",
    "base": "other model",
    "diagnostic": "told the truth",
}
GRID = "rgba(128,128,128,0.22)"
LINE = "rgba(128,128,128,0.75)"
LABEL_LENGTH = 44
ROW = 50
ONE_DOT = -0.08
"""Where in its row a single dot stands, below the label."""


def plain_text(text: str, length: int = LABEL_LENGTH) -> str:
    """Text as plotly shows it literally: its own markup is escaped, and what is too long for a phone is cut."""
    short = text if len(text) <= length else text[: length - 1] + "…"
    return html.escape(short, quote=False)


def figure_auc(rows: Sequence[ModelRow]) -> go.Figure:
    """AUC of each model with its interval, the best on top, coloured by what kind of model it is."""
    ordered = sorted(rows, key=lambda row: row.auc.value)
    figure = go.Figure()
    for role, name in ROLE_NAMES.items():
        places = [place for place, row in enumerate(ordered) if row.role == role]
        if places:
            intervals = [ordered[place].auc for place in places]
            texts = [f"{ordered[place].name}: {_bounds(ordered[place].auc)}" for place in places]
            mark = (ROLE_COLOURS[role], SYMBOLS[list(ROLE_NAMES).index(role)])
            figure.add_trace(_dots(name, intervals, [place + ONE_DOT for place in places], texts, mark))
    _label_rows(figure, [row.name for row in ordered])
    figure.update_xaxes(title_text="AUC on the test period", tickformat=".3f", nticks=6)
    return finished(figure, height=110 + ROW * len(ordered), legend=True)


def figure_repeat_intention(portraits: Sequence[Portrait]) -> go.Figure:
    """Repeat intention, the model's p_r and the repeat share of the clicks, per scenario."""
    panels = {
        "Repeat intention (from clicks)": [portrait.repeat_intention for portrait in portraits],
        "p_r (of the model)": [_unsure(portrait.repeat_probability) for portrait in portraits],
        "Repeats among clicks (observed)": [portrait.repeat_share_of_positives for portrait in portraits],
    }
    return _scenario_panels(panels)


def figure_click_rates(portraits: Sequence[Portrait]) -> go.Figure:
    """The share clicked of repeats and of new items, per scenario."""
    panels = {
        "Click rate on repeats": [portrait.click_rate_on_repeats for portrait in portraits],
        "Click rate on new items": [portrait.click_rate_on_new for portrait in portraits],
    }
    return _scenario_panels(panels)


def figure_differences(differences: Sequence[TraitDifference]) -> go.Figure:
    """Standardised differences from the whole log, a row per trait and a dot per scenario."""
    figure = go.Figure()
    rows = list(reversed(differences))
    count = len(rows[0].scenarios) if rows else 0
    for k in range(count):
        shift = 0.08 - 0.44 * (k / max(1, count - 1))
        intervals = [row.scenarios[k] for row in rows]
        texts = [f"Scenario {k}, {trait_name(row.trait)}: {_signed_bounds(row.scenarios[k])} sd" for row in rows]
        heights = [place + shift for place in range(len(rows))]
        figure.add_trace(_dots(f"Scenario {k}", intervals, heights, texts, mark_of(k)))
    _label_rows(figure, [trait_name(row.trait) for row in rows])
    figure.add_vline(x=0, line={"color": LINE, "width": 1})
    figure.update_xaxes(title_text="standard deviations from the whole log")
    return finished(figure, height=130 + (32 + 8 * count) * len(rows), legend=True)


def figure_shares(scenarios: ScenarioFacts) -> go.Figure:
    """Share of the requests per scenario."""
    portraits = scenarios.portraits
    figure = go.Figure(
        go.Bar(
            x=[portrait.share for portrait in portraits],
            y=[f"Scenario {portrait.scenario}" for portrait in portraits],
            orientation="h",
            marker={"color": [mark_of(portrait.scenario)[0] for portrait in portraits]},
            text=[percent(portrait.share) for portrait in portraits],
            textposition="outside",
            hoverinfo="skip",
            cliponaxis=False,
        )
    )
    figure.update_yaxes(autorange="reversed")
    end = 1.2 * max(portrait.share for portrait in portraits)
    figure.update_xaxes(tickformat=".0%", title_text="share of the requests", range=[0, end], nticks=5)
    return finished(figure, height=max(260, 90 + 34 * len(portraits)))


def figure_confidence(scenarios: ScenarioFacts) -> go.Figure:
    """How sure the model is of a request's scenario."""
    bins, total = len(scenarios.confidence), max(1, sum(scenarios.confidence))
    edges = [place / bins for place in range(bins)]
    figure = go.Figure(
        go.Bar(
            x=[edge + 0.5 / bins for edge in edges],
            y=[count / total for count in scenarios.confidence],
            width=0.9 / bins,
            marker={"color": PALETTE[0]},
            hoverinfo="text",
            hovertext=[
                f"{percent(edge, 0)} to {percent(edge + 1 / bins, 0)}: {number(count)} requests"
                for edge, count in zip(edges, scenarios.confidence, strict=True)
            ],
        )
    )
    floor = 1 / len(scenarios.portraits)
    figure.add_vline(x=floor, line={"color": LINE, "width": 1.5, "dash": "dot"})
    figure.add_annotation(
        x=floor, y=1, yref="paper", text="no knowledge", showarrow=False, xanchor="center", yanchor="bottom"
    )
    figure.update_xaxes(range=[0, 1], tickformat=".0%", title_text="probability of the likeliest scenario", nticks=6)
    figure.update_yaxes(tickformat=".0%", title_text="share of the requests", nticks=5)
    return finished(figure, height=max(260, 90 + 34 * len(scenarios.portraits)))


def figure_calibration(bins: Sequence[CalibrationBin]) -> go.Figure:
    """Observed against predicted click rates in bins of equally many impressions."""
    observed = [part.observed for part in bins]
    predicted = [part.predicted for part in bins]
    texts = [
        f"predicted {percent(part.predicted, 1)}, clicked {_percentages(part.observed)}, "
        f"{number(part.impressions)} impressions"
        for part in bins
    ]
    tops = [part.high if math.isfinite(part.high) else part.value for part in observed]
    end = 1.05 * max([*predicted, *tops, 1e-6])
    figure = go.Figure(
        go.Scatter(x=[0, end], y=[0, end], mode="lines", line={"color": LINE, "dash": "dot"}, hoverinfo="skip")
    )
    figure.add_trace(
        go.Scatter(
            x=predicted,
            y=[part.value for part in observed],
            error_y=error_bars(observed, PALETTE[0]),
            mode="markers",
            marker={"color": PALETTE[0], "size": 7},
            hoverinfo="text",
            hovertext=texts,
        )
    )
    figure.update_xaxes(title_text="predicted click rate", tickformat=".0%", range=[0, end], nticks=6)
    figure.update_yaxes(title_text="observed click rate", tickformat=".0%", range=[0, end], nticks=6)
    return finished(figure, height=380)


def figure_validation(curves: Curves) -> go.Figure:
    """AUC on validation by training step; the kept weights are marked."""
    figure = go.Figure(_line("validation AUC", curves.validation_auc, PALETTE[0]))
    kept = [(step, value) for step, value in curves.validation_auc if step == curves.best_step]
    if kept:
        figure.add_trace(
            go.Scatter(
                x=[kept[0][0]],
                y=[kept[0][1]],
                mode="markers",
                name="kept",
                marker={"color": PALETTE[1], "size": 13, "symbol": "star"},
                hoverinfo="text",
                hovertext=[f"kept: step {number(kept[0][0])}, AUC {number(kept[0][1], 4)}"],
            )
        )
    figure.update_xaxes(title_text="step", nticks=5)
    figure.update_yaxes(title_text="AUC", tickformat=".3f", nticks=6)
    return finished(figure, height=300, legend=True)


def figure_losses(curves: Curves) -> go.Figure:
    """Each term of the loss by training step, on its own scale."""
    panels = {name: [(name, points, PALETTE[0], "solid")] for name, points in curves.losses.items()}
    return _curve_panels(panels)


def figure_health(curves: Curves, scenarios: int) -> go.Figure:
    """Signs of health of the scenarios by training step (docs/model.md): confidence, use, shares."""
    panels: dict[str, list[tuple[str, list[tuple[int, float]], str, str]]] = {}
    if points := curves.health.get("mean_max_probability"):
        melted = [(step, 1 / scenarios) for step, _ in points]
        lines = [("confidence", points, PALETTE[0], "solid"), ("melted", melted, LINE, "dot")]
        panels["mean largest probability"] = lines
    shares = [(k, curves.health.get(f"share_{k}")) for k in range(scenarios)]
    if any(points for _, points in shares):
        panels["share of each scenario"] = [
            (f"Scenario {k}", points, mark_of(k)[0], "solid") for k, points in shares if points
        ]
    return _curve_panels(panels)


def mark_of(scenario: int) -> tuple[str, str]:
    """Colour and symbol of a scenario, the same in every figure and in the text.

    >>> mark_of(0)
    ('#0072B2', 'circle')
    """
    # Beyond the palette the symbols are passed through in another order, so that 56 scenarios differ in one or both.
    turn = scenario // len(PALETTE)
    return PALETTE[scenario % len(PALETTE)], SYMBOLS[(scenario + turn) % len(SYMBOLS)]


def _scenario_panels(panels: dict[str, list[Interval]]) -> go.Figure:
    """Panels under one another on one percentage scale, a row per scenario in each."""
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.16)
    count = len(next(iter(panels.values())))
    for row, (title, intervals) in enumerate(panels.items(), start=1):
        for k, interval in enumerate(intervals):
            text = f"Scenario {k}: {_percentages(interval)}"
            dots = _dots(f"Scenario {k}", [interval], [float(k)], [text], mark_of(k))
            figure.add_trace(dots, row=row, col=1)
        panel_title(figure, row, title)
        ticks = {"tickvals": list(range(count)), "ticktext": [f"Scenario {k}" for k in range(count)]}
        figure.update_yaxes(**ticks, range=[count - 0.4, -0.6], showgrid=True, row=row, col=1)
    figure.update_xaxes(tickformat=".0%", rangemode="tozero", nticks=6, showticklabels=True)
    return finished(figure, height=90 + len(panels) * (50 + 26 * count))


def _curve_panels(panels: dict[str, list[tuple[str, list[tuple[int, float]], str, str]]]) -> go.Figure:
    """Panels under one another with a scale of their own each: title → lines of name, points, colour and dash."""
    rows = max(1, len(panels))
    figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.26 / rows)
    for row, (title, lines) in enumerate(panels.items(), start=1):
        for name, points, colour, dash in lines:
            figure.add_trace(_line(name, points, colour, dash), row=row, col=1)
        panel_title(figure, row, title)
    figure.update_yaxes(nticks=4)
    figure.update_xaxes(nticks=5)
    figure.update_xaxes(title_text="step", row=rows, col=1)
    return finished(figure, height=max(300, 60 + 125 * rows))


def panel_title(figure: go.Figure, row: int, title: str) -> None:
    """A title above a panel's left end."""
    axis = "y" if row == 1 else f"y{row}"
    figure.add_annotation(
        text=f"<b>{plain_text(title, 60)}</b>",
        x=0,
        xref="paper",
        xanchor="left",
        y=1,
        yref=f"{axis} domain",
        yanchor="bottom",
        yshift=3,
        showarrow=False,
    )


def _label_rows(figure: go.Figure, labels: Sequence[str]) -> None:
    """Label row i, at height i, above its dots; a fine line sets it apart from the row above."""
    for place, label in enumerate(labels):
        figure.add_annotation(
            text=plain_text(label), x=0, xref="paper", xanchor="left", y=place + 0.36, yanchor="middle", showarrow=False
        )
        figure.add_hline(y=place + 0.56, line={"color": GRID, "width": 1})
    figure.update_yaxes(range=[-0.5, len(labels) - 0.42], showticklabels=False, showgrid=False)


def _dots(
    name: str, intervals: Sequence[Interval], heights: Sequence[float], texts: Sequence[str], mark: tuple[str, str]
) -> go.Scatter:
    colour, symbol = mark
    return go.Scatter(
        x=[_or_none(interval.value) for interval in intervals],
        y=list(heights),
        error_x=error_bars(intervals, colour),
        mode="markers",
        name=name,
        marker={"color": colour, "symbol": symbol, "size": 9},
        hoverinfo="text",
        hovertext=[plain_text(text, 200) for text in texts],
    )


def _line(name: str, points: Sequence[tuple[int, float]], colour: str, dash: str = "solid") -> go.Scatter:
    return go.Scatter(
        x=[step for step, _ in points],
        y=[value for _, value in points],
        mode="lines+markers" if dash == "solid" else "lines",
        name=plain_text(name),
        line={"color": colour, "width": 1.8, "dash": dash},
        marker={"size": 4},
        hoverinfo="text",
        hovertext=[plain_text(f"{name}: {value:.5g} at step {step:,}", 200) for step, value in points],
    )


def error_bars(intervals: Sequence[Interval], colour: str) -> dict[str, Any]:
    """Bars from the low to the high bound; none where there are no bounds."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [_or_none(interval.high - interval.value) for interval in intervals],
        "arrayminus": [_or_none(interval.value - interval.low) for interval in intervals],
        "color": colour,
        "thickness": 1.6,
        "width": 0,
    }


def finished(figure: go.Figure, height: int, *, legend: bool = False) -> go.Figure:
    """The look that all figures share: no background, fine grid, nothing to drag by mistake on a phone."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 10, "r": 14, "t": 34, "b": 18},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "yref": "paper"},
        dragmode=False,
        hovermode="closest",
        hoverlabel={"align": "left"},
        bargap=0.25,
    )
    axis = {"gridcolor": GRID, "zeroline": False, "fixedrange": True, "automargin": True, "linecolor": GRID}
    axis |= {"title_font_size": 13, "title_standoff": 8}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    figure.update_annotations(font={"size": 12.5})
    return figure


def _unsure(value: float | None) -> Interval:
    return Interval(math.nan if value is None else value, math.nan, math.nan)


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _bounds(interval: Interval) -> str:
    if not math.isfinite(interval.low):
        return number(interval.value, 4)
    return f"{number(interval.value, 4)} ({number(interval.low, 4)} to {number(interval.high, 4)})"


def _signed_bounds(interval: Interval) -> str:
    if not math.isfinite(interval.low):
        return signed(interval.value, 2)
    return f"{signed(interval.value, 2)} ({between(interval.low, interval.high, 2)})"


def _percentages(interval: Interval) -> str:
    if not math.isfinite(interval.low):
        return percent(interval.value, 1)
    return f"{percent(interval.value, 1)} ({percent(interval.low, 1)} to {percent(interval.high, 1)})"
