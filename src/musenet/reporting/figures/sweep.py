"""The figure of a sweep (the paper's Fig 4): a panel per parameter, a line with error bars per model."""

from pathlib import Path

from plotly import graph_objects as go
from plotly.subplots import make_subplots

from musenet.reporting.figures.drawing import error_bars, finished, literal_text, mark_of, panel_title, write_page
from musenet.studies.sweep.sweep import Sweep, SweepLine

PANEL = 260
DODGE = 0.04
"""How far apart the models' bars stand at one value."""


def figure_sweep(sweep: Sweep) -> go.Figure:
    """AUC by value, evenly spaced whatever the values are; the configured one has a larger, open mark."""
    parameters = list(dict.fromkeys(line.parameter for line in sweep.lines))
    models = list(dict.fromkeys(line.model for line in sweep.lines))
    figure = make_subplots(rows=len(parameters), cols=1, vertical_spacing=0.3 / len(parameters))
    for row, parameter in enumerate(parameters, start=1):
        of_panel = [line for line in sweep.lines if line.parameter == parameter]
        values = _in_order([str(point.value) for line in of_panel for point in line.points])
        for line in of_panel:
            figure.add_trace(_line(line, models, values, named=row == 1), row=row, col=1)
        panel_title(figure, row, parameter)
        figure.update_xaxes(tickvals=list(range(len(values))), ticktext=values, row=row, col=1)
    figure.update_yaxes(tickformat=".3f", nticks=5, title_text=f"AUC ({sweep.split})")
    finished(figure, height=110 + PANEL * len(parameters), legend=True)
    return figure.update_layout(legend={"y": 0, "yanchor": "bottom", "yref": "container"}, margin={"b": 60})


def write_sweep_page(sweep: Sweep, out: Path) -> None:
    """The figure as one HTML file that needs nothing but itself."""
    write_page(figure_sweep(sweep), sweep.data, out)


def _line(line: SweepLine, models: list[str], values: list[str], *, named: bool) -> go.Scatter:
    place = models.index(line.model)
    aside = DODGE * (place - (len(models) - 1) / 2)
    colour, symbol = mark_of(place)
    intervals = [point.auc.interval for point in line.points]
    configured = [point.value == line.configured for point in line.points]
    return go.Scatter(
        x=[values.index(str(point.value)) + aside for point in line.points],
        y=[interval.value for interval in intervals],
        error_y=error_bars(intervals, colour),
        mode="lines+markers",
        name=literal_text(line.model),
        legendgroup=line.model,
        showlegend=named,
        line={"color": colour, "width": 1.8},
        marker={
            "color": colour,
            "size": [13 if one else 8 for one in configured],
            "symbol": [f"{symbol}-open" if one else symbol for one in configured],
        },
        hoverinfo="text",
        hovertext=[
            literal_text(
                f"{line.model}, {line.parameter} = {point.value}: {i.value:.4f} ({i.low:.4f} to {i.high:.4f})", 200
            )
            for point, i in zip(line.points, intervals, strict=True)
        ],
    )


def _in_order(values: list[str]) -> list[str]:
    """Distinct values, numbers ascending; as given if not all are numbers."""
    distinct = list(dict.fromkeys(values))
    try:
        return sorted(distinct, key=float)
    except ValueError:
        return distinct
