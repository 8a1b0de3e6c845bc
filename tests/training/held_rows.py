"""Run by torchrun: save what each worker holds of the embedding table and its moments after a run's last step.

torchrun --nproc-per-node 2 held_rows.py DATASET RUN EXPERIMENT OUT

OUT/<rank>.safetensors then holds one worker's.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from musenet import workers
from musenet.config import validate_experiment
from musenet.data.dataset import Dataset
from musenet.run_folder import RunFolder
from musenet.training.loop import Trainer


def main() -> None:
    dataset, run, file, out = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    with workers.joined():
        experiment = validate_experiment(json.loads(file.read_text()), str(file))
        trainer = Trainer(experiment, Dataset(dataset), RunFolder(run), lambda _: None)
        trainer.resume()
        lazy = trainer.optimizers.lazy
        held = {"weight": trainer.model.table.weight.data, "mean": lazy.mean, "square": lazy.square}
        save_file(held, out / f"{workers.rank()}.safetensors")


if __name__ == "__main__":
    main()
