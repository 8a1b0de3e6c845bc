"""What the scenarios are: size, confidence, repeats, traits."""

import math
from collections.abc import Sequence

from plotly import graph_objects as go
from plotly.subplots import make_subplots

from musenet.evaluation.intervals import Interval
from musenet.portraits.differences import TraitDifference
from musenet.portraits.portraits import Portrait
from musenet.portraits.words import number, percent
from musenet.reporting.contents import ScenarioFacts
from musenet.reporting.figures.drawing import (
    LINE,
    PALETTE,
    dots,
    figure_rows,
    finished,
    mark_of,
    panel_title,
    percentages,
    signed_bounds,
)
from musenet.reporting.words.sentences import trait_name


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
    rows = list(reversed(differences))
    names = [trait_name(row.trait) for row in rows]
    count = len(rows[0].scenarios) if rows else 0
    columns = {f"Scenario {k}": ([row.scenarios[k] for row in rows], mark_of(k)) for k in range(count)}
    return figure_rows(names, columns, "standard deviations from the whole log", signed_bounds, " sd")


def _scenario_panels(panels: dict[str, list[Interval]]) -> go.Figure:
    """Panels under one another on one percentage scale, a row per scenario in each."""
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.16)
    count = len(next(iter(panels.values())))
    for row, (title, intervals) in enumerate(panels.items(), start=1):
        for k, interval in enumerate(intervals):
            text = f"Scenario {k}: {percentages(interval)}"
            figure.add_trace(dots(f"Scenario {k}", [interval], [float(k)], [text], mark_of(k)), row=row, col=1)
        panel_title(figure, row, title)
        ticks = {"tickvals": list(range(count)), "ticktext": [f"Scenario {k}" for k in range(count)]}
        figure.update_yaxes(**ticks, range=[count - 0.4, -0.6], showgrid=True, row=row, col=1)
    figure.update_xaxes(tickformat=".0%", rangemode="tozero", nticks=6, showticklabels=True)
    return finished(figure, height=90 + len(panels) * (50 + 26 * count))


def _unsure(value: float | None) -> Interval:
    return Interval(math.nan if value is None else value, math.nan, math.nan)
