"""The figure of a backtest: AUC and logloss of every policy, period by period."""

from pathlib import Path

from plotly import graph_objects as go
from plotly.subplots import make_subplots

from musenet.reporting.figures.drawing import error_bars, finished, literal_text, mark_of, panel_title, write_page
from musenet.studies.backtest.results import Backtest, PolicyRow

PANEL = 300
TITLES = {"auc": "AUC, more is better", "logloss": "Logloss, less is better"}


def figure_backtest(backtest: Backtest) -> go.Figure:
    """A line with error bars per model and policy, a panel per metric."""
    figure = make_subplots(rows=len(TITLES), cols=1, vertical_spacing=0.16)
    days = [period.begin[:10] for period in backtest.periods]
    for panel, (metric, title) in enumerate(TITLES.items(), start=1):
        for place, row in enumerate(backtest.models):
            figure.add_trace(_line(row, place, metric, days, named=panel == 1), row=panel, col=1)
        panel_title(figure, panel, title)
        figure.update_yaxes(tickformat=".3f", nticks=6, row=panel, col=1)
    figure.update_xaxes(type="category", tickangle=-35)
    finished(figure, height=150 + PANEL * len(TITLES) + 22 * len(backtest.models), legend=True)
    return figure.update_layout(legend={"y": 0, "yanchor": "bottom", "yref": "container"}, margin={"b": 80})


def write_backtest_page(backtest: Backtest, out: Path) -> None:
    """The figure as one HTML file that needs nothing but itself."""
    write_page(figure_backtest(backtest), backtest.data, out)


def _line(row: PolicyRow, place: int, metric: str, days: list[str], *, named: bool) -> go.Scatter:
    colour, symbol = mark_of(place)
    intervals = [getattr(found, metric) for found in row.periods]
    told = [
        f"{row.name}, {day}: {interval.value:.4f} ({interval.low:.4f} to {interval.high:.4f})"
        for day, interval in zip(days, intervals, strict=True)
    ]
    return go.Scatter(
        x=days,
        y=[interval.value for interval in intervals],
        error_y=error_bars(intervals, colour),
        mode="lines+markers",
        name=literal_text(row.name),
        legendgroup=row.name,
        showlegend=named,
        line={"color": colour, "width": 1.8},
        marker={"color": colour, "size": 8, "symbol": symbol},
        hoverinfo="text",
        hovertext=[literal_text(text, 200) for text in told],
    )
