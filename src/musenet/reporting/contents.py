"""What the report says, gathered from a run folder and its dataset; nothing here knows of HTML or figures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.evaluation.draws import UserDraws
from musenet.evaluation.importance import Importance, permutation_importance
from musenet.evaluation.intervals import Interval
from musenet.evaluation.predictions import Floats, Predictions
from musenet.evaluation.scoring import evenly_spaced, scoring_device
from musenet.metrics import CALIBRATION_BINS, equal_count_bins, probability_of_logit
from musenet.models.interface import ClickModel
from musenet.portraits.differences import TraitDifference, interval_of, telling_traits, trait_differences
from musenet.portraits.over_time import SharesOverTime, shares_by_date, shares_by_hour
from musenet.portraits.portraits import Portrait, describe_scenarios
from musenet.portraits.request_map import RequestMap, map_requests
from musenet.portraits.situations import Situation, typical_situations
from musenet.reporting.comparison import ComparisonFacts, Verdict, find_comparison, judge, read_comparison, row_of
from musenet.reporting.gains import Gains, base_run_of, gains_over
from musenet.reporting.log_facts import LogFacts, log_facts
from musenet.runs.folder import RunFolder, load_model
from musenet.runs.run import evaluate, predictions_of

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
    """Of the last validation."""
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
    seed: int
    evaluation: dict[str, Any]
    verdict: Verdict
    comparison: ComparisonFacts | None
    scenarios: ScenarioFacts | None
    """None for a model without scenarios, or with a single one."""
    gains: Gains | None
    """Over the base model, if a comparison has one."""
    importance: list[Importance]
    calibration: list[CalibrationBin]
    curves: Curves


def gather(run: RunFolder, comparison_file: Path | None = None) -> Contents:
    """Read the run, its dataset and the comparison.

    Args:
        run: a trained run.
        comparison_file: the JSON of `musenet compare`; the one beside the run's folders if None and there is one.

    Raises:
        UserError: if a file that is needed is missing or damaged.
    """
    file = comparison_file or find_comparison(run)
    comparison = None if file is None else read_comparison(file)
    evaluation = evaluation_of(run)
    predictions = predictions_of(run, SPLIT)
    draws = UserDraws(predictions.user, RESAMPLES)
    own = row_of(comparison, run)
    model = load_model(run)[0].to(scoring_device(run.experiment.training))
    agreement = None if own is None else own.agreement
    return Contents(
        log=log_facts(run),
        model=run.experiment.model.name,
        seed=run.experiment.seed,
        evaluation=evaluation,
        verdict=judge(comparison, run),
        comparison=comparison,
        scenarios=scenario_facts(run, model, predictions, draws, evaluation, agreement),
        gains=gains_of(run, comparison, predictions),
        importance=importance_of(model, run.dataset, predictions),
        calibration=calibration_bins(predictions, draws),
        curves=training_curves(run),
    )


def evaluation_of(run: RunFolder) -> dict[str, Any]:
    """What `evaluate` found of these very weights on the test split; measured now if it was not before."""
    file = run.evaluation_file(SPLIT)
    if file.is_file() and run.model_file.is_file() and file.stat().st_mtime_ns >= run.model_file.stat().st_mtime_ns:
        return run.read_json(str(file.relative_to(run.path)))
    return evaluate(run, SPLIT).to_json()


def scenario_facts(
    run: RunFolder,
    model: ClickModel,
    predictions: Predictions,
    draws: UserDraws,
    evaluation: dict[str, Any],
    agreement: float | None,
) -> ScenarioFacts | None:
    """Portraits, shares, confidence, differences, map and time; None unless there are at least two scenarios."""
    assignment = predictions.assignment
    if assignment is None or assignment.shape[1] < 2:
        return None
    figures = evaluation.get("scenarios") or {}
    share = assignment.mean(axis=0)
    used = share[share > 0]
    portraits = describe_scenarios(run, SPLIT, shown=CONTRASTS, resamples=RESAMPLES)
    largest = assignment.max(axis=1)
    periods = [predictions_of(run, "valid")] if run.dataset.manifest.splits["valid"].impressions else []
    periods.append(predictions)
    of_periods = UserDraws(np.concatenate([period.user for period in periods]), RESAMPLES)
    return ScenarioFacts(
        assignment=str(getattr(run.experiment.model, "assignment", "soft")),
        portraits=portraits,
        mean_max_probability=float(largest.mean()),
        entropy=float(-(used * np.log(used)).sum()),
        largest_share=(np.bincount(assignment.argmax(axis=1), minlength=len(share)) / len(assignment)).tolist(),
        confidence=np.histogram(largest, bins=CONFIDENCE_BINS, range=(0, 1))[0].tolist(),
        situations=typical_situations(run.dataset, predictions),
        differences=trait_differences(run.dataset, predictions, telling_traits(portraits), draws),
        recovery=figures.get("recovery"),
        agreement=agreement,
        request_map=map_requests(model, run.dataset, predictions, MAPPED),
        by_date=shares_by_date(run.dataset, periods, of_periods),
        by_hour=shares_by_hour(run.dataset, periods, of_periods),
    )


def gains_of(run: RunFolder, comparison: ComparisonFacts | None, predictions: Predictions) -> Gains | None:
    """The run against the base model of its comparison; None if there is no other run to set it against."""
    other = base_run_of(comparison, run)
    if other is None or comparison is None or comparison.base is None:
        return None
    return gains_over(predictions_of(other, SPLIT), predictions, comparison.base, RESAMPLES)


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

    clicked, shown = per_user(weight * predictions.label), per_user(weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = clicked.sum(axis=0) / shown.sum(axis=0)
        resampled = np.concatenate([(counts @ clicked) / (counts @ shown) for counts in draws.blocks()])
        predicted = np.bincount(bin_of_row, weight * probability, bins) / shown.sum(axis=0)
    rows = np.bincount(bin_of_row, minlength=bins)
    return [
        CalibrationBin(
            float(predicted[place]), interval_of(float(observed[place]), resampled[:, place], draws), int(rows[place])
        )
        for place in np.flatnonzero(shown.sum(axis=0) > 0)
    ]


def training_curves(run: RunFolder) -> Curves:
    """Loss terms, validation AUC and signs of health from metrics.jsonl; empty where there is none."""
    losses: dict[str, list[tuple[int, float]]] = {}
    health: dict[str, list[tuple[int, float]]] = {}
    validation: list[tuple[int, float]] = []
    warnings: list[str] = []
    for entry in run.metrics():
        step = int(entry["step"])
        for group, values in ((losses, entry.get("losses")), (health, entry.get("health"))):
            for name, value in (values or {}).items():
                if value is not None:
                    group.setdefault(name, []).append((step, float(value)))
        if (entry.get("valid") or {}).get("auc") is not None:
            validation.append((step, float(entry["valid"]["auc"])))
            warnings = [str(warning) for warning in entry.get("warnings", [])]
    ended = run.read_json("training.json") if run.training_file.is_file() else {}
    best = (ended.get("best") or {}).get("step")
    return Curves(losses, validation, best, health, warnings, str(ended.get("stopped", "unfinished")))
