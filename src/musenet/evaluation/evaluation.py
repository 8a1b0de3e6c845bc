"""`evaluate`: how good a run is on a split it was not trained on, with intervals, and under which protocol."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import Field
from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Period, Split
from musenet.evaluation.draws import UserDraws
from musenet.evaluation.estimators import METRICS, NDCG_AT
from musenet.evaluation.intervals import (
    Difference,
    Interval,
    Resampled,
    difference,
    resample_model,
    seed_and_user_interval,
)
from musenet.evaluation.predictions import Predictions
from musenet.evaluation.scenario_figures import ScenarioFigures, scenario_figures
from musenet.metrics import grouped_auc
from musenet.results import Number, Result, show

_RECALIBRATED = ("auc", "gauc", "logloss", "calibration_ratio", "calibration_error")
"""Metrics of which there are those before recalibrating."""
_TITLES = {
    "auc": "AUC",
    "gauc": "GAUC, by request",
    "gauc_by_user": "GAUC, by user",
    "ndcg": f"NDCG@{NDCG_AT}, by request",
    "logloss": "logloss",
    "calibration_ratio": "predicted / observed",
    "calibration_error": "calibration error",
}


class AdaptationFigures(Result):
    """How a model followed the period that it was measured on."""

    options: dict[str, Any]
    """How it adapts."""
    gained: dict[str, Difference]
    """AUC and logloss minus those of the same model unadapted, paired over users."""
    log_weight: list[Number] | None
    """(K) log w at the end of the period; None where it was not the mix that was followed."""
    temperature: Number | None
    """t at the end."""
    level: Number | None = None
    """b at the end, added to every scenario's logit."""
    trust: Number | None
    """Weight of the adapted prediction against the unadapted one at the end."""
    answered: int | None
    """Requests that were learned from."""


class RecalibrationFigures(Result):
    """What recalibrating changed."""

    before: dict[str, Interval]
    """Metrics of the model's own logits."""
    gained: dict[str, Difference]
    """The recalibrated ones' minus those, paired over users; AUC falls by what was tied."""


class Evaluation(Result):
    """What `evaluate` found; every metric with its 95 % interval over users."""

    written_by: ClassVar[str] = "`musenet evaluate`"

    split: Split | Literal["data"]
    """`data` of a log that is no split of the dataset."""
    impressions: int
    requests: int
    users: int
    positives: int
    protocol: str
    auc: Interval
    gauc: Interval
    """By request."""
    gauc_by_user: Interval
    ndcg: Interval
    """By request."""
    logloss: Interval
    calibration_ratio: Interval
    calibration_error: Interval
    left_out_groups: dict[str, int]
    """Requests (`gauc`) and users (`gauc_by_user`) of one class, which have no AUC of their own; rows of no weight do
    not count."""
    scenarios: ScenarioFigures | None
    weights: str | None = None
    """SHA-256 of the weights that were measured."""
    recalibration: RecalibrationFigures | None = Field(None, exclude_if=lambda value: value is None)
    """Beside the model's own logits, if they are recalibrated; all other keys are then of recalibrated ones."""
    adaptation: AdaptationFigures | None = Field(None, exclude_if=lambda value: value is None)
    """How the model adapted on the way; None if it did not. All other keys are then of the adapted model."""
    unadapted: "Evaluation | None" = Field(None, exclude_if=lambda value: value is None)
    """The same model without, beside `adaptation`."""

    @property
    def metrics(self) -> dict[str, Interval]:
        """Every metric by its name."""
        return {name: getattr(self, name) for name in METRICS}

    def show(self, console: Console) -> None:
        """Print metrics and scenarios, the protocol beside them."""
        title = f"{self.split}: {self.impressions:,} impressions, {self.positives:,} clicked, of {self.users:,} users"
        table = Table("metric", "value", "95 % interval", title=title, title_justify="left")
        if self.unadapted is not None:
            table.add_column("unadapted")
        own = None if self.recalibration is None else self.recalibration.before
        if own is not None:
            table.add_column("uncalibrated")
        for name, interval in self.metrics.items():
            before = [] if self.unadapted is None else [f"{self.unadapted.metrics[name].value:.4f}"]
            before += [] if own is None else [f"{own[name].value:.4f}" if name in own else "–"]
            bounds = f"{interval.low:.4f} … {interval.high:.4f}" if interval.low == interval.low else "–"
            value = f"{interval.value:.4f}" if interval.value == interval.value else "–"
            table.add_row(_TITLES[name], value, bounds, *before)
        console.print(table)
        if self.recalibration is not None:
            auc = self.recalibration.gained["auc"]
            console.print(f"Recalibrating changed AUC by {auc.value:+.5f} ({auc.low:+.5f} … {auc.high:+.5f}).")
        if self.adaptation is not None:
            show_adaptation(self.adaptation, console)
        console.print(f"Protocol: {self.protocol}.")
        left_out = self.left_out_groups
        console.print(
            f"GAUC leaves out {left_out['gauc']:,} requests and {left_out['gauc_by_user']:,} users of one class."
        )
        if self.scenarios is not None and self.scenarios.count > 1:
            show_scenarios(self.scenarios, console)

    def rows(self) -> list[dict[str, Any]]:
        """A row per metric, with its interval."""
        own = None if self.recalibration is None else self.recalibration.before
        return [
            {"metric": name, "value": interval.value, "low": interval.low, "high": interval.high}
            | ({} if self.unadapted is None else {"unadapted": self.unadapted.metrics[name].value})
            | ({} if own is None else {"uncalibrated": own[name].value if name in own else None})
            for name, interval in self.metrics.items()
        ]


show.register(Evaluation, Evaluation.show)


def measure(predictions: Predictions, split: Split | Literal["data"], protocol: str, draws: UserDraws) -> Evaluation:
    """The evaluation of these predictions, with intervals from these draws of their users; touches no files."""
    sample = predictions.sample()
    model = resample_model(sample, draws)
    groups = {"gauc": predictions.request, "gauc_by_user": predictions.user}
    return Evaluation(
        split=split,
        impressions=len(predictions.label),
        requests=len(predictions.requests),
        users=draws.users,
        positives=int(predictions.label.sum()),
        protocol=protocol,
        **{name: seed_and_user_interval(model, name) for name in METRICS},
        left_out_groups={
            name: grouped_auc(sample.label, sample.logit, group, sample.weight).left_out_groups
            for name, group in groups.items()
        },
        scenarios=scenario_figures(predictions, draws),
        recalibration=_recalibration(predictions, model, draws),
    )


def _recalibration(predictions: Predictions, calibrated: Resampled, draws: UserDraws) -> RecalibrationFigures | None:
    if predictions.uncalibrated is None:
        return None
    own = resample_model(replace(predictions, logit=predictions.uncalibrated).sample(), draws, _RECALIBRATED)
    return RecalibrationFigures(
        before={name: seed_and_user_interval(own, name) for name in _RECALIBRATED},
        gained={name: difference(calibrated, own, name) for name in _RECALIBRATED},
    )


def protocol_line(dataset: Dataset, measured: Split | str, period: Period | None = None) -> str:
    """How negatives came about and what is measured, in one line, to stand beside every metric.

    Args:
        dataset: what was trained on.
        measured: a split of it, or the name of another log.
        period: of that log.
    """
    manifest = dataset.manifest
    if period is None:
        period = next(period for split, period in manifest.splits.items() if split == measured)
    parts = [manifest.protocol.rstrip(". ;")]
    if manifest.negative_sampling_rate != 1:
        parts.append(f"{manifest.negative_sampling_rate:.3g} of the negatives are kept, and logloss is on those")
    parts.append(
        f"{measured} is {_between(period, manifest.timezone)}, "
        f"training {_between(manifest.splits['train'], manifest.timezone)}"
    )
    return "; ".join(parts)


def show_scenarios(figures: ScenarioFigures, console: Console) -> None:
    """Print a row per scenario, in 80 columns."""
    title = (
        f"{figures.count} scenarios: mean max probability {figures.mean_max_probability:.2f}, "
        f"entropy of use {figures.entropy:.2f} nat"
    )
    table = Table(title=title, title_justify="left", box=HORIZONTALS, padding=(0, 0, 0, 1))
    for head in (
        "scenario",
        "share",
        "repeat\nintention",
        "p_r",
        "repeats,\nof clicks",
        "click rate\non repeats",
        "click rate\non new",
    ):
        table.add_column(head, justify="right", no_wrap=True)
    for k in range(figures.count):
        p_r = "–" if figures.repeat_probability is None else f"{figures.repeat_probability[k]:.2f}"
        rates = (figures.repeat_share_of_positives, figures.click_rate_on_repeats, figures.click_rate_on_new)
        table.add_row(
            str(k),
            f"{figures.share[k]:.1%}",
            _two_lines(figures.repeat_intention[k]),
            p_r,
            *(_two_lines(intervals[k]) for intervals in rates),
        )
    console.print(table)
    if figures.recovery is not None:
        console.print(
            f"Against the true scenarios: ARI {figures.recovery['ari']:.2f}, NMI {figures.recovery['nmi']:.2f}"
        )


def show_adaptation(figures: AdaptationFigures, console: Console) -> None:
    """Print what adapting gained, and where it ended."""
    gained = figures.gained["auc"]
    console.print(f"Adapting gained {gained.value:+.4f} AUC ({gained.low:+.4f} … {gained.high:+.4f}).")
    if figures.log_weight is not None:
        weights = " ".join(f"{math.exp(log_weight):.2f}" for log_weight in figures.log_weight)
        console.print(
            f"Scenarios count {weights} times as trained, temperature {figures.temperature:.2f}, level "
            f"{figures.level:+.2f}; the adapted prediction has weight {figures.trust:.2f}, after "
            f"{figures.answered:,} answered requests."
        )


def _two_lines(interval: Interval) -> str:
    return percentage(interval).replace(" (", "\n").removesuffix(")")


def percentage(interval: Interval) -> str:
    """As a table shows it: `12.3 % (11.8 … 12.9)`."""
    if interval.value != interval.value:
        return "–"
    return f"{100 * interval.value:.1f} % ({100 * interval.low:.1f} … {100 * interval.high:.1f})"


def _between(period: Period, timezone: str) -> str:
    if period.first_time is None or period.last_time is None:
        return "empty"
    first, last = (local_day(time, timezone) for time in (period.first_time, period.last_time))
    return f"of {first}" if first == last else f"from {first} to {last}"


def local_day(microseconds: int, timezone: str) -> str:
    """The day of a time (since 1970) in a timezone, ISO 8601."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).astimezone(ZoneInfo(timezone)).date().isoformat()
