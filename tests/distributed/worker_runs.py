"""Run as a script: train experiments with several numbers of workers, each of them a fork of this process.

    python worker_runs.py DATASET RUNS CASES EXPERIMENT…

CASES is JSON of a list of [experiment, number of workers], or [experiment, number of workers, steps] where the last
worker is killed by SIGKILL once so many steps are done; EXPERIMENT is the file of one as JSON.
RUNS/<experiment>/<number of workers> then holds each run, gone on from its checkpoint if there was one, and
RUNS/<experiment>/held/<number of workers>-<rank>.safetensors what a worker holds of a sharded table in the end.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import start_processes

from musenet.config.experiment import Experiment
from musenet.config.loading import validate_experiment
from musenet.dataset.dataset import Dataset
from musenet.distributed import workers
from musenet.runs.folder import RunFolder
from musenet.runs.tensor_files import save_tensors
from musenet.training.loop import Trainer
from musenet.training.train_run import train_run
from training.killed_runs import then_die


def train_all(
    rank: int,
    count: int,
    port: int,
    dataset: Path,
    runs: Path,
    experiments: dict[str, Experiment],
    steps: int | None = None,
) -> None:
    if steps is not None and rank == count - 1:
        Trainer.step = then_die(Trainer.step, steps)  # type: ignore[method-assign]
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with workers.joined():
        for name, experiment in experiments.items():
            path = runs / name / str(count)
            train_run(experiment, Dataset(dataset), path, resume=True)
            if experiment.training.embeddings == "sharded":
                save_held(experiment, path, runs / name / "held" / f"{count}-{rank}.safetensors")


def save_held(experiment: Experiment, path: Path, file: Path) -> None:
    """Save the rows and moments that this worker has once it has gone back to the run's last step."""
    trainer = Trainer(experiment, RunFolder(path).dataset, RunFolder(path), lambda _: None)
    trainer.resume()
    lazy = trainer.optimizers.lazy
    save_tensors(file, {"weight": trainer.model.table.weight, "mean": lazy.mean, "square": lazy.square})


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> None:
    dataset, runs, cases = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    files = map(Path, sys.argv[4:])
    experiments = {file.stem: validate_experiment(json.loads(file.read_text()), str(file)) for file in files}
    if any(experiment.training.embeddings == "sharded" for experiment in experiments.values()):
        import torchrec.distributed  # noqa: F401 - once for all forks
    whole = [case for case in cases if len(case) == 2]
    for count in sorted({count for _, count in whole}):
        chosen = {name: experiments[name] for name, number in whole if number == count}
        arguments = (count, free_port(), dataset, runs, chosen)
        start_processes(train_all, arguments, nprocs=count, start_method="fork")
    for name, count, steps in (case for case in cases if len(case) == 3):
        started = (count, free_port(), dataset, runs, {name: experiments[name]}, steps)
        kill_last(start_processes(train_all, started, nprocs=count, join=False, start_method="fork"))


def kill_last(context: Any) -> None:
    """Wait until the last worker has been killed, and end the others, as whoever started them does."""
    *others, last = context.processes
    last.join()
    for other in others:
        other.terminate()
        other.join()
    if last.exitcode != -signal.SIGKILL:
        raise SystemExit(f"the last worker ended with {last.exitcode}")


if __name__ == "__main__":
    main()
