"""A run's figures on a log that is no part of its dataset: another period, another market."""

from typing import TYPE_CHECKING

from musenet.dataset.manifest import Period
from musenet.errors import UserError
from musenet.evaluation.draws import UserDraws
from musenet.evaluation.evaluation import Evaluation, measure, protocol_line
from musenet.runs.run import Run
from musenet.serving.drift.answers import answers_of
from musenet.serving.prediction.histories import Histories
from musenet.serving.scorer.scorer import Scorer
from musenet.sources.own_files import OwnFilesOptions

if TYPE_CHECKING:
    from musenet.sources.log import AnyPath


def evaluate_log(
    run: Run, scorer: Scorer, log: "AnyPath", histories: Histories | None, resamples: int, name: str
) -> Evaluation:
    """Measure a run's model on all rows of a log, encoded by the vocabularies and scales of its training.

    Args:
        run: the trained run.
        scorer: its export.
        log: impressions with labels under the log's own names, in files as of `predict_files`.
        histories: what is known of the users' past.
        resamples: of users.
        name: of the log, in the protocol.

    Raises:
        UserError: if the run's negatives were sampled, which a log does not hold.
        DataError: naming file, row and column, if the log cannot be read.
    """
    experiment = run.experiment
    if experiment.recipe.negatives != "none":
        raise UserError(
            f"{run.path} was trained with negatives that preparation sampled, which a log does not hold: prepare this "
            "log by the run's configuration, and measure on it by --dataset"
        )
    weight = experiment.data.impressions.weight if isinstance(experiment.data, OwnFilesOptions) else None
    found = answers_of(scorer, log, [], histories, weight=weight, truth=experiment.recipe.true_scenario)
    predictions = found.predictions
    period = Period(
        begin=0,
        end=len(predictions.requests),
        impressions=len(predictions.label),
        positives=int(predictions.label.sum()),
        first_time=int(found.time.min()),
        last_time=int(found.time.max()),
    )
    protocol = protocol_line(run.dataset, name, period)
    measured = measure(predictions, "data", protocol, UserDraws(predictions.user, resamples))
    return measured.model_copy(update={"weights": run.model_checksum})
