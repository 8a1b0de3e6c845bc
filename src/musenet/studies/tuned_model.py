"""One model, tuned as a row of a comparison is, and trained with what was chosen."""

from pathlib import Path
from typing import Any, ClassVar

from musenet.config.experiment import Experiment
from musenet.config.loading import validate_experiment
from musenet.config.search_space import Range, TuningOptions
from musenet.config.studies import CompareOptions
from musenet.results import Result
from musenet.runs.training_result import TrainingResult
from musenet.studies.plans import PlannedRun, folder_name
from musenet.studies.pool import TrainingPool, train_planned
from musenet.studies.trials import configured_values
from musenet.studies.tuning import tuned_rows

SPACE = {
    "training.learning_rate": Range(low=0.0003, high=0.01, log=True),
    "training.weight_decay": [0.0, 0.0001, 0.001, 0.01, 0.1],
}
"""What is tried where the configuration names nothing."""


class Tuned(Result):
    """The values that were chosen, and the run that was trained with them."""

    written_by: ClassVar[str] = "`musenet tune`"

    model: str
    chosen: dict[str, Any]
    """By dotted key."""
    configured: dict[str, Any]
    """What the same keys were."""
    trained: TrainingResult


def tune_model(experiment: Experiment, folder: Path, trials: int | None, pool: TrainingPool) -> Tuned:
    """Tune the experiment's model and train it with the best values.

    Args:
        experiment: whose `compare.tuning` says what is tried; `SPACE` if it says nothing.
        folder: of the trials and of the run, as of a comparison of this model alone.
        trials: how many; as configured if None.
        pool: trains.

    Raises:
        ConfigError: if the model does not take a value that is to be tried.
        RunError: if no trial came to a result.
    """
    label = experiment.model.name
    told = experiment.compare.tuning or TuningOptions(shared=dict(SPACE))
    space = dict(told.shared)
    for row, own in told.own.items():
        if experiment.compare.models[row] == experiment.model:
            space |= own
    options = told.model_copy(update={"shared": space or dict(SPACE), "own": {}, "like": {}})
    if trials is not None:
        options = options.model_copy(update={"trials": trials})
    compare = CompareOptions(models={label: experiment.model}, tuning=options)
    content = experiment.model_copy(update={"compare": compare}).model_dump(by_alias=True)
    alone = validate_experiment(content, "tune")  # does the model have these keys?
    best = tuned_rows(alone, [label], folder, pool)[label]
    run = PlannedRun(f"{label}, tuned", best, folder / folder_name(label) / f"seed-{best.seed}")
    ((_, trained),) = pool.each(train_planned, [run])
    return Tuned(
        model=label,
        chosen=configured_values(best, options.shared),
        configured=configured_values(experiment, options.shared),
        trained=trained,
    )
