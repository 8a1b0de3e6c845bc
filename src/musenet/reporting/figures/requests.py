"""Requests: on the map of the metric space, and over time."""

from datetime import date

from plotly import graph_objects as go

from musenet.portraits.over_time import SharesOverTime, Span
from musenet.portraits.request_map import MappedRequest, RequestMap
from musenet.portraits.words import number, percent
from musenet.reporting.figures.drawing import GRID, LINE, error_bars, finished, literal_text, mark_of, percentages

_HOVER_LINE = 60
_AXIS = {"day": "day", "week": "week, by its Monday", "hour": "hour of the day"}


def figure_map(drawn: RequestMap, count: int) -> go.Figure:
    """A dot per request in its scenario's colour and symbol, its words on hover; prototypes large and open.

    Args:
        drawn: the map.
        count: K.
    """
    figure = go.Figure()
    for k in range(count):
        own = [request for request in drawn.requests if request.scenario == k]
        colour, symbol = mark_of(k)
        figure.add_trace(
            go.Scatter(
                x=[request.x for request in own],
                y=[request.y for request in own],
                mode="markers",
                name=f"Scenario {k}",
                marker={"color": colour, "symbol": symbol, "size": 7, "opacity": 0.75},
                hoverinfo="text",
                hovertext=[_hover(request) for request in own],
            )
        )
    for k, (x, y) in enumerate(drawn.prototypes):
        colour, symbol = mark_of(k)
        figure.add_trace(
            go.Scatter(
                x=[x],
                y=[y],
                mode="markers",
                showlegend=False,
                marker={"color": colour, "symbol": f"{symbol}-open", "size": 22, "line": {"width": 3.5}},
                hoverinfo="text",
                hovertext=[f"prototype of scenario {k}"],
            )
        )
    figure.update_xaxes(showticklabels=False, showgrid=False)
    figure.update_yaxes(showticklabels=False, showgrid=False, scaleanchor="x")
    return finished(figure, height=480, legend=True)


def figure_over_time(shares: SharesOverTime) -> go.Figure:
    """A line per scenario; the dotted one is where the test period begins."""
    figure = go.Figure()
    labels = _short([span.label for span in shares.spans], shares)
    for k in range(len(shares.spans[0].shares) if shares.spans else 0):
        colour, symbol = mark_of(k)
        intervals = [span.shares[k] for span in shares.spans]
        figure.add_trace(
            go.Scatter(
                x=labels,
                y=[interval.value for interval in intervals],
                error_y=error_bars(intervals, colour),
                mode="lines+markers",
                name=f"Scenario {k}",
                line={"color": colour, "width": 1.8},
                marker={"color": colour, "symbol": symbol, "size": 8},
                hoverinfo="text",
                hovertext=[_share_text(k, span) for span in shares.spans],
            )
        )
    # Validation ends and the test period begins between two spans, or inside the one that is named.
    spans = [span.label for span in shares.spans]
    if shares.test_begins in spans[1:]:
        figure.add_vline(x=spans.index(shares.test_begins) - 0.5, line={"color": LINE, "width": 1.5, "dash": "dot"})
    figure.update_xaxes(type="category", title_text=_AXIS[shares.unit], nticks=5, gridcolor=GRID)
    figure.update_yaxes(tickformat=".0%", title_text="share of the requests", rangemode="tozero", nticks=6)
    return finished(figure, height=340, legend=True)


def _short(labels: list[str], shares: SharesOverTime) -> list[str]:
    """Dates as `18 Mar` where all are of one year."""
    if shares.unit == "hour" or len({label[:4] for label in labels}) > 1:
        return labels
    return [f"{date.fromisoformat(label):%d %b}" for label in labels]


def _hover(request: MappedRequest) -> str:
    head = f"<b>Scenario {request.scenario}, {percent(request.probability)} sure</b>"
    return "<br>".join([head, *(literal_text(line, _HOVER_LINE) for line in request.words)])


def _share_text(scenario: int, span: Span) -> str:
    text = (
        f"Scenario {scenario}, {span.label}: {percentages(span.shares[scenario])} of {number(span.requests)} requests"
    )
    return literal_text(text, 200)
