"""Models side by side."""

from collections.abc import Sequence

from plotly import graph_objects as go
from plotly.subplots import make_subplots

from musenet.evaluation.intervals import Interval
from musenet.portraits.words import between, signed
from musenet.reporting.figures.drawing import (
    LINE,
    ONE_DOT,
    PALETTE,
    ROLE_COLOURS,
    ROW,
    SYMBOLS,
    bounds,
    dots,
    finished,
    label_rows,
    mark_of,
    panel_title,
)
from musenet.reporting.gains import Gains
from musenet.reporting.words.sentences import ROLE_NAMES
from musenet.studies.comparison.results import Row


def figure_auc(rows: Sequence[Row]) -> go.Figure:
    """AUC of each model with its interval, the best on top, coloured by what kind of model it is."""
    ordered = sorted(rows, key=lambda row: row.auc.mean)
    figure = go.Figure()
    for role, name in ROLE_NAMES.items():
        places = [place for place, row in enumerate(ordered) if row.role == role]
        if places:
            intervals = [ordered[place].auc.interval for place in places]
            texts = [f"{ordered[place].name}: {bounds(ordered[place].auc.interval)}" for place in places]
            mark = (ROLE_COLOURS[role], SYMBOLS[list(ROLE_NAMES).index(role)])
            figure.add_trace(dots(name, intervals, [place + ONE_DOT for place in places], texts, mark))
    label_rows(figure, [row.name for row in ordered])
    figure.update_xaxes(title_text="AUC on the test period", tickformat=".3f", nticks=6)
    return finished(figure, height=110 + ROW * len(ordered), legend=True)


def figure_gains(gains: Gains) -> go.Figure:
    """AUC and logloss of the run minus those of the base model, a row for all impressions and one per scenario."""
    titles = {"AUC, more is better": "auc", "Logloss, less is better": "logloss"}
    figure = make_subplots(rows=2, cols=1, vertical_spacing=0.2)
    names = ["All" if row.scenario is None else f"Scenario {row.scenario}" for row in gains.rows]
    for place, (title, metric) in enumerate(titles.items(), start=1):
        for height, (name, row) in enumerate(zip(names, gains.rows, strict=True)):
            found = getattr(row, metric)
            interval = Interval(found.value, found.low, found.high)
            mark = (PALETTE[7], "hexagon") if row.scenario is None else mark_of(row.scenario)
            text = f"{name}: {signed(found.value)} ({between(found.low, found.high)})"
            figure.add_trace(dots(name, [interval], [float(height)], [text], mark), row=place, col=1)
        panel_title(figure, place, title)
        figure.add_vline(x=0, line={"color": LINE, "width": 1}, row=place, col=1)
        ticks = {"tickvals": list(range(len(names))), "ticktext": names}
        figure.update_yaxes(**ticks, range=[len(names) - 0.4, -0.6], row=place, col=1)
    figure.update_xaxes(nticks=5)
    return finished(figure, height=110 + 2 * (50 + 26 * len(names)))
