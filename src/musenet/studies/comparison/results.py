"""What a comparison found, as it stands in comparison.json and as every table, page and sentence reads it."""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from musenet.evaluation.estimators import NDCG_AT
from musenet.evaluation.intervals import Difference, Interval, Resampled, seed_and_user_interval
from musenet.evaluation.slices import Slice
from musenet.models.options import Role
from musenet.results import Number, Result
from musenet.studies.comparison.verdict import Verdict

METRICS = ("auc", "gauc", "ndcg", "logloss", "calibration_ratio", "calibration_error")


@dataclass(frozen=True)
class Measured:
    """A metric's mean over the seeds with its interval over users and seeds, and its value for each seed."""

    mean: Number
    low: Number
    high: Number
    per_seed: list[Number]

    @property
    def interval(self) -> Interval:
        """The mean and its bounds."""
        return Interval(self.mean, self.low, self.high)


def measured_of(model: Resampled, metric: str) -> Measured:
    """One metric of a model whose users and seeds were resampled."""
    found = seed_and_user_interval(model, metric)
    return Measured(found.value, found.low, found.high, model.whole[metric].tolist())


@dataclass(frozen=True)
class DifferenceTo:
    """AUC minus that of another row, paired; the p-value also corrected by Holm's method for looking at all rows."""

    model: str
    value: Number
    low: Number
    high: Number
    p: Number
    standard_error: Number
    p_holm: Number

    @property
    def difference(self) -> Difference:
        """The difference alone."""
        return Difference(self.value, self.low, self.high, self.p, self.standard_error)


@dataclass(frozen=True)
class TransferLoss:
    """AUC where trained minus AUC on another dataset, and how much more that is than the reference row loses."""

    value: Number
    low: Number
    high: Number
    over_reference: Interval

    @property
    def interval(self) -> Interval:
        """The loss and its bounds."""
        return Interval(self.value, self.low, self.high)


@dataclass(frozen=True)
class WhereTrained:
    """The dataset that a comparison's runs were trained on, where they were scored on another one."""

    dataset: str
    scored: str
    """The other dataset."""
    impressions: int
    """Of the test split of the dataset that the runs were trained on."""
    users: int
    users_of_both: int
    """Users of that split that are in the other's as well."""


class Row(Result):
    """One model of the table, over its seeds."""

    name: str
    auc: Measured
    gauc: Measured
    ndcg: Measured
    logloss: Measured
    calibration_ratio: Measured
    calibration_error: Measured
    rela_impr: Interval
    """To the base row's AUC."""
    difference_to: DifferenceTo
    """AUC minus the reference row's."""
    role: Role
    valid_auc: Number
    """Mean over seeds of the kept weights' AUC on validation: what models are chosen by."""
    parameters: int
    """Learned numbers, the embedding table included."""
    parameters_outside_embedding: int
    samples_per_second: Number
    seconds_per_epoch: Number
    """Of the steps alone, validation and loading left out."""
    tuned: dict[str, Any] | None
    """The values that tuning chose; None if the row was not tuned."""
    tuning_margin: Number | None = None
    """By how much the chosen values were better on validation than the next of the last rung; None without another."""
    tuning_spread: Number | None = None
    """Standard deviation between the seeds of the chosen values on the last rung; None of a single one."""
    recovery: dict[str, Number] | None
    """Mean `ari` and `nmi` against the true scenarios."""
    agreement: Number | None
    """Mean ARI between the assignments of two seeds; None where no scenarios are learned."""
    mean_max_probability: Number | None
    runs: list[str]
    adapt: dict[str, Any] | None = None
    """How the runs followed the test period; None if they answered it as they were."""
    auc_where_trained: Measured | None = None
    """On the test split of the runs' own dataset; None unless scored on another."""
    loss: TransferLoss | None = None


class Comparison(Result):
    """The table, and under which protocol it was made."""

    written_by: ClassVar[str] = "`musenet compare`"

    data: str
    seeds: list[int]
    protocol: str
    reference: str
    base: str
    impressions: int
    users: int
    models: list[Row]
    verdict: Verdict
    ndcg_at: int = NDCG_AT
    slices: list[Slice] | None = None
    """Where the reference and its rivals differ; None unless asked for."""
    where_trained: WhereTrained | None = None
    """The runs' own dataset; None unless they were scored on another."""
    missing: list[str] = Field([], exclude_if=lambda rows: not rows)
    """Rows that are still being trained."""

    def rows(self) -> list[dict[str, Any]]:
        """A row per model: metrics with the bounds of the AUC, and how it differs from the reference and the base."""
        return [
            {
                "model": row.name,
                "auc": row.auc.mean,
                "auc_low": row.auc.low,
                "auc_high": row.auc.high,
                **{name: getattr(row, name).mean for name in METRICS if name != "auc"},
                "valid_auc": row.valid_auc,
                "rela_impr": row.rela_impr.value,
                "difference": row.difference_to.value,
                "difference_low": row.difference_to.low,
                "difference_high": row.difference_to.high,
                "p_holm": row.difference_to.p_holm,
                "parameters": row.parameters,
                "samples_per_second": row.samples_per_second,
            }
            for row in self.models
        ]

    def row(self, name: str) -> Row | None:
        """The row of that name."""
        return next((row for row in self.models if row.name == name), None)

    def row_of(self, run: Path) -> Row | None:
        """The row that a run in this folder is a seed of."""
        return next(
            (row for row in self.models if any(Path(path).resolve() == run.resolve() for path in row.runs)), None
        )
