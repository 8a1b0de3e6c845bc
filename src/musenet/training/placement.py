"""A training's place among the workers of one machine or several: its device, and what it may write."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from musenet.distributed import workers
from musenet.distributed.pieces import InPieces, in_file_order
from musenet.errors import RunError
from musenet.runs.folder import RunFolder


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

    def save_model(self, state: Mapping[str, Tensor | InPieces]) -> None:
        """The first worker does; it gets the rows that are here."""
        _hand_over(state)

    def save_checkpoint(self, tensors: Mapping[str, Tensor | InPieces], progress: str) -> None:
        """The first worker does; it gets the rows that are here."""
        _hand_over(tensors)

    def record_threads(self, threads: int) -> None:
        """The first worker does."""

    def append_metrics(self, entry: dict[str, Any]) -> None:
        """The first worker does."""

    def keep_metrics_until(self, step: int) -> int:
        """The first worker does."""
        return 0

    def remove_leftovers(self) -> None:
        """The first worker does."""


def _hand_over(tensors: Mapping[str, Tensor | InPieces]) -> None:
    """Send the first worker what it writes, in the order in which it does."""
    shared_out = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, InPieces)}
    for _, tensor in in_file_order(shared_out):
        for _ in tensor.pieces():
            pass
