"""Training, validation and test: three consecutive periods of the log."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import ibis
import ibis.expr.types as ir

from musenet.dataset.manifest import Period, Split
from musenet.dataset.roles import LABEL, TIME
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.preparation.relations.requests import IMPRESSIONS, PERIOD, local_text
from musenet.recipe.split import PartsSplit, SplitOptions, TimesSplit
from musenet.sources.local_time import on_calendar


@dataclass(frozen=True)
class Cuts:
    """Where the periods begin and end, in microseconds; requests outside of them are left out."""

    train_from: int | None
    valid_from: int
    test_from: int
    test_until: int | None

    def period_of(self, time: ir.IntegerValue) -> ir.Value:
        """0 training, 1 validation, 2 test, NULL left out."""
        period = (time >= self.valid_from).cast("int64") + (time >= self.test_from).cast("int64")
        if self.train_from is not None:
            period = (time < self.train_from).ifelse(ibis.null("int64"), period)
        if self.test_until is not None:
            period = (time >= self.test_until).ifelse(ibis.null("int64"), period)
        return period


def split_cuts(engine: Engine, options: SplitOptions, requests: ir.Table, timezone: str) -> Cuts:
    """Where the periods of these requests (`_time`, `_impressions`) begin and end."""
    zone = ZoneInfo(timezone)
    if isinstance(options, TimesSplit):
        return Cuts(
            train_from=None if options.train_from is None else microseconds(options.train_from, zone),
            valid_from=microseconds(options.valid_from, zone),
            test_from=microseconds(options.test_from, zone),
            test_until=None if options.test_until is None else microseconds(options.test_until, zone),
        )
    if isinstance(options, PartsSplit):
        train_parts = options.parts - options.test - options.valid
        test_from = _part_begins(engine, requests, options.parts - options.test, options.parts)
        return Cuts(None, _part_begins(engine, requests, train_parts, options.parts), test_from, None)
    last = int(str(engine.row(requests.aggregate(last=requests[TIME].max()))["last"]))
    day = on_calendar(last).astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    midnight = day + timedelta(days=1)
    # Subtracted on the wall clock: a day with a change to summer time is one day.
    test = midnight - timedelta(seconds=options.test)
    valid = test - timedelta(seconds=options.valid)
    return Cuts(None, microseconds(valid, zone), microseconds(test, zone), None)


def microseconds(time: datetime, zone: ZoneInfo) -> int:
    """Microseconds since 1970 of a time; without an offset it is local time of the zone."""
    aware = time if time.tzinfo else time.replace(tzinfo=zone)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _part_begins(engine: Engine, requests: ir.Table, part: int, parts: int) -> int:
    """The first time with at least part/parts of the impressions before it; one time is never split."""
    counts = requests.group_by(TIME).aggregate(rows=requests[IMPRESSIONS].sum())
    until = counts.rows.sum().over(ibis.cumulative_window(order_by=TIME))
    table = counts.mutate(before=until - counts.rows, total=counts.rows.sum().over(ibis.window()))
    found = table.filter(table.before * parts >= table.total * part)
    begins = engine.row(found.aggregate(time=found[TIME].min(), rows=found.count()))["time"]
    if begins is None:
        raise DataError(
            f"the log's last moment holds more than one of {parts} parts: split by days or by times instead"
        )
    return int(str(begins))


PERIOD_NAMES: tuple[Split, ...] = ("train", "valid", "test")


def count_shown(engine: Engine, candidates: ir.Table) -> dict[int, dict[str, int]]:
    """`rows` and `positives` of each period that has any."""
    counted = candidates.group_by(PERIOD).aggregate(rows=candidates.count(), positives=candidates[LABEL].sum())
    return {int(row[PERIOD]): row for row in engine.read(counted).to_pylist()}


def check_periods(
    engine: Engine, found: Mapping[int, Mapping[str, int]], requests: ir.Table, cuts: Cuts, timezone: str
) -> None:
    """Every period needs positives and negatives.

    Args:
        engine: where the requests lie.
        found: what each period holds, as of `count_shown`.
        requests: with their `_time`.
        cuts: where the periods begin and end.
        timezone: of the log.

    Raises:
        DataError: naming the period, its borders and the time range of the log.
    """
    begins = (cuts.train_from, cuts.valid_from, cuts.test_from)
    ends = (cuts.valid_from, cuts.test_from, cuts.test_until)
    if found and all(row["rows"] == row["positives"] for row in found.values()):
        raise DataError(
            "every label is 1, so there is nothing to tell apart: name a label column with 0 and 1, or add "
            "negatives: {per_request: 20, from: popular}"
        )
    for period, (name, begin, end) in enumerate(zip(PERIOD_NAMES, begins, ends, strict=True)):
        row = found.get(period, {"rows": 0, "positives": 0})
        lacking = "no impressions" if not row["rows"] else "no positives" if not row["positives"] else "no negatives"
        if row["rows"] and 0 < row["positives"] < row["rows"]:
            continue
        log = engine.row(requests.aggregate(first=requests[TIME].min(), last=requests[TIME].max()))
        first, last = (local_text(int(str(log[side])), timezone) for side in ("first", "last"))
        borders = [
            f"{word} {local_text(at, timezone)}" for word, at in (("from", begin), ("until", end)) if at is not None
        ]
        raise DataError(
            f"the {name} period ({' '.join(borders)}) has {lacking}; the log runs from {first} to {last} ({timezone}): "
            "change `split`"
        )


def count_periods(engine: Engine, candidates: ir.Table, requests: ir.Table) -> dict[Split, Period]:
    """What each period holds; requests are in order of periods, so that each spans some rows of them."""
    shown_by = count_shown(engine, candidates)
    asked = requests.group_by(PERIOD).aggregate(
        rows=requests.count(), first=requests[TIME].min(), last=requests[TIME].max()
    )
    asked_by = {int(row[PERIOD]): row for row in engine.read(asked).to_pylist()}
    periods: dict[Split, Period] = {}
    begin = 0
    for period, name in enumerate(PERIOD_NAMES):
        row, shown = asked_by.get(period, {"rows": 0}), shown_by.get(period, {"rows": 0, "positives": 0})
        end = begin + row["rows"]
        periods[name] = Period(
            begin=begin,
            end=end,
            impressions=shown["rows"],
            positives=int(shown["positives"]),
            first_time=row.get("first"),
            last_time=row.get("last"),
        )
        begin = end
    return periods
