"""The README's picture, light and dark: what following the mix is worth, from docs/changing-mix.csv.

python docs/pictures.py
"""

import csv
from pathlib import Path

import kaleido
from plotly import graph_objects as go

from musenet.reporting.figures.drawing import PALETTE, finished, label_rows

DOCS = Path(__file__).parent
FIGURES = DOCS / "changing-mix.csv"
ROWS = {
    "none": "nothing changes",
    "shift-1": "a sudden change of the mix",
    "slow": "a slow change",
    "returning": "a change that goes back",
    "taste": "tastes change instead",
}
MODELS = {
    "dcn v2, as it is": ("DCN-V2 as trained", PALETTE[7], "square-open"),
    "dcn v2, fine-tuned": ("DCN-V2 fine-tuned online", PALETTE[1], "square"),
    "musenet soft, mix followed": ("MUSENET, mix followed", PALETTE[0], "circle"),
}
SCHEMES = {"light": ("#ffffff", "#1f2328"), "dark": ("#0d1117", "#e6edf3")}
WIDTH, HEIGHT = 760, 430


def changing_mix() -> go.Figure:
    """AUC over the week after a change, a row per kind of change and a dot with its interval per model."""
    with FIGURES.open(encoding="utf-8", newline="") as file:
        found = {(row["drift"], row["model"]): row for row in csv.DictReader(file)}
    drifts, figure = list(reversed(ROWS)), go.Figure()
    for place, (model, (name, colour, symbol)) in enumerate(MODELS.items()):
        rows = [found[drift, model] for drift in drifts]
        values = [float(row["week"]) for row in rows]
        figure.add_trace(
            go.Scatter(
                x=values,
                y=[height - 0.3 + 0.18 * (len(MODELS) - 1 - place) for height in range(len(rows))],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [float(row["week high"]) - value for row, value in zip(rows, values, strict=True)],
                    "arrayminus": [value - float(row["week low"]) for row, value in zip(rows, values, strict=True)],
                    "width": 0,
                },
                mode="markers",
                name=name,
                marker={"color": colour, "symbol": symbol, "size": 10},
            )
        )
    label_rows(figure, [ROWS[drift] for drift in drifts])
    figure.update_xaxes(title_text="AUC of the test week, 95 % intervals", tickformat=".2f")
    return finished(figure, HEIGHT, legend=True)


def main() -> None:
    """Write `docs/changing-mix-light.svg` and `docs/changing-mix-dark.svg`."""
    for scheme, (background, ink) in SCHEMES.items():
        figure = changing_mix()
        figure.update_layout(width=WIDTH, paper_bgcolor=background, font={"color": ink, "family": "sans-serif"})
        out = DOCS / f"changing-mix-{scheme}.svg"
        kaleido.write_fig_sync(figure, out, opts={"format": "svg"}, kopts={"mathjax": False})
        print(out.name)


if __name__ == "__main__":
    main()
