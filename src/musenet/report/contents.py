"""What the report says, gathered from a run folder and its dataset; nothing here knows of HTML or figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from musenet.data.dataset import Dataset, Split
from musenet.evaluation.evaluate import evaluate
from musenet.evaluation.intervals import Interval, UserDraws
from musenet.evaluation.portraits import Portrait, describe_scenarios
from musenet.evaluation.predictions import Floats, Predictions, predictions_of
from musenet.metrics import CALIBRATION_BINS, equal_count_bins, probability_of_logit
from musenet.report.comparison import ComparisonFacts, Verdict, find_comparison, judge, read_comparison, row_of
from musenet.report.differences import TraitDifference, interval_of, telling_traits, trait_differences
from musenet.run_folder import RunFolder

SPLIT: Split = "test"
RESAMPLES = 200
CONTRASTS = 40
CONFIDENCE_BINS = 20


@dataclass(frozen=True)
class PeriodFacts:
    """One split of the log."""

    split: Split
    first: str
    last: str
    """Days, in the log's timezone; empty for an empty split."""
    impressions: int
    requests: int
    users: int
    positives: int
    click_rate: float
    repeat_share: float
    """Of the positives: those that repeat an earlier event; nan if the log knows no repeats."""


@dataclass(frozen=True)
class LogFacts:
    """What the log is."""

    name: str
    protocol: str
    periods: list[PeriodFacts]
    whole: PeriodFacts


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
    differences: list[TraitDifference]
    recovery: dict[str, float] | None
    agreement: float | None
    """Between seeds, if a comparison says it."""


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
    return Contents(
        log=log_facts(run),
        model=run.experiment.model.name,
        seed=run.experiment.seed,
        evaluation=evaluation,
        verdict=judge(comparison, run),
        comparison=comparison,
        scenarios=scenario_facts(run, predictions, draws, evaluation, None if own is None else own.agreement),
        calibration=calibration_bins(predictions, draws),
        curves=training_curves(run),
    )


def evaluation_of(run: RunFolder) -> dict[str, Any]:
    """What `evaluate` found of these very weights on the test split; measured now if it was not before."""
    file = run.evaluation_file(SPLIT)
    if file.is_file() and run.model_file.is_file() and file.stat().st_mtime_ns >= run.model_file.stat().st_mtime_ns:
        return run.read_json(str(file.relative_to(run.path)))
    return evaluate(run, SPLIT).to_json()


def log_facts(run: RunFolder) -> LogFacts:
    """Counts, periods and rates of the whole log and of each split."""
    dataset = run.dataset
    splits: tuple[Split, ...] = ("train", "valid", "test")
    return LogFacts(
        name=run.experiment.name,
        protocol=dataset.manifest.protocol,
        periods=[_period(dataset, [split], split) for split in splits],
        whole=_period(dataset, splits, SPLIT),
    )


def scenario_facts(
    run: RunFolder, predictions: Predictions, draws: UserDraws, evaluation: dict[str, Any], agreement: float | None
) -> ScenarioFacts | None:
    """Portraits, shares, confidence and feature differences; None unless there are at least two scenarios."""
    assignment = predictions.assignment
    if assignment is None or assignment.shape[1] < 2:
        return None
    figures = evaluation.get("scenarios") or {}
    share = assignment.mean(axis=0)
    used = share[share > 0]
    portraits = describe_scenarios(run, SPLIT, shown=CONTRASTS, resamples=RESAMPLES)
    largest = assignment.max(axis=1)
    return ScenarioFacts(
        assignment=str(getattr(run.experiment.model, "assignment", "soft")),
        portraits=portraits,
        mean_max_probability=float(largest.mean()),
        entropy=float(-(used * np.log(used)).sum()),
        largest_share=(np.bincount(assignment.argmax(axis=1), minlength=len(share)) / len(assignment)).tolist(),
        confidence=np.histogram(largest, bins=CONFIDENCE_BINS, range=(0, 1))[0].tolist(),
        differences=trait_differences(run.dataset, predictions, telling_traits(portraits), draws),
        recovery=figures.get("recovery"),
        agreement=agreement,
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


def _period(dataset: Dataset, splits: Sequence[Split], name: Split) -> PeriodFacts:
    """These neighbouring splits taken together."""
    manifest = dataset.manifest
    parts = [manifest.splits[split] for split in splits if manifest.splits[split].impressions]
    impressions, positives = sum(part.impressions for part in parts), sum(part.positives for part in parts)
    rows = np.concatenate([np.arange(part.begin, part.end) for part in parts]) if parts else np.arange(0)
    firsts = [part.first_time for part in parts if part.first_time is not None]
    lasts = [part.last_time for part in parts if part.last_time is not None]
    return PeriodFacts(
        split=name,
        first=_day(min(firsts), manifest.timezone) if firsts else "",
        last=_day(max(lasts), manifest.timezone) if lasts else "",
        impressions=impressions,
        requests=len(rows),
        users=len(np.unique(np.asarray(dataset.column("requests/user"))[rows])),
        positives=positives,
        click_rate=positives / impressions if impressions else float("nan"),
        repeat_share=_repeat_share(dataset, [(part.begin, part.end) for part in parts]),
    )


def _repeat_share(dataset: Dataset, spans: Sequence[tuple[int, int]]) -> float:
    """Of the positives of these requests, the share that repeats an earlier event; nan if that is unknown."""
    if not dataset.manifest.has_repeats or not dataset.has("candidates/repeat_indicator"):
        return float("nan")
    offset = dataset.column("requests/candidate_offset")
    label, repeat = dataset.column("candidates/label"), dataset.column("candidates/repeat_indicator")
    positives = repeats = 0
    for begin, end in spans:
        rows = slice(int(offset[begin]), int(offset[end]))
        clicked = np.asarray(label[rows]) == 1
        positives += int(clicked.sum())
        repeats += int((clicked & (np.asarray(repeat[rows]) > 0)).sum())
    return repeats / positives if positives else float("nan")


def _day(microseconds: int, timezone: str) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).astimezone(ZoneInfo(timezone)).date().isoformat()
