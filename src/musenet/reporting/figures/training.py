"""How training went."""

from collections.abc import Sequence

from plotly import graph_objects as go
from plotly.subplots import make_subplots

from musenet.portraits.words import number
from musenet.reporting.contents import Curves
from musenet.reporting.figures.drawing import LINE, PALETTE, finished, literal_text, mark_of, panel_title


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


def _line(name: str, points: Sequence[tuple[int, float]], colour: str, dash: str = "solid") -> go.Scatter:
    return go.Scatter(
        x=[step for step, _ in points],
        y=[value for _, value in points],
        mode="lines+markers" if dash == "solid" else "lines",
        name=literal_text(name),
        line={"color": colour, "width": 1.8, "dash": dash},
        marker={"size": 4},
        hoverinfo="text",
        hovertext=[literal_text(f"{name}: {value:.5g} at step {step:,}", 200) for step, value in points],
    )
