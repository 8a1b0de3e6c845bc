"""A training's place among the workers of one machine or several: its device, and what it may write."""

import os
from typing import Any

import torch
from torch import Tensor

from musenet import workers
from musenet.errors import RunError
from musenet.run_folder import RunFolder


def device_named(name: str) -> torch.device:
    """The device that `training.device` names; of several workers on a machine each has a CUDA device of its own.

    Raises:
        RunError: if there is no such device, or not one for each worker.
    """
    devices = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and not devices):
        return torch.device("cpu")
    if not devices:
        raise RunError("training.device is cuda, but torch finds no CUDA device here: set it to cpu or auto")
    place = 0 if workers.alone() else int(os.environ.get("LOCAL_RANK", workers.rank()))
    if place >= devices:
        raise RunError(
            f"there are more workers than CUDA devices here ({devices}): start {devices} per machine, "
            "or set training.device to cpu"
        )
    return torch.device("cuda", place)


class Onlooker(RunFolder):
    """The run folder as the workers have it that are not the first: to be read, while nothing is written."""

    def save_model(self, state: dict[str, Tensor]) -> None:
        """The first worker does."""

    def save_checkpoint(self, tensors: dict[str, Tensor], progress: str) -> None:
        """The first worker does."""

    def append_metrics(self, entry: dict[str, Any]) -> None:
        """The first worker does."""

    def keep_metrics_until(self, step: int) -> None:
        """The first worker does."""

    def remove_leftovers(self) -> None:
        """The first worker does."""
