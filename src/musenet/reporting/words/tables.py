"""The report's tables; a cell keeps the exact number beside the text that people read."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from musenet.evaluation.estimators import NDCG_AT
from musenet.evaluation.intervals import Interval
from musenet.portraits.words import MISSING, SPACE, between, number, percent, signed
from musenet.reporting.contents import Contents, ScenarioFacts
from musenet.reporting.log_facts import LogFacts, PeriodFacts
from musenet.reporting.words.sentences import ROLE_NAMES, trait_name
from musenet.studies.comparison.results import Comparison, Row
from musenet.studies.comparison.table import seeds_of

_METRICS = {
    "auc": "AUC",
    "gauc": "GAUC, by request",
    "gauc_by_user": "GAUC, by user",
    "ndcg": f"NDCG@{NDCG_AT}, by request",
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
        rows=[[Cell(_PERIODS[split]), *_period_cells(period)] for split, period in log.periods.items()],
        note="Models learn from the training period, are chosen on validation and measured on test.",
    )


def comparison_table(comparison: Comparison) -> Table:
    """Models by AUC, as `compare` measured them: how good they are and how they differ."""
    rows = _best_first(comparison)
    return Table(
        caption="Models on the test period, best first",
        heads=[
            "Model",
            "AUC",
            "GAUC",
            "NDCG",
            "Logloss",
            "Predicted / observed",
            f"RelaImpr over {comparison.base}",
            f"AUC minus {comparison.reference}",
            "p (Holm)",
        ],
        rows=[_model_row(row, comparison) for row in rows],
        note=f"Means of {seeds_of(comparison)}; below them 95{SPACE}% "
        "intervals, bootstrap over users and seeds, paired for differences. GAUC and "
        f"NDCG@{comparison.ndcg_at} rank within a request. RelaImpr is the gain in AUC above chance. p-values are "
        "corrected by Holm's method for the number of rows.",
        strong=_reference_of(rows, comparison),
    )


def model_facts_table(comparison: Comparison) -> Table:
    """What else `compare` tells of the models: a table of its own, since one of all would be twice a phone's width."""
    rows = _best_first(comparison)
    columns = _facts_of_models(comparison)
    notes = {
        "Loss": "Loss is the AUC where trained minus that of the test period here.",
        "ARI": "ARI compares scenarios with the true ones.",
        "Tuned by": "Tuned by is the validation score of the chosen values minus that of the next ones, below it the "
        "standard deviation of seeds.",
        "Seeds agree": "Seeds agree is the adjusted Rand index between the scenarios of two seeds.",
        "Parameters": "Parameters are those outside the embedding table.",
    }
    return Table(
        caption="The same models: validation, size and time",
        heads=["Model", *columns],
        rows=[[Cell(row.name), *(cell_of(row) for cell_of in columns.values())] for row in rows],
        note=" ".join(note for head, note in notes.items() if head in columns),
        strong=_reference_of(rows, comparison),
    )


def _best_first(comparison: Comparison) -> list[Row]:
    """Its rows by their AUC."""
    return sorted(comparison.models, key=lambda row: -row.auc.mean)


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
                Cell(f"Scenario {portrait.scenario}: {portrait.name}"),
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
    metrics, left_out = contents.evaluation.metrics, contents.evaluation.left_out_groups
    return Table(
        caption="This run on the test period",
        heads=["Metric", "Value", f"95{SPACE}% interval"],
        rows=[
            [Cell(title), _number_cell(metrics[name].value, 4), Cell(_plain_bounds(metrics[name]))]
            for name, title in _METRICS.items()
        ],
        note=f"GAUC leaves out {number(left_out['gauc'])} requests and {number(left_out['gauc_by_user'])} users whose "
        "impressions were all clicked or all not.",
    )


def _period_cells(period: PeriodFacts) -> list[Cell]:
    days = period.first if period.first == period.last else f"{period.first} to {period.last}"
    return [
        Cell(days or MISSING),
        _number_cell(period.impressions),
        _number_cell(period.requests),
        _number_cell(period.users),
        _percent_cell(period.click_rate, 2),
        _percent_cell(period.repeat_share),
    ]


def _model_row(row: Row, comparison: Comparison) -> list[Cell]:
    is_reference, is_base = row.name == comparison.reference, row.name == comparison.base
    relative, to = row.rela_impr, row.difference_to
    return [
        Cell(row.name, ROLE_NAMES[row.role]),
        _interval_cell(row.auc.interval),
        _number_cell(row.gauc.mean, 4),
        _number_cell(row.ndcg.mean, 4),
        _number_cell(row.logloss.mean, 4),
        _number_cell(row.calibration_ratio.mean, 3),
        Cell(MISSING)
        if is_base
        else Cell(_signed_percent(relative.value), _percent_bounds(relative), _known(relative.value)),
        Cell(MISSING) if is_reference else Cell(signed(to.value), between(to.low, to.high), _known(to.value)),
        Cell(MISSING) if is_reference else _p_cell(to.p_holm),
    ]


def _facts_of_models(comparison: Comparison) -> dict[str, Callable[[Row], Cell]]:
    """Heads, and the cell of a row; columns in which no row has anything are left out."""
    rows = comparison.models
    found: dict[str, Callable[[Row], Cell]] = {"AUC on validation": lambda row: _number_cell(row.valid_auc, 4)}
    if comparison.where_trained is not None:
        found |= {
            "AUC where trained": lambda row: (
                Cell(MISSING) if row.auc_where_trained is None else _interval_cell(row.auc_where_trained.interval)
            ),
            "Loss": lambda row: Cell(MISSING) if row.loss is None else _signed_cell(row.loss.interval, 4),
            f"Loss over {comparison.reference}": lambda row: (
                Cell(MISSING)
                if row.loss is None or row.name == comparison.reference
                else _signed_cell(row.loss.over_reference, 4)
            ),
        }
    if any(row.recovery is not None for row in rows):
        found["ARI"] = lambda row: _number_cell(None if row.recovery is None else row.recovery["ari"], 2)
    if any(row.tuning_margin is not None for row in rows):
        found["Tuned by"] = lambda row: replace(
            _number_cell(row.tuning_margin, 4),
            detail="" if row.tuning_spread is None else f"± {number(row.tuning_spread, 4)}",
        )
    if any(row.agreement is not None for row in rows):
        found["Seeds agree"] = lambda row: _number_cell(row.agreement, 2)
    found["Parameters"] = lambda row: _number_cell(row.parameters_outside_embedding)
    found["s/epoch"] = lambda row: _number_cell(row.seconds_per_epoch, 1)
    return found


def _reference_of(rows: list[Row], comparison: Comparison) -> tuple[int, ...]:
    return tuple(place for place, row in enumerate(rows) if row.name == comparison.reference)


def _p_cell(p: float) -> Cell:
    return Cell("<0.001", value=p) if p < 0.001 else _number_cell(p, 3)


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


def _signed_cell(interval: Interval, digits: int = 2) -> Cell:
    bounds = _range(signed(interval.low, digits), signed(interval.high, digits))
    return Cell(signed(interval.value, digits), bounds, _known(interval.value))


def _signed_percent(value: float) -> str:
    return MISSING if math.isnan(value) else f"{signed(100 * value, 1)}{SPACE}%"


def _percent_bounds(interval: Interval) -> str:
    return _range(_signed_percent(interval.low), _signed_percent(interval.high))


def _plain_bounds(metric: Interval) -> str:
    return _range(number(metric.low, 4), number(metric.high, 4)) or MISSING


def _range(low: str, high: str) -> str:
    return "" if MISSING in (low, high) else f"{low} to {high}"


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
