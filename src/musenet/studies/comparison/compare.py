"""`compare`: models × seeds on one dataset, paired over users and seeds, in one table.

Weights are chosen on validation. How often a test period was looked at, no program can know: say it beside the table.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.stats import norm

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.errors import RunError
from musenet.evaluation.draws import RESAMPLES, UserDraws
from musenet.evaluation.estimators import NDCG_AT
from musenet.evaluation.evaluation import protocol_line
from musenet.evaluation.intervals import (
    Difference,
    Interval,
    Resampled,
    difference,
    rela_impr_interval,
    resample_model,
    seed_and_user_interval,
)
from musenet.evaluation.predictions import Predictions
from musenet.evaluation.recovery import agreement, recovery
from musenet.evaluation.slices import Slice, slices_of
from musenet.models.interface import Role
from musenet.runs.folder import RunFolder, load_model
from musenet.runs.run import predictions_of
from musenet.studies.comparison.transfer import Loss, OtherDataset, WhereTrained
from musenet.studies.comparison.verdict import Verdict, judge_reference

SPLIT: Split = "test"
SLICED_ROWS = 3
METRICS = ("auc", "gauc", "ndcg", "logloss", "calibration_ratio", "calibration_error")


@dataclass(frozen=True)
class Row:
    """One model of the table, over its seeds."""

    name: str
    metrics: dict[str, Interval]
    """Means over seeds, with intervals over users and seeds."""
    per_seed: dict[str, list[float]]
    rela_impr: Interval
    """To the base row's AUC."""
    difference_to: dict[str, Any]
    """AUC minus the reference row's: `model`, `value`, `low`, `high`, `p`, `standard_error`, and `p_holm`: corrected
    for looking at all rows."""
    role: Role
    valid_auc: float
    """Mean over seeds of the kept weights' AUC on validation: what models are chosen by."""
    parameters: int
    """Learned numbers, the embedding table included."""
    parameters_outside_embedding: int
    samples_per_second: float
    seconds_per_epoch: float
    """Of the steps alone, validation and loading left out."""
    tuned: dict[str, Any] | None
    """The values that tuning chose; None if the row was not tuned."""
    recovery: dict[str, float] | None
    """Mean `ari` and `nmi` against the true scenarios."""
    agreement: float | None
    """Mean ARI between the assignments of two seeds."""
    mean_max_probability: float | None
    runs: list[str]
    auc_where_trained: dict[str, Any] | None = None
    """On the test split of the runs' own dataset: `mean`, `low`, `high`, `per_seed`; None unless scored on another."""
    loss: dict[str, Any] | None = None
    """AUC where trained minus AUC: `value`, `low`, `high`, and `over_reference`, the loss minus the reference's."""

    def to_json(self) -> dict[str, Any]:
        """With the keys of docs/commands.md."""
        content = asdict(self)
        intervals, per_seed = content.pop("metrics"), content.pop("per_seed")
        shown = {
            name: {"mean": bounds["value"], "low": bounds["low"], "high": bounds["high"], "per_seed": per_seed[name]}
            for name, bounds in intervals.items()
        }
        return {"name": content.pop("name"), **shown, **content}


@dataclass(frozen=True)
class Comparison:
    """The table, and under which protocol it was made."""

    data: str
    seeds: list[int]
    protocol: str
    reference: str
    base: str
    impressions: int
    users: int
    models: list[Row] = field(default_factory=list)
    verdict: Verdict | None = None
    ndcg_at: int = NDCG_AT
    slices: list[Slice] | None = None
    """Where the reference and its rivals differ; None unless asked for."""
    where_trained: WhereTrained | None = None
    """The runs' own dataset; None unless they were scored on another."""

    def to_json(self) -> dict[str, Any]:
        """One object with the keys of docs/commands.md."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        content["models"] = [row.to_json() for row in self.models]
        content["verdict"] = None if self.verdict is None else self.verdict.to_json()
        content["slices"] = None if self.slices is None else [one.to_json() for one in self.slices]
        content["where_trained"] = None if self.where_trained is None else asdict(self.where_trained)
        return content


@dataclass(frozen=True)
class _Answers:
    """A model's predictions over its seeds, reduced to what the table needs."""

    resampled: Resampled
    recovered: list[dict[str, float]]
    agreement: float | None
    mean_max_probability: float | None


def compare_runs(
    groups: Mapping[str, Sequence[RunFolder]],
    reference: str | None = None,
    base: str | None = None,
    resamples: int = RESAMPLES,
    *,
    slices: bool = False,
    other: OtherDataset | None = None,
) -> Comparison:
    """Put trained runs side by side on the test split.

    Args:
        groups: the runs of each row, one per seed.
        reference: the row that all others are compared with; the first if None.
        base: the row that RelaImpr counts from; the first if None.
        resamples: of users and seeds; those of `other` if that is given.
        slices: also measure the reference and its rivals within parts of the split.
        other: the dataset to compare on; the runs' own if None.

    Raises:
        RunError: if the runs were not trained on the same dataset, or a row's test split is empty.
    """
    first_label, first = next((label, runs[0]) for label, runs in groups.items())
    check_alike([run for runs in groups.values() for run in runs])
    dataset = first.dataset if other is None else other.other
    if dataset.manifest.splits[SPLIT].impressions == 0:
        raise RunError(f"the test split of {dataset.folder} is empty: there is nothing to compare on")
    predictions = _saved if other is None else other.predictions
    draws = UserDraws(_saved(first).user, resamples) if other is None else other.draws
    answers = {label: _answers([predictions(run) for run in runs], draws) for label, runs in groups.items()}
    reference, base = reference or first_label, base or first_label
    roles = {label: runs[0].experiment.model.role for label, runs in groups.items()}
    differences = _differences(answers, reference)
    resampled = {label: one.resampled for label, one in answers.items()}
    losses = {} if other is None else other.losses(groups, resampled, reference)
    verdict = judge_reference(reference, resampled, roles)
    return Comparison(
        data=first.experiment.name if other is None else dataset.folder.name,
        seeds=sorted({run.experiment.seed for runs in groups.values() for run in runs}),
        protocol=protocol_line(dataset, SPLIT) + "; weights chosen on validation",
        reference=reference,
        base=base,
        impressions=dataset.manifest.splits[SPLIT].impressions,
        users=draws.users,
        models=[
            _row(label, runs, answers[label], differences[label], roles[label], answers[base], losses.get(label))
            for label, runs in groups.items()
        ],
        verdict=verdict,
        slices=_slices(groups, verdict, dataset, predictions) if slices else None,
        where_trained=None if other is None else other.where_trained(),
    )


def group_by_model(runs: Sequence[RunFolder]) -> dict[str, list[RunFolder]]:
    """Runs that differ in nothing but their seed are one row, named by folder (`<label>/seed-<n>` by the label)."""
    groups: dict[str, list[RunFolder]] = {}
    seen: dict[str, str] = {}
    for run in runs:
        path = run.path.resolve()
        kind = run.experiment.model_copy(update={"seed": 0}).model_dump_json(include={"seed", "model", "training"})
        label = path.parent.name if path.name.startswith("seed-") else path.name
        if kind not in seen:
            seen[kind] = label if label not in groups else str(run.path)
        groups.setdefault(seen[kind], []).append(run)
    return groups


def check_alike(runs: Sequence[RunFolder]) -> None:
    """Raise `RunError` unless all runs were trained on one dataset."""
    fingerprints = {run.dataset_fingerprint: run.path for run in runs}
    if len(fingerprints) > 1:
        first, second, *_ = fingerprints.values()
        raise RunError(f"{first} and {second} were trained on different datasets: only runs on one can be compared")


def _saved(run: RunFolder) -> Predictions:
    return predictions_of(run, SPLIT)


def _answers(of_seeds: Sequence[Predictions], draws: UserDraws) -> _Answers:
    assignments = [one.assignment for one in of_seeds if one.assignment is not None and one.assignment.shape[1] > 1]
    recovered = [recovery(assignment, of_seeds[0].true_scenario) for assignment in assignments]
    return _Answers(
        resampled=resample_model([one.sample() for one in of_seeds], draws, METRICS),
        recovered=[found for found in recovered if found is not None],
        agreement=agreement(assignments),
        mean_max_probability=float(np.mean([a.max(axis=1).mean() for a in assignments])) if assignments else None,
    )


def _differences(answers: Mapping[str, _Answers], reference: str) -> dict[str, dict[str, Any]]:
    """Each row's AUC minus the reference's, p-values corrected by Holm's method for the number of rows.

    A bootstrap cannot tell small p-values apart, and correction multiplies them. So what is corrected is the p-value of
    a normal distribution with the bootstrap's standard error.
    """
    from statsmodels.stats.multitest import multipletests

    found = {label: asdict(difference(one.resampled, answers[reference].resampled)) for label, one in answers.items()}
    found[reference] = asdict(Difference(0.0, 0.0, 0.0, 1.0, 0.0))  # it differs from itself by nothing, surely
    tested = [label for label, one in found.items() if one["standard_error"] > 0]
    normal = [2 * norm.sf(abs(found[label]["value"]) / found[label]["standard_error"]) for label in tested]
    corrected = dict(zip(tested, multipletests(normal, method="holm")[1], strict=True)) if tested else {}
    return {
        label: {"model": reference, **one, "p_holm": float(corrected.get(label, one["p"]))}
        for label, one in found.items()
    }


def _row(
    label: str,
    runs: Sequence[RunFolder],
    own: _Answers,
    to_reference: dict[str, Any],
    role: Role,
    base: _Answers,
    loss: Loss | None,
) -> Row:
    results = [run.read_json("training.json") for run in runs]
    outside, embedding = _parameters(runs[0])
    speed = float(np.mean([result["samples_per_second"] for result in results]))
    seen = runs[0].dataset.manifest.splits["train"].impressions * runs[0].experiment.training.requests
    return Row(
        name=label,
        metrics={name: seed_and_user_interval(own.resampled, name) for name in METRICS},
        per_seed={name: own.resampled.whole[name].tolist() for name in METRICS},
        rela_impr=rela_impr_interval(own.resampled, base.resampled),
        difference_to=to_reference,
        role=role,
        valid_auc=float(np.mean([result["best"]["auc"] for result in results])),
        parameters=outside + embedding,
        parameters_outside_embedding=outside,
        samples_per_second=speed,
        seconds_per_epoch=seen / speed,
        tuned=_tuned(runs[0]),
        recovery=_mean(own.recovered),
        agreement=own.agreement,
        mean_max_probability=own.mean_max_probability,
        runs=[str(run.path) for run in runs],
        **({} if loss is None else loss.to_json()),
    )


def _tuned(run: RunFolder) -> dict[str, Any] | None:
    """What tuning chose for the run's row, as it stands beside its seeds."""
    file = run.path.parent / "tuning.json"
    if not file.is_file():
        return None
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["chosen"]["values"]
    return values


def _slices(
    groups: Mapping[str, Sequence[RunFolder]],
    verdict: Verdict,
    dataset: Dataset,
    predictions: Callable[[RunFolder], Predictions],
) -> list[Slice]:
    """The reference within parts of the split, and its rivals, or a few other rows if it has none."""
    rivals = [rival.model for rival in (verdict.best_baseline, verdict.best_control) if rival is not None]
    others = rivals or [label for label in groups if label != verdict.reference][:SLICED_ROWS]
    rows = {label: [predictions(run) for run in groups[label]] for label in (verdict.reference, *others)}
    return slices_of(dataset, rows, verdict.reference)


def _mean(found: Sequence[dict[str, float]]) -> dict[str, float] | None:
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]} if found else None


def _parameters(run: RunFolder) -> tuple[int, int]:
    model = load_model(run)[0]
    embedding = model.table.weight
    return sum(part.numel() for part in model.parameters() if part is not embedding), embedding.numel()
