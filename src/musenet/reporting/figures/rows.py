"""The numbers behind each figure, as rows for a CSV file: one row per mark, bounds beside each value."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from musenet.evaluation.importance import Importance
from musenet.evaluation.intervals import Difference, Interval
from musenet.portraits.differences import TraitDifference
from musenet.portraits.over_time import SharesOverTime
from musenet.portraits.portraits import Portrait
from musenet.portraits.request_map import RequestMap
from musenet.reporting.contents import CONFIDENCE_BINS, CalibrationBin, Curves, ScenarioFacts
from musenet.reporting.gains import Gains
from musenet.reporting.words.sentences import trait_name
from musenet.studies.comparison.results import Row

Rows = list[dict[str, Any]]
"""Every row has the same keys; a value is text, a number, or None where it is not known."""


def auc_rows(models: Sequence[Row]) -> Rows:
    """A row per model."""
    return [{"model": row.name, "kind": row.role, **_with_bounds("auc", row.auc.interval)} for row in models]


def share_rows(scenarios: ScenarioFacts) -> Rows:
    """A row per scenario."""
    return [{"scenario": portrait.scenario, "share": portrait.share} for portrait in scenarios.portraits]


def confidence_rows(scenarios: ScenarioFacts) -> Rows:
    """A row per bin of the largest probability."""
    return [
        {"from": place / CONFIDENCE_BINS, "to": (place + 1) / CONFIDENCE_BINS, "requests": count}
        for place, count in enumerate(scenarios.confidence)
    ]


def portrait_rows(portraits: Sequence[Portrait], *names: str) -> Rows:
    """A row per scenario with these figures of its portrait."""
    rows: Rows = []
    for portrait in portraits:
        row: dict[str, Any] = {"scenario": portrait.scenario}
        for name in names:
            found = getattr(portrait, name)
            row |= _with_bounds(name, found) if isinstance(found, Interval) else {name: found}
        rows.append(row)
    return rows


def difference_rows(differences: Sequence[TraitDifference]) -> Rows:
    """A row per trait and scenario."""
    return [
        {"trait": trait_name(row.trait), "scenario": k, **_with_bounds("standard_deviations", interval)}
        for row in differences
        for k, interval in enumerate(row.scenarios)
    ]


def map_rows(drawn: RequestMap) -> Rows:
    """A row per request, then one per prototype."""
    requests: Rows = [
        {
            "kind": "request",
            "scenario": one.scenario,
            "probability": one.probability,
            "x": one.x,
            "y": one.y,
            "request": "; ".join(one.words),
        }
        for one in drawn.requests
    ]
    prototypes = [
        {"kind": "prototype", "scenario": k, "probability": None, "x": x, "y": y, "request": ""}
        for k, (x, y) in enumerate(drawn.prototypes)
    ]
    return requests + prototypes


def time_rows(shares: SharesOverTime) -> Rows:
    """A row per span and scenario."""
    return [
        {shares.unit: span.label, "requests": span.requests, "scenario": k, **_with_bounds("share", share)}
        for span in shares.spans
        for k, share in enumerate(span.shares)
    ]


def gain_rows(gains: Gains) -> Rows:
    """A row for all impressions and one per scenario."""
    return [
        {
            "scenario": "all" if row.scenario is None else row.scenario,
            "impressions": row.impressions,
            **_with_bounds("auc", row.auc),
            **_with_bounds("logloss", row.logloss),
        }
        for row in gains.rows
    ]


def importance_rows(found: Sequence[Importance]) -> Rows:
    """A row per feature for all requests, and one per feature and scenario."""
    return [
        {"feature": one.name, "side": one.side, "scenario": scenario, **_with_bounds("auc_lost", interval)}
        for one in found
        for scenario, interval in [("all", one.overall), *((str(k), part) for k, part in enumerate(one.scenarios))]
    ]


def calibration_rows(bins: Sequence[CalibrationBin]) -> Rows:
    """A row per bin."""
    return [
        {"predicted": part.predicted, **_with_bounds("observed", part.observed), "impressions": part.impressions}
        for part in bins
    ]


def validation_rows(curves: Curves) -> Rows:
    """A row per validation."""
    return [{"step": step, "auc": auc, "kept": int(step == curves.best_step)} for step, auc in curves.validation_auc]


def curve_rows(curves: Mapping[str, Iterable[tuple[int, float]]]) -> Rows:
    """A row per curve and step."""
    return [{"curve": name, "step": step, "value": value} for name, points in curves.items() for step, value in points]


def _with_bounds(name: str, found: Interval | Difference) -> dict[str, float]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
