"""A run that was opened: its model's answers, and how good they are."""

from pathlib import Path

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.distributed import workers
from musenet.errors import RunError
from musenet.evaluation.draws import RESAMPLES
from musenet.evaluation.evaluation import Evaluation, measure, protocol_line
from musenet.evaluation.predictions import Predictions, _model_of
from musenet.evaluation.scoring import predict, scoring_device
from musenet.files import checksum
from musenet.runs.folder import RunFolder, load_model


def predictions_of(run: RunFolder, split: Split, *, keep: bool = True) -> Predictions:
    """The kept model's answers on a split: those saved in the run's folder if they are this model's, else scored anew.

    Args:
        run: a trained run.
        split: of the run's own dataset.
        keep: save what was scored anew in the run's folder.

    Raises:
        RunError: if the run holds no trained model.
    """
    files = run.predictions_file(split), run.assignments_file(split)
    if not run.model_file.is_file():
        run.load_state()
    model_checksum = checksum(run.model_file)
    if all(_model_of(file) == model_checksum for file in files):
        return Predictions.from_parquet(*files)
    predictions = predictions_on(run, run.dataset, split)
    if keep and workers.is_first():
        predictions.to_parquet(*files, model_checksum)
    return predictions


def predictions_on(run: RunFolder, dataset: Dataset, split: Split) -> Predictions:
    """The kept model's answers on a split of any dataset that it can read; nothing is saved.

    Raises:
        RunError: if the run holds no trained model.
    """
    model, _, experiment = load_model(run)
    return predict(model.to(scoring_device(experiment.training)), dataset, split)


def evaluate(run: RunFolder, split: Split = "test", resamples: int = RESAMPLES) -> Evaluation:
    """Measure a trained run on a split and keep the result in its folder.

    Raises:
        RunError: if the folder holds no trained run, or the split has nothing to measure on.
    """
    if run.dataset.manifest.splits[split].impressions == 0:
        raise RunError(f"the {split} split of {run.dataset.folder} is empty: there is nothing to evaluate on")
    result = measure(predictions_of(run, split), split, protocol_line(run.dataset, split), resamples)
    run.write_json(str(Path("evaluation") / f"{split}.json"), result.to_json())
    return result
