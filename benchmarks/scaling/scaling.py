"""What training on several machines takes: measured with up to four workers here, carried on by a model of its cost.

    python benchmarks/scaling/scaling.py measure      writes docs/scaling.csv: some minutes, nothing else may run
    python benchmarks/scaling/scaling.py predict      the tables of docs/scaling.md

`measure` trains on the shape of Ali Display Ads (benchmarks/speed/ads_shaped.py) under torchrun and counts what passes
the loopback device, so nothing of what gloo sends is left out.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "docs" / "scaling.csv"
MODELS: dict[str, dict[str, Any]] = {
    "base_model": {"name": "base_model"},
    "musenet": {"name": "musenet", "assignment": "soft", "scenarios": 4},
}
EMBEDDING = 16
SIZES: dict[str, Any] = {"embedding": EMBEDDING, "hidden": [128, 64]}
REQUESTS = 60_000
BATCH, STEPS = 4096, 10
Table = Literal["replicated", "sharded"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Step:
    """What a step of all workers together takes."""

    model: str
    embeddings: Table
    workers: int
    candidates: float
    """Of the whole batch."""
    rows: float
    """Distinct rows of the embedding table in each worker's part, added up."""
    dense_parameters: float
    sent_bytes: float = 0.0
    processor_seconds: float = 0.0

    @property
    def expected_bytes(self) -> float:
        """Networks' gradients by a ring; rows and their gradients to everybody, or to and from those who hold them."""
        others = self.workers - 1
        networks = 2 * others * 4 * self.dense_parameters
        if self.embeddings == "replicated":
            return networks + others * self.rows * (8 + 4 * EMBEDDING)
        return networks + others / self.workers * self.rows * (8 + 2 * 4 * EMBEDDING)


@app.command()
def measure(work: Annotated[Path, typer.Option(help="where the dataset goes")] = Path("runs/scaling")) -> None:
    """Steps of one, two and four workers: as many candidates for each, and as many for all together."""
    sys.path.append(str(ROOT / "benchmarks" / "speed"))
    from ads_shaped import Shape, write_ads_shaped

    dataset = write_ads_shaped(work / "ads-shaped", Shape(REQUESTS)).folder
    found = []
    for name, options in MODELS.items():
        for workers in (1, 2, 4):
            for embeddings in ("replicated", "sharded")[: min(workers, 2)]:
                for batch in sorted({BATCH, BATCH * workers}):
                    task = {"model": SIZES | options, "batch_size": batch, "embeddings": embeddings}
                    step = _step(workers, task | {"dataset": str(dataset), "steps": STEPS})
                    found.append({"model": name, "embeddings": embeddings, "workers": workers, **step})
                    typer.echo(found[-1])
    with MEASURED.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


def _step(workers: int, task: dict[str, Any]) -> dict[str, Any]:
    """One measurement by processes of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "task.json"
        file.write_text(json.dumps(task), encoding="utf-8")
        start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(workers), "--standalone"]
        command = [*start, str(Path(__file__).with_name("steps.py")), str(file)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@app.command()
def predict(
    rows: Annotated[float, typer.Option(help="of the embedding table")] = 1e9,
    impressions: Annotated[float, typer.Option(help="of an epoch")] = 370e6,
    network: Annotated[float, typer.Option(help="gigabits a second that a machine sends")] = 10.0,
) -> None:
    """What was measured beside what the model says, then the model's figures for more workers."""
    with MEASURED.open(encoding="utf-8") as file:
        steps = [_read(row) for row in csv.DictReader(file)]
    typer.echo("| model | table | workers | candidates | MB sent, measured | by the formula | CPU ms |")
    typer.echo("|---|---|---:|---:|---:|---:|---:|")
    for step in steps:
        shown = f"{step.sent_bytes / 1e6:.2f} | {step.expected_bytes / 1e6:.2f} | {1000 * step.processor_seconds:.0f}"
        typer.echo(f"| {step.model} | {step.embeddings} | {step.workers} | {step.candidates:.0f} | {shown} |")
    typer.echo("\n| table | workers | memory each, GB | MB sent by each | network ms | compute ms | an epoch, min |")
    typer.echo("|---|---:|---:|---:|---:|---:|---:|")
    alone = next(step for step in steps if step.model == "musenet" and step.workers == 1)
    for embeddings in ("replicated", "sharded"):
        for workers in (1, 4, 16, 64):
            typer.echo(_carried_on(alone, embeddings, workers, rows, impressions, network))  # type: ignore[arg-type]


def _carried_on(alone: Step, embeddings: Table, workers: int, rows: float, impressions: float, network: float) -> str:
    """A line of the table: every worker has as much to do as the one that was measured."""
    step = Step(
        alone.model, embeddings, workers, workers * alone.candidates, workers * alone.rows, alone.dense_parameters
    )
    memory = 3 * 4 * EMBEDDING * rows / (workers if embeddings == "sharded" else 1)
    each = step.expected_bytes / workers
    sending, computing = each * 8 / (network * 1e9), alone.processor_seconds
    epoch = impressions / step.candidates * (sending + computing)
    shown = f"{memory / 1e9:.0f} | {each / 1e6:.1f} | {1000 * sending:.1f} | {1000 * computing:.0f} | {epoch / 60:.0f}"
    return f"| {embeddings} | {workers} | {shown} |"


def _read(row: dict[str, str]) -> Step:
    numbers = {name: float(text) for name, text in row.items() if name not in ("model", "embeddings", "workers")}
    return Step(row["model"], row["embeddings"], int(row["workers"]), **numbers)  # type: ignore[arg-type]


if __name__ == "__main__":
    app()
