"""How often `musenet drift` names what moved: ten hotel logs, each with a last week that drifts in one of several ways.

    python benchmarks/drift_found.py --impressions 600000 --logs 10

Per seed of the simulation a model is trained on the log up to its last week and exported; then `drift` is asked about
that week as it is, with a shifted mix, with turned tastes, and with another choice of requests (four fifths of those on
the most frequent device left out). Writes `docs/drift-found.csv`, a row per log. Finished runs and exports are reused.
"""

import math
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from hotel_logs import hotels_with

import musenet
from musenet.dataset.manifest import holds_dataset
from musenet.serving.manifest import MANIFEST

LAST = pl.duration(days=7)
LOGS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "mix": {"shift": 0.5},
    "taste": {"shift": 0.5, "drift": "taste"},
}
KEPT = 0.2
DOCS = Path(__file__).parent.parent / "docs"


def main(
    work: Annotated[Path, typer.Option(help="where logs, datasets, runs and exports go")] = Path("runs/drift-found"),
    impressions: Annotated[int, typer.Option()] = 600_000,
    logs: Annotated[int, typer.Option(help="seeds of the simulation, from 1 on")] = 10,
    docs: Annotated[Path, typer.Option(help="where the table goes")] = DOCS,
) -> None:
    """Train, export and compare; then say how often each was named."""
    rows: list[dict[str, Any]] = []
    for seed in range(1, logs + 1):
        export = exported(work, impressions, seed)
        for truth, week, events in weeks(work, impressions, seed):
            found = musenet.drift(export, week, events=events)
            told = found.answers
            assert told is not None
            rows.append(
                {
                    "seed": seed,
                    "moved": truth,
                    "named": " and ".join(found.moved) or "nothing",
                    "saved": round(told.saved, 5),
                    "p": f"{told.p:.1e}",
                    "own mix": round(told.own_mix, 3),
                    "own taste": round(told.own_taste, 3),
                    "stability": round(
                        max(one.stability - one.by_chance for one in found.columns if not math.isnan(one.stability)), 3
                    ),
                }
            )
            typer.echo(rows[-1])
        pl.DataFrame(rows).write_csv(docs / "drift-found.csv")
    table = pl.DataFrame(rows)
    right = table.group_by("moved", maintain_order=True).agg(right=(pl.col("named") == pl.col("moved")).sum())
    typer.echo(right)


def exported(work: Path, impressions: int, seed: int) -> Path:
    """The export of a model of the log up to its last week."""
    folder, run = work / "exports" / str(seed), work / "runs" / str(seed)
    if not (folder / MANIFEST).is_file():
        changes = ["split.valid=7 days", "model.ids=[]", "training.epochs=4"]
        experiment, dataset = hotels_with(work, f"none-{seed}", changes, impressions=impressions, seed=seed)
        if not holds_dataset(dataset):
            musenet.prepare(experiment, dataset)
        musenet.export(musenet.train(experiment, run, dataset=dataset), folder)
    return folder


def weeks(work: Path, impressions: int, seed: int) -> list[tuple[str, Path, Path]]:
    """What moved, a file of the last week's impressions, and the log's events."""
    found = []
    for truth, options in LOGS.items():
        name = f"{'none' if truth == 'nothing' else truth}-{seed}"
        log = work / "logs" / name
        kinds = ("nothing", "columns") if truth == "nothing" else (truth,)
        files = {kind: work / "weeks" / f"{kind}-{seed}.parquet" for kind in kinds}
        if not all(file.is_file() for file in files.values()):
            hotels_with(work, name, [], impressions=impressions, seed=seed, **options)
            _write_weeks(log, files, seed)
        found += [(kind, file, log / "clicks.parquet") for kind, file in files.items()]
    return found


def _write_weeks(log: Path, files: dict[str, Path], seed: int) -> None:
    shown = pl.read_parquet(log / "impressions.parquet")
    week = shown.filter(pl.col("shown_at") >= pl.col("shown_at").max() - LAST).sort("shown_at", "search_id")
    for kind, file in files.items():
        rows = week
        if kind == "columns":
            drawn = pl.col("search_id").hash(seed) % 1000 < 1000 * KEPT
            rows = week.filter((pl.col("device") != week["device"].mode()[0]) | drawn)
        file.parent.mkdir(parents=True, exist_ok=True)
        rows.write_parquet(file)


if __name__ == "__main__":
    typer.run(main)
