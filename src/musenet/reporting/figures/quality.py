"""How good the predictions are."""

import math
from collections.abc import Sequence

from plotly import graph_objects as go

from musenet.evaluation.importance import Importance
from musenet.evaluation.intervals import Interval
from musenet.portraits.words import between, number, percent, signed
from musenet.reporting.contents import CalibrationBin
from musenet.reporting.figures.drawing import LINE, PALETTE, error_bars, figure_rows, finished, mark_of, percentages
from musenet.reporting.words.captions import importance_name


def figure_calibration(bins: Sequence[CalibrationBin]) -> go.Figure:
    """Observed against predicted click rates in bins of equally many impressions."""
    observed = [part.observed for part in bins]
    predicted = [part.predicted for part in bins]
    texts = [
        f"predicted {percent(part.predicted, 1)}, clicked {percentages(part.observed)}, "
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


def figure_importance(found: Sequence[Importance]) -> go.Figure:
    """AUC that is lost when a feature is permuted: a row per feature, a dot for all and one per scenario."""
    rows = list(reversed(found))
    columns = {"All": ([row.overall for row in rows], (PALETTE[7], "hexagon"))}
    for k in range(len(rows[0].scenarios) if rows else 0):
        columns[f"Scenario {k}"] = ([row.scenarios[k] for row in rows], mark_of(k))
    names = [importance_name(row) for row in rows]
    return figure_rows(names, columns, "AUC lost", _lost)


def _lost(interval: Interval) -> str:
    if not math.isfinite(interval.low):
        return signed(interval.value)
    return f"{signed(interval.value)} ({between(interval.low, interval.high)})"
