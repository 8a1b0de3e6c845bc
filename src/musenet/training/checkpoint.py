"""The checkpoint to resume from: one safetensors file, replaced whole."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from musenet.distributed.pieces import InPieces
from musenet.errors import RunError
from musenet.models.interface import ClickModel
from musenet.runs.folder import RunFolder
from musenet.runs.tensor_files import load_tensors
from musenet.training.optimizers import Optimizers


@dataclass
class TrainingState:
    """Where training stands; with the weights and moments, all that decides what comes next.

    The random state needs no keeping: every step and every epoch draws from a generator seeded by its number.
    """

    step: int = 0
    """Steps done."""
    impressions: int = 0
    seconds: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)
    """Step, epoch, AUC and logloss of the kept weights; empty before the first."""
    without_improvement: int = 0
    """Validations since the best one."""


def save_checkpoint(
    run: RunFolder, model: ClickModel, optimizers: Optimizers, progress: TrainingState, average: AveragedModel | None
) -> None:
    """Replace the run's checkpoint; with the average of the weights, if there is one."""
    tensors: dict[str, Tensor | InPieces] = {f"model.{name}": value for name, value in model.whole_state().items()}
    tensors |= {f"optimizer.{name}": value for name, value in optimizers.state().items()}
    tensors |= {f"health.{name}": value for name, value in model.health_state().items()}
    if average is not None:
        of_average = average.module.whole_state()  # type: ignore[operator]
        tensors |= {f"average.{name}": value for name, value in of_average.items()}
    run.save_checkpoint(tensors, json.dumps(asdict(progress)))


def load_checkpoint(
    run: RunFolder, model: ClickModel, optimizers: Optimizers, average: AveragedModel | None
) -> TrainingState:
    """Put model, optimizers and the average of the weights, if there is one, where the checkpoint left them.

    Raises:
        RunError: if the checkpoint is damaged or of another model.
    """
    of_rows = model.table.parts(
        "model.table.weight", "average.table.weight", "optimizer.lazy.mean", "optimizer.lazy.square"
    )
    tensors, metadata = load_tensors(run.checkpoint_file, of_rows)
    try:
        progress = TrainingState(**json.loads(metadata["progress"]))
        model.load_state_dict(_below("model.", tensors))
        optimizers.load(_below("optimizer.", tensors))
        model.load_health_state(_below("health.", tensors))
        if average is not None:
            average.module.load_state_dict(_below("average.", tensors))
            average.n_averaged.fill_(progress.step)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(f"{run.checkpoint_file} does not fit this experiment: start again with --restart") from error
    return progress


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
