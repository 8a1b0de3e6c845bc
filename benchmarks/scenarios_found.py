"""Does `scenarios: auto` find how many scenarios there are? MUSENET told their number, and MUSENET that finds it.

    python benchmarks/scenarios_found.py --jobs 2

Simulates hotel logs with two, four and six planted scenarios from seeds that no threshold was set on, trains both on
each, and writes `docs/scenarios-found.csv`. Finished runs are reused.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from hotel_logs import hotels_with

import musenet
from musenet.progress import SILENT

PLANTED = (2, 4, 6)
TOLD, FOUND = "musenet soft", "musenet soft (auto)"
DOCS = Path(__file__).parent.parent / "docs"


def main(
    work: Annotated[Path, typer.Option(help="where logs, datasets and runs go")] = Path("runs/scenarios-found"),
    jobs: Annotated[int, typer.Option(help="trainings at once")] = 1,
    impressions: Annotated[int, typer.Option(help="of each log")] = 2_000_000,
    first_seed: Annotated[int, typer.Option(help="of the generator; the next one is used too")] = 11,
    docs: Annotated[Path, typer.Option(help="where the table goes")] = DOCS,
) -> None:
    """Measure every log, then write the table."""
    rows = []
    for planted in PLANTED:
        for seed in (first_seed, first_seed + 1):
            rows.append(measure(work, planted, seed, impressions, jobs))
            typer.echo(", ".join(f"{name} {value}" for name, value in rows[-1].items()))
    pd.DataFrame(rows).to_csv(docs / "scenarios-found.csv", index=False)


def measure(work: Path, planted: int, seed: int, impressions: int, jobs: int) -> dict[str, Any]:
    """Simulate one log and compare both on its test period; training has the generator's seed."""
    name = f"hotels-{planted}-scenarios-seed-{seed}"
    changes = [f"seed={seed}", f"compare.models.{TOLD}.scenarios={planted}", f"compare.base={TOLD}"]
    experiment, dataset = hotels_with(work, name, changes, scenarios=planted, seed=seed, impressions=impressions)
    runs = work / "runs" / name
    comparison = musenet.compare(
        experiment, runs, models=[TOLD, FOUND], seeds=1, jobs=jobs, dataset=dataset, listener=SILENT
    )
    told, found = ({row.name: row for row in comparison.models}[label] for label in (TOLD, FOUND))
    return {
        "planted": planted,
        "seed": seed,
        "left": scenarios_left(Path(found.runs[0])),
        "auc, number told": round(told.auc.mean, 4),
        "auc, found": round(found.auc.mean, 4),
        "difference": round(found.auc.mean - told.auc.mean, 4),
        "ari, number told": None if told.recovery is None else round(told.recovery["ari"], 2),
        "ari, found": None if found.recovery is None else round(found.recovery["ari"], 2),
    }


def scenarios_left(run: Path) -> int:
    """How many scenarios a run with `scenarios: auto` ended with, by its last validation."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    validations = [record for record in map(json.loads, lines) if "health" in record]
    return int(validations[-1]["health"]["scenarios_left"])


if __name__ == "__main__":
    typer.run(main)
