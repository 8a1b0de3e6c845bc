"""A run that was opened: its experiment, its dataset, its model's answers, and how good they are."""

from pathlib import Path

from musenet.calibration import Calibration
from musenet.config.experiment import Experiment
from musenet.dataset.batch import schema_of
from musenet.dataset.compatibility import readable
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.distributed import workers
from musenet.distributed.row_shards import sharded_tables
from musenet.errors import RunError, one_line
from musenet.evaluation.draws import RESAMPLES, UserDraws
from musenet.evaluation.evaluation import Evaluation, measure, protocol_line
from musenet.evaluation.predictions import Predictions, model_of
from musenet.evaluation.recalibration import fit_calibration, recalibrated
from musenet.evaluation.scenario_figures import ScenarioFigures, scenario_figures
from musenet.evaluation.scoring import predict, scoring_device
from musenet.models.embedding import tables_to_be_loaded
from musenet.models.interface import ClickModel
from musenet.models.registry import build_model
from musenet.runs.folder import RunFolder
from musenet.runs.training_result import TrainingResult


class Run:
    """A trained run, opened once: what is read or computed of it is kept until it is let go of.

    Args:
        folder: an existing run folder, see `RunFolder.open`.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._model: ClickModel | None = None
        self._calibration: Calibration | None = None
        self._predictions: dict[Split, Predictions] = {}
        self._draws: dict[Split, UserDraws] = {}
        self._scenarios: dict[Split, ScenarioFigures | None] = {}
        self._evaluations: dict[Split, Evaluation] = {}

    @classmethod
    def open(cls, path: Path) -> "Run":
        """The run in this folder; raises `RunError` if the folder holds none, or one of another format."""
        return cls(RunFolder.open(path))

    @property
    def path(self) -> Path:
        """The folder's place."""
        return self.folder.path

    @property
    def experiment(self) -> Experiment:
        """The resolved experiment; raises `RunError` if config.yaml is missing or damaged."""
        return self.folder.experiment

    @property
    def dataset(self) -> Dataset:
        """The dataset that it was trained on; raises `RunError` if that is gone, or another one now."""
        return self.folder.dataset

    @property
    def training(self) -> TrainingResult:
        """How training ended; raises `RunError` if it did not."""
        return self.folder.training

    @property
    def model(self) -> ClickModel:
        """The kept model, ready to score on the accelerator if there is one; raises `RunError` as `load_model`."""
        if self._model is None:
            self._model = load_model(self.folder).to(scoring_device(self.experiment.training))
        return self._model

    @property
    def model_checksum(self) -> str:
        """Of the kept weights; raises `RunError` if there are none, or others than training ended with."""
        return self.folder.model_checksum

    @property
    def calibration(self) -> Calibration | None:
        """What the kept model's logits are recalibrated by, fitted on validation if they have not been; None if by
        nothing.

        Raises:
            RunError: if there is no trained model, or validation has nothing to fit on.
        """
        kind = self.experiment.calibration
        if kind == "none":
            return None
        if self._calibration is None:
            self._calibration = workers.first_does(self._kept_calibration)
        if self._calibration is None:
            on = predict(self.model, self.dataset, "valid")
            self._calibration = fit_calibration(kind, on, self.model_checksum)
            if workers.is_first() and self._calibration is not None:
                self._calibration.write(self.folder.calibration_file)
        return self._calibration

    def _kept_calibration(self) -> Calibration | None:
        """What the folder holds of the calibration; None if that is nothing, or of another kind or other weights."""
        file, wanted = self.folder.calibration_file, (self.experiment.calibration, self.model_checksum)
        kept = Calibration.read(file) if file.is_file() else None
        return kept if kept is not None and (kept.kind, kept.weights) == wanted else None

    def predictions(self, split: Split, *, keep: bool = True) -> Predictions:
        """The kept model's answers on a split: those saved in the folder if they are this model's, else scored anew.

        Args:
            split: of the run's own dataset.
            keep: save what was scored anew in the folder.

        Raises:
            RunError: if the run holds no trained model.
        """
        if split not in self._predictions:
            files = self.folder.predictions_file(split), self.folder.assignments_file(split)
            # The first worker decides for all, who score together: files may be seen later, or be new by then.
            if workers.first_does(lambda: all(model_of(file) == self.model_checksum for file in files)):
                self._predictions[split] = Predictions.from_parquet(*files)
            else:
                self._predictions[split] = self.predictions_on(self.dataset, split)
                if keep and workers.is_first():
                    self._predictions[split].to_parquet(*files, self.model_checksum)
        return self._predictions[split]

    def predictions_on(self, dataset: Dataset, split: Split, *, scenario_logits: bool = False) -> Predictions:
        """The kept model's answers, recalibrated, on a split of any dataset that it can read; nothing is kept.

        Args:
            dataset: see `readable`.
            split: of it.
            scenario_logits: with each scenario's logit.

        Raises:
            RunError: if the run holds no trained model.
        """
        answers = predict(self.model, dataset, split, scenario_logits=scenario_logits)
        return recalibrated(answers, self.calibration)

    def readable(self, dataset: Dataset | None, split: Split) -> Dataset:
        """The dataset to measure on: another one that the kept model can be asked about, or the run's own if None.

        Raises:
            RunError: if the split has nothing to measure on.
            DatasetError: if the model cannot be asked about the dataset.
        """
        found = self.dataset if dataset is None else readable(self.dataset, dataset)
        if split not in found.manifest.splits:
            raise RunError(f"there is no split '{split}': there are {', '.join(found.manifest.splits)}")
        if found.manifest.splits[split].impressions == 0:
            raise RunError(f"the {split} split of {found.folder} is empty: there is nothing to evaluate on")
        return found

    def draws(self, split: Split) -> UserDraws:
        """The resamples of a split's users that all of the run's intervals are from."""
        if split not in self._draws:
            self._draws[split] = UserDraws(self.predictions(split).user, RESAMPLES)
        return self._draws[split]

    def scenarios(self, split: Split) -> ScenarioFigures | None:
        """Size, confidence and repeats of the scenarios, of the evaluation if there was one; None without scenarios."""
        if split not in self._scenarios:
            measured = self._evaluations.get(split) or self._kept_evaluation(split)
            self._scenarios[split] = (
                scenario_figures(self.predictions(split), self.draws(split)) if measured is None else measured.scenarios
            )
        return self._scenarios[split]

    def evaluation(self, split: Split) -> Evaluation:
        """How good the kept model is on a split, as last measured; measured now if that was of other weights.

        Raises:
            RunError: as `evaluate`.
        """
        if split not in self._evaluations:
            self._evaluations[split] = self._kept_evaluation(split) or self.evaluate(split)
        return self._evaluations[split]

    def _kept_evaluation(self, split: Split) -> Evaluation | None:
        """What the folder holds of these weights' measures; None if that is nothing, or of other weights."""
        file, weights = self.folder.evaluation_file(split), self.model_checksum
        found = Evaluation.read(file) if file.is_file() else None
        return found if found is not None and found.weights == weights else None

    def evaluate(self, split: Split, resamples: int = RESAMPLES, dataset: Dataset | None = None) -> Evaluation:
        """Measure the kept model on a split; on the run's own dataset the result is kept in the folder.

        Args:
            split: of the dataset.
            resamples: of users.
            dataset: another one than the run's own, see `readable`.

        Raises:
            RunError: if the folder holds no trained run, or the split has nothing to measure on.
            DatasetError: if the model cannot be asked about the dataset.
        """
        measured_on = self.readable(dataset, split)
        predictions = self.predictions(split) if dataset is None else self.predictions_on(measured_on, split)

        def measured() -> Evaluation:
            are_kept = dataset is None and resamples == RESAMPLES
            draws = self.draws(split) if are_kept else UserDraws(predictions.user, resamples)
            found = measure(predictions, split, protocol_line(measured_on, split), draws)
            if dataset is None:
                found = found.model_copy(update={"weights": self.model_checksum})
                found.write(self.folder.evaluation_file(split))
            return found

        found = workers.first_does(measured)
        if dataset is None:
            self._evaluations[split] = found
        return found

    def release(self) -> None:
        """Let go of model and predictions, where many runs are gone through."""
        self._model = None
        self._predictions.clear()
        self._draws.clear()


def load_model(folder: RunFolder) -> ClickModel:
    """The trained model on the CPU, ready to score.

    Its embedding table stays in the run's file, which is mapped into memory: scoring reads the rows that it looks up.
    Of a run that was trained with shards, each of several workers has its own rows in memory.

    Raises:
        RunError: if the run holds no model, or one that its config.yaml does not describe.
    """
    training = folder.experiment.training
    with sharded_tables(training.embeddings == "sharded"), tables_to_be_loaded():
        model = build_model(folder.experiment.model, schema_of(folder.dataset)).to(training.dtype)
    try:
        model.load_state_dict(folder.load_state(model.table.parts("table.weight")))
    except RuntimeError as error:
        raise RunError(
            f"{folder.model_file} does not fit {folder.config_file} ({one_line(error)}): train again with --restart"
        ) from error
    return model.eval()
