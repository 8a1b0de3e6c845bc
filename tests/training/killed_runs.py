"""Run as a script: train experiments several times, each time killed by SIGKILL at another point.

    python killed_runs.py DATASET RUNS KILLS EXPERIMENT…

KILLS is JSON of a list of [point, number of its call], EXPERIMENT the file of one as JSON. RUNS/<experiment>/ then
holds the run `uninterrupted` and one for each kill. Each killed training is a fork of one process that has already
imported everything.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from musenet.config.experiment import Experiment
from musenet.config.loading import validate_experiment
from musenet.dataset.dataset import Dataset
from musenet.runs import tensor_files
from musenet.runs.folder import RunFolder
from musenet.runs.training_result import TrainingResult
from musenet.training.loop import Trainer, train


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def then_die(function: Callable[..., Any], call: int, *, before: bool = False) -> Callable[..., Any]:
    """The function, whose `call`-th call is the last thing that the process does."""
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if before and calls == call:
            die()
        result = function(*args, **kwargs)
        if calls == call:
            die()
        return result

    return counted


def die_half_way(function: Callable[..., Any], call: int) -> Callable[..., Any]:
    """The function that writes a file; of the `call`-th one only half reaches the disk before the process dies."""

    def cut(content: Any, path: Path, *args: Any) -> None:
        function(content, path, *args)
        os.truncate(path, path.stat().st_size // 2)
        die()

    calls = 0

    def counted(*args: Any) -> None:
        nonlocal calls
        calls += 1
        (cut if calls == call else function)(*args)

    return counted


def arm(point: str, call: int) -> None:
    """Make the process die at this point.

    `step`: once so many steps are done. `best`: once the best weights were kept so often, before their checkpoint.
    `half a file`: while the so-maniest file of tensors is being written. `end`: before it is told how training ended.
    """
    if point == "step":
        Trainer.step = then_die(Trainer.step, call)  # type: ignore[method-assign]
    elif point == "best":
        RunFolder.save_model = then_die(RunFolder.save_model, call)  # type: ignore[method-assign]
    elif point == "half a file":
        tensor_files.save_file = die_half_way(tensor_files.save_file, call)  # type: ignore[attr-defined]
    elif point == "end":
        TrainingResult.write = then_die(TrainingResult.write, call, before=True)  # type: ignore[method-assign]
    else:
        raise ValueError(point)


def main() -> None:
    dataset, runs, kills = Dataset(Path(sys.argv[1])), Path(sys.argv[2]), json.loads(sys.argv[3])
    torch.set_num_threads(1)
    for file in map(Path, sys.argv[4:]):
        experiment = validate_experiment(json.loads(file.read_text()), str(file))

        def train_into(path: Path, experiment: Experiment = experiment) -> None:
            train(experiment, dataset, RunFolder.create(path, experiment, dataset))

        train_into(runs / file.stem / "uninterrupted")
        for point, call in kills:
            child = os.fork()
            if child == 0:
                arm(point, call)
                train_into(runs / file.stem / f"{point} {call}")
                os._exit(0)
            _, status = os.waitpid(child, 0)
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            print(file.stem, point, call, "killed" if killed else "survived")


if __name__ == "__main__":
    main()
