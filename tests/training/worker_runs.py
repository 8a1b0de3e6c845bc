"""Run as a script: train experiments with several numbers of workers, each of them a fork of this process.

    python worker_runs.py DATASET RUNS CASES EXPERIMENT…

CASES is JSON of a list of [experiment, number of workers], EXPERIMENT the file of one as JSON.
RUNS/<experiment>/<number of workers> then holds each run, gone on from its checkpoint if there was one.
"""

import json
import os
import socket
import sys
from pathlib import Path

import torch
from torch.multiprocessing import start_processes

from musenet import workers
from musenet.config import Experiment, validate_experiment
from musenet.data.dataset import Dataset
from musenet.training.runs import train_run


def train_all(rank: int, count: int, port: int, dataset: Path, runs: Path, experiments: dict[str, Experiment]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with workers.joined():
        for name, experiment in experiments.items():
            train_run(experiment, Dataset(dataset), runs / name / str(count), resume=True)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> None:
    dataset, runs, cases = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    files = map(Path, sys.argv[4:])
    experiments = {file.stem: validate_experiment(json.loads(file.read_text()), str(file)) for file in files}
    for count in sorted({count for _, count in cases}):
        chosen = {name: experiments[name] for name, number in cases if number == count}
        arguments = (count, free_port(), dataset, runs, chosen)
        start_processes(train_all, arguments, nprocs=count, start_method="fork")


if __name__ == "__main__":
    main()
