"""Our baselines beside a public implementation of each: the same rows, columns, sizes, optimizer and rule for choosing.

    python benchmarks/accuracy/peers.py benchmarks/accuracy/hotels.yaml

Every model of `compare.models` is trained with every seed, ours through `musenet.train`, the peer's by
`deepctr_peer.py` in an environment of its own, which is handed arrays and hands back predictions. On both sides the
epoch with the highest validation AUC counts, and `training.patience` says after how many epochs without a better one
training ends. Finished runs are reused. `peers.json` and `peers.md` are the table. docs/accuracy.md says more.
"""

import json
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from peer_export import export
from peer_table import Comparison, to_markdown

import musenet
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.files import write_json, write_text
from musenet.metrics import auc
from musenet.runs.run import Run
from musenet.studies.plans import PlannedRun, plan_runs, row_of
from musenet.training.train_run import train_run

HERE = Path(__file__).parent
DRIVER = HERE / "deepctr_peer.py"
INITIAL = ("own", "usual")
"""Initial weights of the peer: the package's own, which begin slowly, or those that ours begins with."""


@dataclass(frozen=True)
class Scores:
    """AUC of the epoch that was chosen."""

    valid: float
    test: float


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parse(arguments)
    experiment = musenet.load(asked.config, ["training.threads=1"])
    dataset_folder, out = Path("datasets") / experiment.name, Path("runs") / experiment.name
    musenet.prepare(experiment, dataset_folder)
    dataset = Dataset(dataset_folder)
    export(dataset, out / "export")
    rows = {label: row_of(experiment, label) for label in experiment.compare.models}
    seeds = range(experiment.seed, experiment.seed + experiment.compare.seeds)
    comparisons: list[Comparison] = []
    for label, runs in plan_runs(rows, out, seeds).items():
        mine = [_ours(run, dataset) for run in runs]
        peer, initial = _peer_of(runs, out, asked.python)
        comparisons.append(Comparison(label, [s.test for s in mine], [s.test for s in peer], initial))
        _write(comparisons, experiment, out)
    print(f"{out / 'peers.md'}\n\n{(out / 'peers.md').read_text(encoding='utf-8')}", end="")


def _parse(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(description="Train our baselines and their peers, and put them side by side.")
    parser.add_argument("config", type=Path)
    python = HERE / ".venv-peers" / "bin" / "python"
    parser.add_argument("--python", type=Path, default=python, help="of the peers' environment")
    return parser.parse_args(arguments)


def _ours(run: PlannedRun, dataset: Dataset) -> Scores:
    """Train ours, or take the finished run."""
    train_run(run.experiment, dataset, run.path, resume=True, replace=True)
    folder = Run.open(run.path)
    valid, test = (folder.predictions(split) for split in ("valid", "test"))
    scores = Scores(auc(valid.label, valid.logit), auc(test.label, test.logit))
    _say(f"{run.name}: ours", scores)
    return scores


def _peer_of(runs: list[PlannedRun], out: Path, python: Path) -> tuple[list[Scores], str]:
    """The peer's scores with the initial weights that are better on validation, with the first seed."""
    tried = {initial: _peer(runs[0], initial, out, python) for initial in INITIAL}
    best = max(tried, key=lambda initial: tried[initial].valid)
    return [_peer(run, best, out, python) for run in runs], best


def _peer(run: PlannedRun, initial: str, out: Path, python: Path) -> Scores:
    """Train the peer, or take what it predicted before from the same task and data."""
    folder = run.path.parent / f"peer-{initial}"
    folder.mkdir(parents=True, exist_ok=True)
    task_file, answers = folder / f"{run.path.name}.json", folder / f"{run.path.name}.npz"
    task = _task(run.experiment, initial, out)
    if not (answers.is_file() and task_file.is_file() and json.loads(task_file.read_text(encoding="utf-8")) == task):
        answers.unlink(missing_ok=True)
        write_json(task_file, task)
        subprocess.run([python, DRIVER, out / "export", task_file, answers], check=True)
    scores = _chosen(answers, out / "export")
    _say(f"{run.name}: peer, {initial} initial weights", scores)
    return scores


def _task(experiment: Experiment, initial: str, out: Path) -> dict[str, Any]:
    """What the peer is told; also what decides whether its predictions may be reused."""
    schema = json.loads((out / "export" / "schema.json").read_text(encoding="utf-8"))
    return {
        "model": experiment.model.model_dump(mode="json"),
        "training": experiment.training.model_dump(mode="json"),
        "seed": experiment.seed,
        "initial": initial,
        "dataset": schema["dataset"],
        "peer": peer_name(),
    }


def _chosen(answers: Path, exported: Path) -> Scores:
    """The AUC of the epoch with the best validation AUC."""
    with np.load(answers) as scores:
        labels = {split: np.load(exported / f"{split}.npz")["label"] for split in ("valid", "test")}
        valid = [auc(labels["valid"], score) for score in scores["valid"]]
        best = int(np.argmax(valid))
        return Scores(valid[best], auc(labels["test"], scores["test"][best]))


def peer_name() -> str:
    """The pinned package, such as `deepctr-torch 0.3.0`."""
    pins = (HERE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return next(pin for pin in pins if pin.startswith("deepctr-torch==")).replace("==", " ")


def _write(comparisons: list[Comparison], experiment: Experiment, out: Path) -> None:
    """Write the table so far."""
    models = [comparison.to_json() for comparison in comparisons]
    write_json(out / "peers.json", {"data": experiment.name, "peer": peer_name(), "models": models})
    write_text(out / "peers.md", to_markdown(comparisons, peer_name()))


def _say(what: str, scores: Scores) -> None:
    print(f"{what}: AUC {scores.valid:.4f} on validation, {scores.test:.4f} on test", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
