"""What the report says, gathered from a run folder and its dataset; nothing here knows of HTML or figures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.evaluation.draws import UserDraws
from musenet.evaluation.evaluation import Evaluation
from musenet.evaluation.importance import Importance, permutation_importance
from musenet.evaluation.intervals import Interval
from musenet.evaluation.predictions import Floats, Predictions
from musenet.evaluation.ratios import ratio_intervals
from musenet.evaluation.scoring import evenly_spaced
from musenet.metrics import CALIBRATION_BINS, equal_count_bins, probability_of_logit
from musenet.models.interface import ClickModel
from musenet.portraits.differences import TraitDifference, telling_traits, trait_differences
from musenet.portraits.over_time import SharesOverTime, shares_by_date, shares_by_hour
from musenet.portraits.portraits import Portrait, describe_scenarios
from musenet.portraits.request_map import RequestMap, map_requests
from musenet.portraits.situations import Situation, typical_situations
from musenet.reporting.gains import Gains, base_run_of, gains_over
from musenet.reporting.log_facts import LogFacts, log_facts
from musenet.runs.folder import RunFolder
from musenet.runs.run import Run
from musenet.studies.comparison.results import Comparison

SPLIT: Split = "test"
RESAMPLES = 200
CONTRASTS = 40
CONFIDENCE_BINS = 20
MAPPED = 100
"""Requests of each scenario on the map."""
IMPORTANCE_IMPRESSIONS = 30_000
IMPORTANCE_REPEATS = 3
IMPORTANCE_RESAMPLES = 100


@dataclass(frozen=True)
class CalibrationBin:
    """Impressions of similar prediction."""

    predicted: float
    observed: Interval
    impressions: int


@dataclass(frozen=True)
class Curves:
    """What training wrote of itself, by step."""

    losses: dict[str, list[tuple[int, float]]]
    validation_auc: list[tuple[int, float]]
    best_step: int | None
    health: dict[str, list[tuple[int, float]]]
    warnings: list[str]
    """Of the last validation, and what could not be read."""
    stopped: str


@dataclass(frozen=True)
class ScenarioFacts:
    """All about the scenarios of a run on the test split."""

    assignment: str
    """How requests got their scenario: soft, hard, gate, uniform, …"""
    portraits: list[Portrait]
    mean_max_probability: float
    entropy: float
    largest_share: list[float]
    """Per scenario, the share of requests in which it is the most probable."""
    confidence: list[int]
    """Requests by their largest probability, in bins of equal width between 0 and 1."""
    situations: list[Situation | None]
    """What is typical of each, where there is something to tell."""
    differences: list[TraitDifference]
    recovery: dict[str, float] | None
    agreement: float | None
    """Between seeds, if a comparison says it."""
    request_map: RequestMap | None
    """None for a model without a metric space."""
    by_date: SharesOverTime
    """Over the validation and the test period."""
    by_hour: SharesOverTime | None


@dataclass(frozen=True)
class Contents:
    """Everything on the page."""

    log: LogFacts
    model: str
    """What the comparison calls it, or else its `model.name`."""
    seed: int
    evaluation: Evaluation
    comparison: Comparison | None
    scenarios: ScenarioFacts | None
    """None for a model without scenarios, or with a single one."""
    gains: Gains | None
    """Over the base model, if a comparison has one."""
    importance: list[Importance]
    calibration: list[CalibrationBin]
    curves: Curves


def gather(run: Run, comparison_file: Path | None = None) -> Contents:
    """Read the run, its dataset and the comparison.

    Args:
        run: a trained run.
        comparison_file: the JSON of `musenet compare`; the one beside the run's folders if None and there is one.

    Raises:
        UserError: if a file that is needed is missing or damaged.
    """
    comparison = comparison_of(run) if comparison_file is None else Comparison.read(comparison_file)
    row = None if comparison is None else comparison.row_of(run.path)
    predictions = run.predictions(SPLIT)
    return Contents(
        log=log_facts(run),
        model=run.experiment.model.name if row is None else row.name,
        seed=run.experiment.seed,
        evaluation=run.evaluation(SPLIT),
        comparison=comparison,
        scenarios=scenario_facts(run, comparison),
        gains=gains_of(run, comparison),
        importance=importance_of(run.model, run.dataset, predictions),
        calibration=calibration_bins(predictions, run.draws(SPLIT)),
        curves=training_curves(run.folder),
    )


def comparison_of(run: Run) -> Comparison | None:
    """The comparison that `musenet compare` wrote two folders above the run, if it names this run."""
    file = run.path.resolve().parent.parent / "comparison.json"
    found = Comparison.read(file) if file.is_file() else None
    return found if found is not None and found.row_of(run.path) is not None else None


def scenario_facts(run: Run, comparison: Comparison | None) -> ScenarioFacts | None:
    """Portraits, shares, confidence, differences, map and time; None unless there are at least two scenarios."""
    predictions = run.predictions(SPLIT)
    assignment, figures = predictions.assignment, run.scenarios(SPLIT)
    if assignment is None or figures is None or figures.count < 2:
        return None
    row = None if comparison is None else comparison.row_of(run.path)
    portraits = describe_scenarios(run, SPLIT, shown=CONTRASTS)
    periods = [run.predictions("valid")] if run.dataset.manifest.splits["valid"].impressions else []
    periods.append(predictions)
    of_periods = UserDraws(np.concatenate([period.user for period in periods]), RESAMPLES)
    return ScenarioFacts(
        assignment=str(getattr(run.experiment.model, "assignment", "soft")),
        portraits=portraits,
        mean_max_probability=figures.mean_max_probability,
        entropy=figures.entropy,
        largest_share=(np.bincount(assignment.argmax(axis=1), minlength=figures.count) / len(assignment)).tolist(),
        confidence=np.histogram(assignment.max(axis=1), bins=CONFIDENCE_BINS, range=(0, 1))[0].tolist(),
        situations=typical_situations(run.dataset, predictions),
        differences=trait_differences(run.dataset, predictions, telling_traits(portraits), run.draws(SPLIT)),
        recovery=figures.recovery,
        agreement=None if row is None else row.agreement,
        request_map=map_requests(run.model, run.dataset, predictions, MAPPED),
        by_date=shares_by_date(run.dataset, periods, of_periods),
        by_hour=shares_by_hour(run.dataset, periods, of_periods),
    )


def gains_of(run: Run, comparison: Comparison | None) -> Gains | None:
    """The run against the base model of its comparison; None if there is no other run to set it against."""
    other = base_run_of(comparison, run)
    if other is None or comparison is None:
        return None
    return gains_over(other.predictions(SPLIT), run.predictions(SPLIT), comparison.base, RESAMPLES)


def importance_of(model: ClickModel, dataset: Dataset, predictions: Predictions) -> list[Importance]:
    """Permutation importance on a sample of the test split, within each scenario as well if there are several."""
    requests = evenly_spaced(dataset, SPLIT, IMPORTANCE_IMPRESSIONS)
    assignment, likeliest = predictions.assignment, None
    if assignment is not None and assignment.shape[1] > 1:
        likeliest = assignment.argmax(axis=1)[np.searchsorted(predictions.requests, requests)]
    return permutation_importance(
        model, dataset, requests, likeliest, repeats=IMPORTANCE_REPEATS, resamples=IMPORTANCE_RESAMPLES
    )


def calibration_bins(predictions: Predictions, draws: UserDraws, bins: int = CALIBRATION_BINS) -> list[CalibrationBin]:
    """Predicted and observed click rates in bins of equally many impressions."""
    probability = probability_of_logit(predictions.logit)
    weight = np.ones(len(probability)) if predictions.weight is None else predictions.weight
    bin_of_row = equal_count_bins(probability, predictions.weight, bins)
    cell = draws.index(predictions.user) * bins + bin_of_row

    def per_user(values: Floats) -> Floats:
        return np.asarray(np.bincount(cell, values, draws.users * bins).reshape(draws.users, bins), dtype=np.float64)

    shown = per_user(weight)
    observed = ratio_intervals(per_user(weight * predictions.label), shown, draws)
    with np.errstate(invalid="ignore", divide="ignore"):
        predicted = np.bincount(bin_of_row, weight * probability, bins) / shown.sum(axis=0)
    rows = np.bincount(bin_of_row, minlength=bins)
    return [
        CalibrationBin(float(predicted[place]), observed[place], int(rows[place]))
        for place in np.flatnonzero(shown.sum(axis=0) > 0)
    ]


def training_curves(run: RunFolder) -> Curves:
    """Loss terms, validation AUC and signs of health from metrics.jsonl; empty where there is none."""
    losses: dict[str, list[tuple[int, float]]] = {}
    health: dict[str, list[tuple[int, float]]] = {}
    validation: list[tuple[int, float]] = []
    warnings: list[str] = []
    entries, unreadable = run.metrics()
    for entry in entries:
        step = entry["step"]
        for group, values in ((losses, entry.get("losses")), (health, entry.get("health"))):
            for name, value in (values or {}).items():
                if value is not None:
                    group.setdefault(name, []).append((step, float(value)))
        if (entry.get("valid") or {}).get("auc") is not None:
            validation.append((step, float(entry["valid"]["auc"])))
            warnings = list(entry.get("warnings", []))
    if unreadable:
        warnings.append(f"{unreadable:,} lines of {run.metrics_file.name} cannot be read and are left out.")
    ended = run.training if run.training_file.is_file() else None
    best = None if ended is None or "step" not in ended.best else int(ended.best["step"])
    return Curves(losses, validation, best, health, warnings, "unfinished" if ended is None else ended.stopped)
