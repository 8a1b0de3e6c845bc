"""Whether our DIN and FuxiCTR's learn the same: test AUC on the simulated hotel log of benchmarks/accuracy."""

from pathlib import Path
from typing import Any

import numpy as np
from peer_export import export
from turns import Contestant, Ratio, started

import musenet
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.metrics import auc
from musenet.runs.run import Run
from musenet.training.train_run import train_run

HERE = Path(__file__).parent
CONFIG = HERE.parent / "accuracy" / "hotels.yaml"
SEEDS = 6
SETTINGS = [
    # Every number gets a vector of its own, as the peer gives it one.
    "model={name: din, activation: dice, attention_hidden: 64, numbers: embedded}",
    "training.epochs=5",
    "training.patience=5",
    "training.batch_size=1024",
    "training.threads=2",
]


def auc_difference(python: Path, out: Path, environment: dict[str, str]) -> Ratio:
    """Ours less the peer's, seed by seed; on both sides the epoch with the highest validation AUC counts."""
    experiment = musenet.load(CONFIG, SETTINGS)
    folder = Path("datasets") / experiment.name
    musenet.prepare(experiment, folder)
    dataset = Dataset(folder)
    export(dataset, out / "export-hotels")
    differences = []
    for seed in range(1, SEEDS + 1):
        of_seed = experiment.model_copy(update={"seed": seed})
        ours, theirs = _ours(of_seed, dataset, out), _peer(of_seed, python, out, environment)
        print(f"AUC with seed {seed}: ours {ours:.4f}, FuxiCTR's {theirs:.4f}", flush=True)
        differences.append(ours - theirs)
    return Ratio("AUC of our DIN less FuxiCTR's", float(np.mean(differences)), min(differences), max(differences))


def _ours(experiment: Experiment, dataset: Dataset, out: Path) -> float:
    path = out / "auc" / f"seed-{experiment.seed}"
    train_run(experiment, dataset, path, resume=True, replace=True)
    test = Run.open(path).predictions("test")
    return auc(test.label, test.logit)


def _peer(experiment: Experiment, python: Path, out: Path, environment: dict[str, str]) -> float:
    options, training = experiment.model.model_dump(), experiment.training
    task: dict[str, Any] = {name: options[name] for name in ("embedding", "hidden", "attention_hidden", "activation")}
    task |= {"learning_rate": training.learning_rate, "batch_size": training.batch_size, "batches": 1, "threads": 2}
    task |= {"seed": experiment.seed, "export": str(out / "export-hotels")}
    contestant = Contestant("fuxictr auc", python, HERE / "fuxictr_peer.py", task)
    scores = out / f"fuxictr-{experiment.seed}.npz"
    with started([contestant], out, environment) as (worker,):
        order = {"epochs": training.epochs, "batch_size": training.batch_size, "unseen_rate": training.unseen_rate}
        worker.ask("fit", seed=experiment.seed, out=str(scores), **order)
    labels = {split: np.load(out / "export-hotels" / f"{split}.npz")["label"] for split in ("valid", "test")}
    with np.load(scores) as predicted:
        best = int(np.argmax([auc(labels["valid"], score) for score in predicted["valid"]]))
        return auc(labels["test"], predicted["test"][best])
