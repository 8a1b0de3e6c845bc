"""One of our models, measured: the training loop's own step, on batches in memory or on those that the loader makes.

python ours.py TASK.json
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from worker import Order, repeated, serve, timed

import musenet
from musenet.dataset.batch import Batch
from musenet.dataset.dataset import Dataset
from musenet.runs.folder import RunFolder
from musenet.training.loop import Trainer

CONFIG = Path(__file__).parents[2] / "configs" / "ads.yaml"
SQUARE = 1536
"""Rows of the matrices whose product is taken for the machine's peak."""


class Ours:
    """A model in training.

    Args:
        task: what to train on what.
        run: a folder to put nothing into.
    """

    def __init__(self, task: dict[str, Any], run: Path) -> None:
        settings = [f"model={json.dumps(task['model'])}", f"training.batch_size={task['batch_size']}"]
        settings += [f"seed={task['seed']}", "training.device=cpu", f"training.precision={task['precision']}"]
        torch.set_num_threads(task["threads"])
        self.trainer = Trainer(musenet.load(CONFIG, settings), Dataset(Path(task["dataset"])), RunFolder(run), _ignore)
        self.endless = self._endless()
        self.batches = list(islice(self.endless, task["batches"]))

    def _endless(self) -> Iterator[Batch]:
        for epoch in count():
            yield from self.trainer.batches.epoch(epoch)

    def step(self, batch: Batch) -> int:
        """One training step."""
        self.trainer.state.step %= self.trainer.planned - 1  # however long it is measured, it is in the middle
        self.trainer.step(batch)
        return batch.candidates

    def with_loader(self, order: Order) -> Order:
        """So many steps on batches as the loader makes them, beside the step."""
        return timed(lambda: sum(self.step(batch) for batch in islice(self.endless, order["steps"])))

    def memory(self, order: Order) -> Order:
        """Bytes that the process itself holds after so many steps with the loader; mapped files are not its own."""
        self.with_loader(order)
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        own = next(line.split()[1] for line in lines if line.startswith("RssAnon:"))
        return {"bytes": 1024 * int(own)}

    def flops(self, _: Order) -> Order:
        """What the matrix products of one step compute, those of the gradients included."""
        with FlopCounterMode(display=False) as counter:
            self.step(self.batches[0])
        return {"flops": counter.get_total_flops()}


def peak(_order: Order) -> Order:
    """The most floating-point operations per second that a large product reaches here, of a few."""
    matrix = torch.randn(SQUARE, SQUARE)
    out = torch.empty_like(matrix)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        torch.mm(matrix, matrix, out=out)
        seconds.append(time.perf_counter() - began)
    return {"flops_per_second": 2 * SQUARE**3 / min(seconds)}


def _ignore(_: dict[str, Any]) -> None:
    """What the training loop would report."""


def main(task: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(task, Path(folder))
        actions = {"with_loader": ours.with_loader, "memory": ours.memory, "flops": ours.flops, "peak": peak}
        serve({"steps": repeated(ours.step, ours.batches)} | actions)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
