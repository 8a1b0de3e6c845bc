"""When do learned scenarios pay? MUSENET against one scenario of the same size, by size of the log and strength.

    python benchmarks/scenarios_pay.py --jobs 2

Simulates hotel logs, trains both models on each, and writes `docs/scenarios-pay.csv` and, where a browser can draw it,
`docs/scenarios-pay.png`. The smaller a log, the more often it is gone through, so that no model is left half trained.
Finished runs are reused.
"""

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from hotel_logs import hotels_with
from plotly import graph_objects as go

import musenet
from musenet.progress import SILENT
from musenet.reporting.figures.browser import drawing, find_browser
from musenet.reporting.figures.drawing import finished, mark_of
from musenet.studies.comparison.results import Comparison

EPOCHS_AND_SEEDS = {200_000: (8, 3), 600_000: (5, 2), 2_000_000: (3, 2), 6_000_000: (2, 1), 20_000_000: (1, 1)}
"""By impressions: how often the log is gone through, and how many trainings there are."""
STRENGTHS = (0.25, 0.5, 1.0)
SOFT, SINGLE = "musenet soft", "one scenario (parameters of four)"
DOCS = Path(__file__).parent.parent / "docs"


def main(
    work: Annotated[Path, typer.Option(help="where logs, datasets and runs go")] = Path("runs/scenarios-pay"),
    most: Annotated[int, typer.Option(help="leave out larger logs")] = 6_000_000,
    jobs: Annotated[int, typer.Option(help="trainings at once")] = 1,
    docs: Annotated[Path, typer.Option(help="where the figure and its numbers go")] = DOCS,
) -> None:
    """Measure every combination, then write the numbers and draw the figure."""
    rows = []
    for impressions, (epochs, seeds) in EPOCHS_AND_SEEDS.items():
        for strength in STRENGTHS if impressions <= most else ():
            rows.append(measure(work, impressions, strength, epochs, seeds, jobs))
            typer.echo(", ".join(f"{name} {value}" for name, value in rows[-1].items()))
    pd.DataFrame(rows).to_csv(docs / "scenarios-pay.csv", index=False)
    browser = find_browser()
    if browser is None:
        typer.echo("no Chromium or Chrome here: the figure is not drawn")
        return
    with drawing(browser) as draw:
        (docs / "scenarios-pay.png").write_bytes(draw({"pay": figure_of(rows)})["pay"])


def measure(work: Path, impressions: int, strength: float, epochs: int, seeds: int, jobs: int) -> dict[str, Any]:
    """Simulate one log and compare the two models on its test period."""
    name = f"hotels-{impressions}-{strength}"
    changes = [f"training.epochs={epochs}", f"compare.base={SINGLE}"]
    experiment, dataset = hotels_with(work, name, changes, impressions=impressions, strength=strength, seed=1)
    comparison = musenet.compare(
        experiment,
        work / "runs" / name,
        models=[SOFT, SINGLE],
        seeds=seeds,
        jobs=jobs,
        dataset=dataset,
        listener=SILENT,
    )
    return row_of(comparison, impressions, strength, epochs)


def row_of(comparison: Comparison, impressions: int, strength: float, epochs: int) -> dict[str, Any]:
    """What one log says: AUC of both, RelaImpr with its interval, ARI."""
    soft, single = ({row.name: row for row in comparison.models}[name] for name in (SOFT, SINGLE))
    gain = soft.rela_impr
    return {
        "impressions": impressions,
        "strength": strength,
        "epochs": epochs,
        "seeds": len(comparison.seeds),
        "auc_soft": round(soft.auc.mean, 5),
        "auc_single": round(single.auc.mean, 5),
        "rela_impr": round(gain.value, 5),
        "low": round(gain.low, 5),
        "high": round(gain.high, 5),
        "ari": None if soft.recovery is None else round(soft.recovery["ari"], 3),
    }


def figure_of(rows: list[dict[str, Any]]) -> go.Figure:
    """RelaImpr by impressions, a line per strength."""
    figure = go.Figure()
    for place, strength in enumerate(STRENGTHS):
        line = [row for row in rows if row["strength"] == strength]
        values = [row["rela_impr"] for row in line]
        colour, symbol = mark_of(place)
        figure.add_scatter(
            x=[row["impressions"] * (0.94 + 0.06 * place) for row in line],
            y=values,
            error_y={
                "array": [row["high"] - value for row, value in zip(line, values, strict=True)],
                "arrayminus": [value - row["low"] for row, value in zip(line, values, strict=True)],
                "color": colour,
            },
            mode="lines+markers",
            name=f"strength {strength}",
            line={"color": colour},
            marker={"color": colour, "symbol": symbol, "size": 9},
        )
    finished(figure, height=420, legend=True)
    figure.update_xaxes(type="log", title_text="impressions of the log", tickvals=list(EPOCHS_AND_SEEDS))
    figure.update_yaxes(tickformat="+.0%", title_text="RelaImpr over one scenario of the same size", zeroline=True)
    return figure


if __name__ == "__main__":
    typer.run(main)
