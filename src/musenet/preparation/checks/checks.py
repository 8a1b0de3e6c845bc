"""What preparation saw: rows, periods, features, and warnings for what looks leaked or lost."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from musenet.dataset.manifest import Field, FieldSide, Part, Split
from musenet.errors import DatasetError
from musenet.preparation.relations.requests import local_text

FILE = "checks.json"
LEAKED_AUC = 0.9
MOSTLY = 0.5
OWN_EVENT_SECONDS = 60
OWN_EVENT_SHARE = 0.05
OWN_EVENT_RATIO = 5.0


class RowCount(Part):
    """Rows of one table that were read, dropped, mended or kept, and why."""

    table: str
    what: str
    rows: int


class PeriodCheck(Part):
    """One split; shares are of impressions unless they say otherwise, None where nothing is counted."""

    split: Split
    first_time: int | None
    last_time: int | None
    requests: int
    impressions: int
    positives: int
    users: int
    request_size_mean: float
    request_size_min: int
    request_size_median: float
    request_size_max: int
    repeat_share: float | None
    repeat_share_of_positives: float | None
    unseen_users: float
    """Share of impressions whose user has no training impressions."""
    empty_histories: float
    """Share of requests without any event before."""

    @property
    def click_rate(self) -> float:
        """Share of positives."""
        return self.positives / self.impressions


class FeatureCheck(Part):
    """One feature: `missing` of all rows, `unseen` of validation and test values, and its AUC alone on validation."""

    feature: str
    side: FieldSide
    missing: float
    unseen: float | None = None
    """Values without a code of their own: not in training, or rarer there than `min_count`."""
    auc: float | None = None


class OwnEvents(Part):
    """Share of positives and of negatives with an event of the same user and item shortly before."""

    of_positives: float
    of_negatives: float


class Checks(Part):
    """All that `prepare` ends with; `render` shows it."""

    protocol: str
    timezone: str
    rows: list[RowCount]
    periods: list[PeriodCheck]
    features: list[FeatureCheck]
    repeat_auc: float | None
    """Of the repeat indicator alone, on validation."""
    own_events: OwnEvents | None
    warnings: list[str]

    def missing_with(self, field: Field, missing: float, impressions: int) -> float:
        """A feature's share of missing impressions once more are added: these, and what they lack."""
        before = sum(period.impressions for period in self.periods)
        lacked = next(
            (one.missing for one in self.features if (one.side, one.feature) == (field.side, feature_name(field))), 0.0
        )
        return (lacked * before + missing * impressions) / (before + impressions)

    def write(self, folder: Path) -> None:
        """Write `checks.json`."""
        (folder / FILE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


def feature_name(field: Field) -> str:
    """What a field's feature is called where people read of it: the log's column."""
    return field.column or field.name


def sum_of_rows(before: Iterable[RowCount], added: Iterable[RowCount]) -> list[RowCount]:
    """The counts of a log in two parts; a table's rows are read first, kept last."""
    counts: dict[tuple[str, str], int] = {}
    for count in (*before, *added):
        counts[count.table, count.what] = counts.get((count.table, count.what), 0) + count.rows
    tables, places = list(dict.fromkeys(table for table, _ in counts)), {"read": 0, "kept": 2}
    keys = sorted(counts, key=lambda key: (tables.index(key[0]), places.get(key[1], 1)))
    return [RowCount(table=table, what=what, rows=counts[table, what]) for table, what in keys]


def read_checks(folder: Path) -> Checks:
    """The checks of a prepared dataset.

    Raises:
        DatasetError: if they are missing or damaged.
    """
    try:
        return Checks.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise DatasetError(f"{folder / FILE} is missing or damaged: prepare the dataset again") from error


def leak_warnings(features: Iterable[FeatureCheck], repeat_auc: float | None, own: OwnEvents | None) -> Iterator[str]:
    """Sentences about what looks as if it knew the label."""
    for check in features:
        if check.auc is not None and check.auc > LEAKED_AUC:
            yield (
                f"{check.side} feature '{check.feature}' alone reaches AUC {check.auc:.3f} on validation: "
                "is it known before the label?"
            )
    if repeat_auc is not None and repeat_auc > LEAKED_AUC:
        yield f"the repeat indicator alone reaches AUC {repeat_auc:.3f} on validation: do events hold the labels?"
    if own and own.of_positives > OWN_EVENT_SHARE and own.of_positives > OWN_EVENT_RATIO * own.of_negatives:
        yield (
            f"{own.of_positives:.0%} of the positives, but {own.of_negatives:.1%} of the negatives, have an event of "
            f"the same user and item in the last {OWN_EVENT_SECONDS} seconds of their history: the events may hold "
            "the labels themselves; set history.delay"
        )


def feature_warnings(features: Iterable[FeatureCheck], ids: Collection[str]) -> Iterator[str]:
    """Sentences about features that say nothing, and about ids that training hardly knows."""
    for check in features:
        if check.missing == 1.0:
            yield (
                f"{check.side} feature '{check.feature}' is missing in every row: is it filled in, and do the ids of "
                "its table match those of the impressions?"
            )
        if check.feature in ids and check.side in ("user", "item") and (check.unseen or 0.0) > MOSTLY:
            yield (
                f"{check.unseen:.0%} of the validation and test impressions are of {check.side}s that training hardly "
                f"knows, so that their ids say nothing: `model.ids` should not hold `{check.side}`"
            )


def period_warnings(periods: Iterable[PeriodCheck]) -> Iterator[str]:
    """Sentences about periods that training says little about."""
    for period in periods:
        if period.split == "test" and period.unseen_users > 0.5:
            yield f"{period.unseen_users:.0%} of the test impressions are of users without training impressions"
        if period.split != "train" and period.empty_histories > 0.9:
            yield (
                f"{period.empty_histories:.0%} of the {period.split} requests have no event before them: "
                "check the events' users, times and kinds"
            )
        if period.repeat_share == 0:
            yield f"no candidate of the {period.split} period repeats an event: check repeat.key and repeat.kinds"


def render(checks: Checks, console: Console) -> None:
    """Print the tables, then the warnings."""
    for part in (_rows(checks), _periods(checks), _features(checks)):
        console.print(part)
    console.print(Text(f"protocol: {checks.protocol}"), soft_wrap=True)
    for warning in checks.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)


def _rows(checks: Checks) -> RenderableType:
    table = Table(title="rows", title_justify="left")
    table.add_column("table")
    table.add_column("what")
    table.add_column("rows", justify="right")
    for row in checks.rows:
        table.add_row(row.table, row.what, f"{row.rows:,}")
    return table


def _periods(checks: Checks) -> RenderableType:
    table = Table(title=f"periods ({checks.timezone})", title_justify="left")
    table.add_column("")
    for period in checks.periods:
        table.add_column(period.split, justify="right")

    def line(name: str, values: Iterable[str]) -> None:
        table.add_row(name, *values)

    periods = checks.periods
    line("from", (_time(period.first_time, checks.timezone) for period in periods))
    line("to", (_time(period.last_time, checks.timezone) for period in periods))
    line("requests", (f"{period.requests:,}" for period in periods))
    line("impressions", (f"{period.impressions:,}" for period in periods))
    line("users", (f"{period.users:,}" for period in periods))
    line("click rate", (f"{period.click_rate:.2%}" for period in periods))
    sizes = ((p.request_size_mean, p.request_size_min, p.request_size_median, p.request_size_max) for p in periods)
    line("request size: mean (min, median, max)", (f"{m:.1f} ({a}, {d:g}, {z})" for m, a, d, z in sizes))
    line("repeats, of impressions", (_share(period.repeat_share) for period in periods))
    line("repeats, of positives", (_share(period.repeat_share_of_positives) for period in periods))
    line("impressions of users unseen in training", (_share(period.unseen_users) for period in periods))
    line("requests without history", (_share(period.empty_histories) for period in periods))
    return table


def _features(checks: Checks) -> RenderableType:
    table = Table(title="features", title_justify="left")
    for name in ("feature", "side"):
        table.add_column(name)
    for name in ("missing", "unseen in training", "AUC alone"):
        table.add_column(name, justify="right")
    for check in checks.features:
        auc = "" if check.auc is None else f"{check.auc:.3f}"
        table.add_row(check.feature, check.side, _share(check.missing), _share(check.unseen), auc)
    if checks.repeat_auc is not None:
        table.add_row("repeat indicator", "candidate", "", "", f"{checks.repeat_auc:.3f}")
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _time(time: int | None, timezone: str) -> str:
    return "" if time is None else local_text(time, timezone)
