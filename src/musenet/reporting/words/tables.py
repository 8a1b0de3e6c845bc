"""The report's tables; a cell keeps the exact number beside the text that people read."""

import math
from dataclasses import dataclass
from typing import Any

from musenet.evaluation.intervals import Interval
from musenet.portraits.words import MISSING, SPACE, between, number, percent, signed
from musenet.reporting.comparison import ComparisonFacts, ModelRow
from musenet.reporting.contents import Contents, ScenarioFacts
from musenet.reporting.figures.drawing import ROLE_NAMES
from musenet.reporting.log_facts import LogFacts, PeriodFacts
from musenet.reporting.words.sentences import trait_name

_METRICS = {
    "auc": "AUC",
    "gauc": "GAUC, by request",
    "gauc_by_user": "GAUC, by user",
    "logloss": "Logloss",
    "calibration_ratio": "Predicted over observed",
    "calibration_error": "Expected calibration error",
}
_PERIODS = {"train": "Training", "valid": "Validation", "test": "Test"}


@dataclass(frozen=True)
class Cell:
    """What a cell says, a second line in small, and the number behind it."""

    text: str
    detail: str = ""
    value: float | None = None

    @property
    def is_number(self) -> bool:
        """Whether it is set to the right."""
        return self.value is not None or self.text == MISSING


@dataclass(frozen=True)
class Table:
    """A caption, heads, and rows whose first cell heads the row; `strong` rows stand out."""

    caption: str
    heads: list[str]
    rows: list[list[Cell]]
    note: str = ""
    strong: tuple[int, ...] = ()


def facts(log: LogFacts) -> list[tuple[str, str]]:
    """Names and numbers of the whole log."""
    whole = log.whole
    return [
        ("Impressions", number(whole.impressions)),
        ("Requests", number(whole.requests)),
        ("Users", number(whole.users)),
        ("Click rate", percent(whole.click_rate, 2)),
        ("Repeats among clicks", percent(whole.repeat_share)),
    ]


def periods_table(log: LogFacts) -> Table:
    """The splits, a row each."""
    return Table(
        caption="Periods of the log",
        heads=["Period", "Days", "Impressions", "Requests", "Users", "Click rate", "Repeats among clicks"],
        rows=[_period_row(period) for period in log.periods],
        note="Models learn from the training period, are chosen on validation and measured on test.",
    )


def comparison_table(comparison: ComparisonFacts, subject: ModelRow | None) -> Table:
    """Models by AUC, as `compare` measured them."""
    rows = sorted(comparison.rows, key=lambda row: -row.auc.value)
    references = {row.compared_with for row in rows if row.compared_with is not None}
    reference = next(iter(references)) if len(references) == 1 else "reference"
    base = f" over {comparison.base}" if comparison.base else ""
    return Table(
        caption="Models on the test period, best first",
        heads=[
            "Model",
            "AUC",
            "GAUC",
            "Logloss",
            f"RelaImpr{base}",
            f"AUC minus {reference}",
            "p",
            "Parameters",
            "Samples/s",
        ],
        rows=[_model_row(row, comparison.base) for row in rows],
        note=f"Means of {comparison.seeds} seed{'s' if comparison.seeds != 1 else ''}; below them 95{SPACE}% "
        "intervals, bootstrap over users and seeds, paired for differences. GAUC ranks within a request. RelaImpr is "
        "the gain in AUC above chance. Parameters count the embedding table.",
        strong=tuple(place for place, row in enumerate(rows) if subject is not None and row.name == subject.name),
    )


def scenario_table(scenarios: ScenarioFacts) -> Table:
    """A row per scenario."""
    return Table(
        caption="Scenarios on the test period",
        heads=[
            "Scenario",
            "Requests",
            "Likeliest in",
            "Repeat intention",
            "p_r",
            "Repeats among clicks",
            "Click rate on repeats",
            "Click rate on new items",
        ],
        rows=[
            [
                Cell(f"Scenario {portrait.scenario}"),
                Cell(percent(portrait.share, 1), f"{number(portrait.requests)} requests", portrait.share),
                Cell(percent(largest, 1), value=largest),
                _rate_cell(portrait.repeat_intention),
                _percent_cell(portrait.repeat_probability),
                _rate_cell(portrait.repeat_share_of_positives),
                _rate_cell(portrait.click_rate_on_repeats),
                _rate_cell(portrait.click_rate_on_new),
            ]
            for portrait, largest in zip(scenarios.portraits, scenarios.largest_share, strict=True)
        ],
        note="A request counts for each scenario with the probability that it belongs there. Repeat intention is the "
        "click rate on known items as a share of the two click rates: 50 % where known and new draw alike. p_r, the "
        "model's own, means little alone: the model can move it against its scores.",
    )


def differences_table(scenarios: ScenarioFacts) -> Table:
    """The figures behind the plot of feature differences."""
    return Table(
        caption="Standardised differences from the whole log",
        heads=["Feature", *(f"Scenario {portrait.scenario}" for portrait in scenarios.portraits)],
        rows=[
            [Cell(trait_name(row.trait)), *(_signed_cell(interval) for interval in row.scenarios)]
            for row in scenarios.differences
        ],
    )


def metrics_table(contents: Contents) -> Table:
    """What `evaluate` measured of this run."""
    found = contents.evaluation
    return Table(
        caption="This run on the test period",
        heads=["Metric", "Value", f"95{SPACE}% interval"],
        rows=[
            [Cell(title), _number_cell(found[name]["value"], 4), Cell(_plain_bounds(found[name]))]
            for name, title in _METRICS.items()
            if found.get(name) is not None
        ],
        note="GAUC leaves out "
        f"{number(found['left_out_groups']['gauc'])} requests and {number(found['left_out_groups']['gauc_by_user'])} "
        "users whose impressions were all clicked or all not."
        if found.get("left_out_groups")
        else "",
    )


def _period_row(period: PeriodFacts) -> list[Cell]:
    days = MISSING if not period.first else period.first
    return [
        Cell(_PERIODS[period.split]),
        Cell(days if period.first == period.last else f"{period.first} to {period.last}"),
        _number_cell(period.impressions),
        _number_cell(period.requests),
        _number_cell(period.users),
        _percent_cell(period.click_rate, 2),
        _percent_cell(period.repeat_share),
    ]


def _model_row(row: ModelRow, base: str | None) -> list[Cell]:
    is_reference = row.compared_with == row.name
    relative, difference = row.rela_impr, row.difference
    return [
        Cell(row.name, ROLE_NAMES[row.role]),
        _interval_cell(row.auc),
        _number_cell(row.gauc, 4),
        _number_cell(row.logloss, 4),
        Cell(MISSING)
        if relative is None or row.name == base
        else Cell(_signed_percent(relative.value), _percent_bounds(relative), _known(relative.value)),
        Cell(MISSING)
        if difference is None or is_reference
        else Cell(signed(difference.value), between(difference.low, difference.high), _known(difference.value)),
        Cell(MISSING) if difference is None or is_reference else _number_cell(difference.p, 3),
        _number_cell(row.parameters),
        _number_cell(row.samples_per_second),
    ]


def _number_cell(value: float | None, digits: int = 0) -> Cell:
    return Cell(number(value, digits), value=_known(value))


def _percent_cell(value: float | None, digits: int = 1) -> Cell:
    return Cell(percent(value, digits), value=_known(value))


def _interval_cell(interval: Interval) -> Cell:
    return Cell(
        number(interval.value, 4), _range(number(interval.low, 4), number(interval.high, 4)), _known(interval.value)
    )


def _rate_cell(interval: Interval) -> Cell:
    bounds = _range(percent(interval.low, 1), percent(interval.high, 1))
    return Cell(percent(interval.value, 1), bounds, _known(interval.value))


def _signed_cell(interval: Interval) -> Cell:
    bounds = _range(signed(interval.low, 2), signed(interval.high, 2))
    return Cell(signed(interval.value, 2), bounds, _known(interval.value))


def _signed_percent(value: float) -> str:
    return MISSING if math.isnan(value) else f"{signed(100 * value, 1)}{SPACE}%"


def _percent_bounds(interval: Interval) -> str:
    return _range(_signed_percent(interval.low), _signed_percent(interval.high))


def _plain_bounds(metric: dict[str, Any]) -> str:
    return _range(number(metric.get("low"), 4), number(metric.get("high"), 4)) or MISSING


def _range(low: str, high: str) -> str:
    return "" if MISSING in (low, high) else f"{low} to {high}"


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
