"""How a training ended: training.json, and the `train` JSON of docs/commands.md."""

from typing import ClassVar

from musenet.results import Number, Result


class TrainingResult(Result):
    """How training ended."""

    written_by: ClassVar[str] = "`musenet train`"

    run: str
    best: dict[str, int | Number]
    """Step, epoch, AUC and logloss of the kept weights."""
    seconds: Number
    samples_per_second: Number
    stopped: str
    parameters: int
    weights: str | None = None
    """SHA-256 of model.safetensors; None if an earlier version trained it."""
