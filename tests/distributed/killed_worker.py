"""Run by torchrun: train an experiment, the last worker killed by SIGKILL once so many steps are done.

torchrun --nproc-per-node 2 killed_worker.py DATASET RUN EXPERIMENT STEPS
"""

import json
import sys
from pathlib import Path

import torch

from musenet.config.loading import validate_experiment
from musenet.dataset.dataset import Dataset
from musenet.distributed import workers
from musenet.training.loop import Trainer
from musenet.training.train_run import train_run
from training.killed_runs import then_die


def main() -> None:
    dataset, run, file, steps = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    with workers.joined():
        if workers.rank() == workers.count() - 1:
            Trainer.step = then_die(Trainer.step, steps)  # type: ignore[method-assign]
        train_run(validate_experiment(json.loads(file.read_text()), str(file)), Dataset(dataset), run)


if __name__ == "__main__":
    main()
