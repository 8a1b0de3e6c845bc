"""`compare`: models × seeds on one dataset, paired over users and seeds, in one table.

Weights are chosen on validation. How often a test period was looked at, no program can know: say it beside the table.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.special import ndtr

from musenet.adaptation.adapted import adapted as follow
from musenet.config.adaptation import AdaptedRow, AdaptOptions
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.errors import RunError
from musenet.evaluation.draws import RESAMPLES, UserDraws
from musenet.evaluation.evaluation import protocol_line
from musenet.evaluation.intervals import (
    NO_DIFFERENCE,
    Resampled,
    difference,
    rela_impr_interval,
    resample_model,
)
from musenet.evaluation.predictions import Predictions
from musenet.evaluation.recovery import agreement, recovery
from musenet.evaluation.slices import Slice, slices_of
from musenet.models.options import Role
from musenet.runs.run import Run
from musenet.studies.comparison.results import METRICS, Comparison, DifferenceTo, Row, measured_of
from musenet.studies.comparison.transfer import OtherDataset
from musenet.studies.comparison.verdict import Verdict, judge

SPLIT: Split = "test"
SLICED_ROWS = 3

Predicted = Callable[[Run], Predictions]


@dataclass(frozen=True)
class _Answers:
    """A model's predictions over its seeds, reduced to what the table needs."""

    resampled: Resampled
    recovered: list[dict[str, float]]
    agreement: float | None
    mean_max_probability: float | None


def compare_runs(
    groups: Mapping[str, Sequence[Run]],
    reference: str | None = None,
    base: str | None = None,
    resamples: int = RESAMPLES,
    *,
    slices: bool = False,
    other: OtherDataset | None = None,
    adapted: Mapping[str, AdaptedRow] = {},
) -> Comparison:
    """Put trained runs side by side on the test split.

    Args:
        groups: the runs of each row, one per seed.
        reference: the row that all others are compared with; the first if None.
        base: the row that RelaImpr counts from; the first if None.
        resamples: of users and seeds; those of `other` if that is given.
        slices: also measure the reference and its rivals within parts of the split.
        other: the dataset to compare on; the runs' own if None.
        adapted: further rows, of runs of these rows that follow the split in order of time. They are no rivals of a
            reference that does not.

    Raises:
        RunError: if a model cannot adapt as asked, the runs were not trained on the same dataset, or a row's test split
            is empty.
    """
    every = [run for runs in groups.values() for run in runs]
    check_alike(every)
    dataset = every[0].dataset if other is None else other.other
    if dataset.manifest.splits[SPLIT].impressions == 0:
        raise RunError(f"the test split of {dataset.folder} is empty: there is nothing to compare on")
    as_they_are: Predicted = (lambda run: run.predictions(SPLIT)) if other is None else other.predictions
    draws = UserDraws(as_they_are(every[0]).user, resamples) if other is None else other.draws
    predicted = dict.fromkeys(groups, as_they_are) | {
        label: partial(_following, dataset, one.adapt) for label, one in adapted.items()
    }
    groups = {**groups, **{label: groups[one.row] for label, one in adapted.items()}}
    reference, base = reference or next(iter(groups)), base or next(iter(groups))
    roles = {label: runs[0].experiment.model.role for label, runs in groups.items()}
    answers = {label: _answers(runs, predicted[label], draws) for label, runs in groups.items()}
    resampled = {label: one.resampled for label, one in answers.items()}
    verdict = judge(reference, _judged(resampled, reference, adapted), roles)
    rows = _rows(groups, answers, roles, reference, base, adapted)
    return Comparison(
        data=every[0].experiment.name if other is None else dataset.folder.name,
        seeds=sorted({run.experiment.seed for run in every}),
        protocol=protocol_line(dataset, SPLIT) + "; weights chosen on validation",
        reference=reference,
        base=base,
        impressions=dataset.manifest.splits[SPLIT].impressions,
        users=draws.users,
        models=rows if other is None else other.with_losses(rows, groups, resampled, reference),
        verdict=verdict,
        slices=_slices(groups, verdict, dataset, predicted) if slices else None,
        where_trained=None if other is None else other.where_trained(),
    )


def _judged(
    resampled: Mapping[str, Resampled], reference: str, adapted: Mapping[str, AdaptedRow]
) -> Mapping[str, Resampled]:
    """The rows that may be rivals: those that adapt are none of a reference that does not."""
    return {label: one for label, one in resampled.items() if reference in adapted or label not in adapted}


def _following(dataset: Dataset, options: AdaptOptions, run: Run) -> Predictions:
    followed, _ = follow(run, dataset, SPLIT, options)
    return followed.predictions


def group_by_model(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs that differ in nothing but their seed are one row, named by folder (`<label>/seed-<n>` by the label).

    Raises:
        RunError: if two of a row are of one seed, or hold the same weights: one training is not two.
    """
    groups: dict[str, list[Run]] = {}
    seen: dict[tuple[str, bool], str] = {}
    for run in runs:
        path = run.path.resolve()
        experiment = run.experiment.model_copy(update={"seed": 0})
        made = experiment.model_dump_json(include={"seed", "model", "training", "calibration"})
        kind = (made, run.folder.weights_before is not None)
        label = path.parent.name if path.name.startswith("seed-") else path.name
        if kind not in seen:
            seen[kind] = label if label not in groups else str(run.path)
        groups.setdefault(seen[kind], []).append(run)
    for of_row in groups.values():
        _check_different(of_row)
    return groups


def _check_different(runs: Sequence[Run]) -> None:
    for name, what in (("model_checksum", "hold the same weights"), ("seed", "are of the same seed")):
        seen: dict[Any, Run] = {}
        for run in runs:
            before = seen.setdefault(run.experiment.seed if name == "seed" else run.model_checksum, run)
            if before is not run:
                raise RunError(f"{before.path} and {run.path} {what}, so they are one training: give one of them")


def check_alike(runs: Sequence[Run]) -> None:
    """Raise `RunError` unless all runs were trained on one dataset."""
    fingerprints = {run.folder.dataset_fingerprint: run.path for run in runs}
    if len(fingerprints) > 1:
        first, second, *_ = fingerprints.values()
        raise RunError(f"{first} and {second} were trained on different datasets: only runs on one can be compared")


def _answers(runs: Sequence[Run], predicted: Predicted, draws: UserDraws) -> _Answers:
    of_seeds = [predicted(run) for run in runs]
    for run in runs:
        run.release()
    assignments = [one.assignment for one in of_seeds if one.assignment is not None and one.assignment.shape[1] > 1]
    recovered = [recovery(assignment, of_seeds[0].true_scenario) for assignment in assignments]
    return _Answers(
        resampled=resample_model([one.sample() for one in of_seeds], draws, METRICS),
        recovered=[found for found in recovered if found is not None],
        agreement=agreement(assignments) if runs[0].experiment.model.learns_scenarios else None,
        mean_max_probability=float(np.mean([a.max(axis=1).mean() for a in assignments])) if assignments else None,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's step-down method (1979), in their order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in corrected]


def _differences(answers: Mapping[str, _Answers], reference: str) -> dict[str, DifferenceTo]:
    """Each row's AUC minus the reference's, p-values corrected by Holm's method for the number of rows.

    A bootstrap cannot tell small p-values apart, and correction multiplies them. So what is corrected is the p-value of
    a normal distribution with the bootstrap's standard error.
    """
    found = {label: difference(one.resampled, answers[reference].resampled) for label, one in answers.items()}
    found[reference] = NO_DIFFERENCE
    tested = [label for label, one in found.items() if one.standard_error > 0]
    normal = [float(2 * ndtr(-abs(found[label].value) / found[label].standard_error)) for label in tested]
    corrected = dict(zip(tested, holm(normal), strict=True))
    return {
        label: DifferenceTo(model=reference, **asdict(one), p_holm=corrected.get(label, one.p))
        for label, one in found.items()
    }


def _rows(
    groups: Mapping[str, Sequence[Run]],
    answers: Mapping[str, _Answers],
    roles: Mapping[str, Role],
    reference: str,
    base: str,
    adapted: Mapping[str, AdaptedRow],
) -> list[Row]:
    differences = _differences(answers, reference)
    return [
        Row(
            name=label,
            **{name: measured_of(answers[label].resampled, name) for name in METRICS},
            rela_impr=rela_impr_interval(answers[label].resampled, answers[base].resampled),
            difference_to=differences[label],
            role=roles[label],
            recovery=_mean(answers[label].recovered),
            agreement=answers[label].agreement,
            mean_max_probability=answers[label].mean_max_probability,
            adapt=adapted[label].adapt.model_dump(mode="json") if label in adapted else None,
            **_training(runs),
        )
        for label, runs in groups.items()
    ]


def _training(runs: Sequence[Run]) -> dict[str, Any]:
    """What a row says of how its runs were trained."""
    first, results = runs[0], [run.training for run in runs]
    embedding = first.dataset.embedding_rows * first.experiment.model.table_columns
    speed = float(np.mean([result.samples_per_second for result in results]))
    seen = first.dataset.manifest.splits["train"].impressions * first.experiment.training.requests
    return {
        "valid_auc": float(np.mean([result.best["auc"] for result in results])),
        "parameters": results[0].parameters,
        "parameters_outside_embedding": results[0].parameters - embedding,
        "samples_per_second": speed,
        "seconds_per_epoch": seen / speed,
        **_tuned(first),
        "runs": [str(run.path) for run in runs],
    }


def _tuned(run: Run) -> dict[str, Any]:
    """What tuning chose for the run's row, and how surely, as it stands beside its seeds."""
    file = run.path.parent / "tuning.json"
    chosen = json.loads(file.read_text(encoding="utf-8"))["chosen"] if file.is_file() else {}
    return {
        "tuned": chosen.get("values"),
        "tuning_margin": chosen.get("margin"),
        "tuning_spread": chosen.get("spread"),
    }


def _slices(
    groups: Mapping[str, Sequence[Run]], verdict: Verdict, dataset: Dataset, predicted: Mapping[str, Predicted]
) -> list[Slice]:
    """The reference within parts of the split, and its rivals, or a few other rows if it has none."""
    rivals = [rival.model for rival in (verdict.best_baseline, verdict.best_control) if rival is not None]
    others = rivals or [label for label in groups if label != verdict.reference][:SLICED_ROWS]
    rows = {label: [predicted[label](run) for run in groups[label]] for label in (verdict.reference, *others)}
    return slices_of(dataset, rows, verdict.reference)


def _mean(found: Sequence[dict[str, float]]) -> dict[str, float] | None:
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]} if found else None
