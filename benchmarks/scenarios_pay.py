"""When do learned scenarios pay? MUSENET against one scenario of the same size: by size of log, strength and drift.

    python benchmarks/scenarios_pay.py --jobs 2

Simulates hotel logs, trains both models on each that does not drift, and measures them on its test period and on those
of logs that are the same until then, but whose shares of scenarios change. There both may learn from answers a minute
late: MUSENET follows the mix, the one scenario is fine-tuned, or stays as it is, as is best on a drifting validation
period. The smaller a log, the more often it is gone through, so that no model is left half trained.

Writes `docs/scenarios-pay.csv`, in which rows of other logs stay, and, where a browser can draw it,
`docs/scenarios-pay.png`. Finished runs are reused.
"""

import itertools
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from changing_mix import CHOOSING, WAYS, resampled
from hotel_logs import hotels_with
from plotly import graph_objects as go
from plotly.subplots import make_subplots

import musenet
from musenet.adaptation.adapted import adapted
from musenet.config.adaptation import AdaptOptions
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import holds_dataset
from musenet.evaluation.intervals import Interval, rela_impr_interval
from musenet.evaluation.predictions import Predictions
from musenet.metrics import auc
from musenet.progress import SILENT
from musenet.reporting.figures.browser import drawing, find_browser
from musenet.reporting.figures.drawing import error_bars, finished, mark_of
from musenet.runs.run import Run
from musenet.studies.plans import folder_name

EPOCHS_AND_SEEDS = {200_000: (8, 3), 600_000: (5, 2), 2_000_000: (3, 2), 6_000_000: (2, 1), 20_000_000: (1, 1)}
"""By impressions: how often the log is gone through, and how many trainings there are."""
SHIFTS = (0.0, 0.5, 1.0)
SOFT, SINGLE = "musenet soft", "one scenario (parameters of four)"
DOCS = Path(__file__).parent.parent / "docs"
KEYS = ["shift", "impressions", "strength"]


def main(
    work: Annotated[Path, typer.Option(help="where logs, datasets and runs go")] = Path("runs/scenarios-pay"),
    impressions: Annotated[str, typer.Option(help="sizes, comma-separated")] = "200000,600000,2000000,6000000",
    strengths: Annotated[str, typer.Option(help="of scenarios, comma-separated")] = "0.25,0.5,1",
    jobs: Annotated[int, typer.Option(help="trainings at once")] = 1,
    docs: Annotated[Path, typer.Option(help="where the figure and its numbers go")] = DOCS,
) -> None:
    """Measure every combination, then write the numbers and draw the figure."""
    table = docs / "scenarios-pay.csv"
    every = itertools.product([int(size) for size in impressions.split(",")], [float(s) for s in strengths.split(",")])
    for size, strength in every:
        rows = pd.DataFrame(measured(work, size, strength, jobs))
        typer.echo(rows.to_string(index=False))
        before = pd.read_csv(table) if table.is_file() else rows
        pd.concat([before, rows]).drop_duplicates(KEYS, keep="last").sort_values(KEYS).to_csv(table, index=False)
    browser = find_browser()
    if browser is None:
        typer.echo("no Chromium or Chrome here: the figure is not drawn")
        return
    with drawing(browser) as draw:
        (docs / "scenarios-pay.png").write_bytes(draw({"pay": figure_of(pd.read_csv(table))})["pay"])


def measured(work: Path, impressions: int, strength: float, jobs: int) -> list[dict[str, Any]]:
    """Train both models on one log, and measure them with each shift of its shares."""
    epochs, seeds = EPOCHS_AND_SEEDS[impressions]
    name = f"hotels-{impressions}-{strength}"
    log = {"impressions": impressions, "strength": strength, "seed": 1}
    changes = [f"training.epochs={epochs}", f"compare.base={SINGLE}"]
    experiment, dataset = hotels_with(work, name, changes, **log)
    runs = work / "runs" / name
    comparison = musenet.compare(
        experiment, runs, models=[SOFT, SINGLE], seeds=seeds, jobs=jobs, dataset=dataset, listener=SILENT
    )
    soft = next(row for row in comparison.models if row.name == SOFT)
    common = {
        "impressions": impressions,
        "strength": strength,
        "epochs": epochs,
        "seeds": len(comparison.seeds),
        "ari": None if soft.recovery is None else round(soft.recovery["ari"], 3),
    }
    trained = {
        label: [Run.open(runs / folder_name(label) / f"seed-{seed}") for seed in comparison.seeds]
        for label in (SOFT, SINGLE)
    }
    way = best_way(trained[SINGLE][0], drifting(work, f"{name}-choosing", log | CHOOSING))
    rows = []
    for shift in SHIFTS:
        on = Dataset(dataset) if not shift else drifting(work, f"{name}-shift-{shift}", log | {"shift": shift})
        ours = [answers(run, on, "test", {} if shift else None) for run in trained[SOFT]]
        rival = [answers(run, on, "test", way if shift else None) for run in trained[SINGLE]]
        rows.append({"shift": shift} | common | figures(ours, rival) | {"single": told(way) if shift else "as it is"})
    return rows


def drifting(work: Path, name: str, log: dict[str, Any]) -> Dataset:
    """The prepared log that drifts so."""
    experiment, folder = hotels_with(work, name, [], **log)
    if not holds_dataset(folder):
        musenet.prepare(experiment, folder)
    return Dataset(folder)


def answers(run: Run, dataset: Dataset, split: Any, way: dict[str, Any] | None) -> Predictions:
    """What a run answers on the way through a split: as it is, or adapting in this way."""
    if way is None:
        return run.predictions_on(dataset, split)
    return adapted(run, dataset, split, AdaptOptions.model_validate(way))[0].predictions


def best_way(run: Run, choosing: Dataset) -> dict[str, Any] | None:
    """How the one scenario does best on a drifting validation period."""

    def score(way: dict[str, Any] | None) -> float:
        found = answers(run, choosing, "valid", way)
        return auc(found.label, found.logit)

    return max([None, *({"finetune": way} for way in WAYS)], key=score)


def told(way: dict[str, Any] | None) -> str:
    """In the table."""
    return "as it is" if way is None else "fine-tuned, {learning_rate} every {every}".format(**way["finetune"])


def figures(ours: list[Predictions], rival: list[Predictions]) -> dict[str, float]:
    """AUC of both, RelaImpr with its interval."""
    of_both = resampled({SOFT: ours, SINGLE: rival})
    gain = rela_impr_interval(of_both[SOFT], of_both[SINGLE])
    values = {"auc_soft": of_both[SOFT].value("auc"), "auc_single": of_both[SINGLE].value("auc")}
    values |= {"rela_impr": gain.value, "low": gain.low, "high": gain.high}
    return {name: round(float(value), 5) for name, value in values.items()}


def figure_of(table: pd.DataFrame) -> go.Figure:
    """RelaImpr by impressions: a panel per shift, a line per strength."""
    titles = [f"shares shift by {shift:g}" if shift else "shares stay" for shift in SHIFTS]
    figure = make_subplots(1, len(SHIFTS), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.03)
    for (shift, strength), line in table.groupby(["shift", "strength"]):
        place = sorted(table.strength.unique()).index(strength)
        colour, symbol = mark_of(place)
        intervals = [Interval(*bounds) for bounds in line[["rela_impr", "low", "high"]].to_numpy().tolist()]
        figure.add_scatter(
            x=line.impressions * (0.94 + 0.06 * place),
            y=line.rela_impr,
            error_y=error_bars(intervals, colour),
            mode="lines+markers",
            name=f"strength {strength:g}",
            showlegend=not shift,
            line={"color": colour},
            marker={"color": colour, "symbol": symbol, "size": 9},
            row=1,
            col=SHIFTS.index(shift) + 1,
        )
    finished(figure, height=420, legend=True)
    sizes = sorted(table.impressions.unique())
    figure.update_xaxes(type="log", matches="x", tickvals=sizes, ticktext=[short(size) for size in sizes])
    figure.update_xaxes(title_text="impressions of the log", col=2)
    figure.update_yaxes(tickformat="+.0%", zeroline=True)
    figure.update_yaxes(title_text="RelaImpr over one scenario of the same size", col=1)
    return figure


def short(size: int) -> str:
    """A number of impressions, as on an axis.

    >>> short(200_000), short(6_000_000)
    ('200k', '6M')
    """
    return f"{size // 1000}k" if size < 1_000_000 else f"{size / 1e6:g}M"


if __name__ == "__main__":
    typer.run(main)
