"""What all figures share: colours, symbols, dots with intervals, labels above their row, and the finished look.

All figures work from 320 pixels on: labels stand above their row inside the plot, not beside it. Colours keep three to
one against white and against the page's dark background, and differ for colour-blind eyes; scenarios differ in symbol
as well. Text has no colour here: the page's style sheet gives it one, light or dark.
"""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from plotly import graph_objects as go

from musenet.evaluation.intervals import Interval
from musenet.files import write_text
from musenet.models.options import Role
from musenet.portraits.words import between, number, percent, signed

PALETTE = ("#0072B2", "#D55E00", "#00966E", "#B8639A", "#A87900", "#3A93C8", "#8B6BC2", "#7A7A7A")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "star", "hexagon")
ROLE_COLOURS: dict[Role, str] = {
    "musenet": PALETTE[0],
    "control": PALETTE[1],
    "baseline": PALETTE[7],
    "as published": PALETTE[5],
    "diagnostic": PALETTE[4],
}
GRID = "rgba(128,128,128,0.22)"
LINE = "rgba(128,128,128,0.75)"
LABEL_LENGTH = 44
ROW = 50
TEXT = 12.5
"""Of labels and titles; report.js knows it as well."""
ONE_DOT = -0.08
"""Where in its row a single dot stands, below the label."""


def literal_text(text: str, length: int = LABEL_LENGTH) -> str:
    """Text as plotly shows it literally: its own markup is escaped, and what is too long for a phone is cut."""
    short = text if len(text) <= length else text[: length - 1] + "…"
    return html.escape(short, quote=False)


def mark_of(scenario: int) -> tuple[str, str]:
    """Colour and symbol of a scenario, the same in every figure and in the text.

    >>> mark_of(0)
    ('#0072B2', 'circle')
    """
    # Beyond the palette the symbols are passed through in another order, so that 56 scenarios differ in one or both.
    turn = scenario // len(PALETTE)
    return PALETTE[scenario % len(PALETTE)], SYMBOLS[(scenario + turn) % len(SYMBOLS)]


def dots(
    name: str, intervals: Sequence[Interval], heights: Sequence[float], texts: Sequence[str], mark: tuple[str, str]
) -> go.Scatter:
    """A dot with its bar for each interval at its height; the mark is a colour and a symbol."""
    colour, symbol = mark
    return go.Scatter(
        x=[or_none(interval.value) for interval in intervals],
        y=list(heights),
        error_x=error_bars(intervals, colour),
        mode="markers",
        name=name,
        marker={"color": colour, "symbol": symbol, "size": 9},
        hoverinfo="text",
        hovertext=[literal_text(text, 200) for text in texts],
    )


def figure_rows(
    names: Sequence[str],
    columns: Mapping[str, tuple[Sequence[Interval], tuple[str, str]]],
    title: str,
    in_words: Callable[[Interval], str],
    unit: str = "",
) -> go.Figure:
    """A labelled row per name with a dot for each column below one another, and a line at zero.

    Args:
        names: of the rows, from below.
        columns: name in the legend → an interval per row, colour and symbol.
        title: of the axis.
        in_words: how an interval is told on hover.
        unit: told behind it.
    """
    figure = go.Figure()
    for place, (name, (intervals, mark)) in enumerate(columns.items()):
        shift = 0.08 - 0.44 * (place / max(1, len(columns) - 1))
        texts = [f"{name}, {row}: {in_words(interval)}{unit}" for row, interval in zip(names, intervals, strict=True)]
        figure.add_trace(dots(name, intervals, [height + shift for height in range(len(names))], texts, mark))
    label_rows(figure, names)
    figure.add_vline(x=0, line={"color": LINE, "width": 1})
    figure.update_xaxes(title_text=title, nticks=6)
    return finished(figure, height=130 + (32 + 8 * len(columns)) * len(names), legend=True)


def error_bars(intervals: Sequence[Interval], colour: str) -> dict[str, Any]:
    """Bars from the low to the high bound; none where there are no bounds."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [or_none(interval.high - interval.value) for interval in intervals],
        "arrayminus": [or_none(interval.value - interval.low) for interval in intervals],
        "color": colour,
        "thickness": 1.6,
        "width": 0,
    }


def label_rows(figure: go.Figure, labels: Sequence[str]) -> None:
    """Label row i, at height i, above its dots; a fine line sets it apart from the row above.

    The figure is marked as one of rows: on paper it keeps more of its height than others.
    """
    for place, label in enumerate(labels):
        figure.add_annotation(
            text=literal_text(label),
            x=0,
            xref="paper",
            xanchor="left",
            y=place + 0.36,
            yanchor="middle",
            showarrow=False,
        )
        figure.add_hline(y=place + 0.56, line={"color": GRID, "width": 1})
    figure.update_yaxes(range=[-0.5, len(labels) - 0.42], showticklabels=False, showgrid=False)
    figure.update_layout(meta="rows")


def panel_title(figure: go.Figure, row: int, title: str) -> None:
    """A title above a panel's left end."""
    axis = "y" if row == 1 else f"y{row}"
    figure.add_annotation(
        text=f"<b>{literal_text(title, 60)}</b>",
        x=0,
        xref="paper",
        xanchor="left",
        y=1,
        yref=f"{axis} domain",
        yanchor="bottom",
        yshift=3,
        showarrow=False,
    )


def finished(figure: go.Figure, height: int, *, legend: bool = False) -> go.Figure:
    """The look that all figures share: no background, fine grid, nothing to drag by mistake on a phone."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 10, "r": 14, "t": 44 if legend else 34, "b": 18},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "top", "yref": "container"},
        dragmode=False,
        hovermode="closest",
        hoverlabel={"align": "left"},
        bargap=0.25,
    )
    axis = {"gridcolor": GRID, "zeroline": False, "fixedrange": True, "automargin": True, "linecolor": GRID}
    axis |= {"title_font_size": TEXT, "title_standoff": 8, "exponentformat": "none"}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    figure.update_annotations(font={"size": TEXT})
    return figure


def write_page(figure: go.Figure, title: str, out: Path) -> None:
    """A figure as one HTML file that needs nothing but itself."""
    figure.update_layout(paper_bgcolor="white", title={"text": literal_text(title), "x": 0.5})
    figure.update_layout(margin={"t": 90, "l": 70})
    write_text(out, figure.to_html(include_plotlyjs=True, config={"displayModeBar": False, "responsive": True}))


def bounds(interval: Interval) -> str:
    """`0.8123 (0.8100 to 0.8146)`; without bounds the value alone."""
    if not math.isfinite(interval.low):
        return number(interval.value, 4)
    return f"{number(interval.value, 4)} ({number(interval.low, 4)} to {number(interval.high, 4)})"


def signed_bounds(interval: Interval) -> str:
    """`+0.31 (+0.28 to +0.34)`; without bounds the value alone."""
    if not math.isfinite(interval.low):
        return signed(interval.value, 2)
    return f"{signed(interval.value, 2)} ({between(interval.low, interval.high, 2)})"


def percentages(interval: Interval) -> str:
    """`31.0 % (30.2 % to 31.8 %)`; without bounds the value alone."""
    if not math.isfinite(interval.low):
        return percent(interval.value, 1)
    return f"{percent(interval.value, 1)} ({percent(interval.low, 1)} to {percent(interval.high, 1)})"


def or_none(value: float) -> float | None:
    """What plotly leaves out where a number is not finite."""
    return value if math.isfinite(value) else None
