"""When the impressions lie, how to split them, and what the training period would hold."""

from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from musenet.engines.engine import Engine
from musenet.sources.files.values import as_label, as_number
from musenet.sources.guess.profiles import microseconds_of
from musenet.sources.guess.roles import Roles
from musenet.sources.local_time import DAY

TIME, LATER, POSITIVE = "_when", "_later", "_positive"
_GROWS = 0.98
_LEAST_SHARE = 0.005


@dataclass
class Periods:
    """All impressions (not only the rows looked at) with `TIME`, whether they come `LATER` than training, `POSITIVE`.

    Times are microseconds since 1970.
    """

    rows: ir.Table
    split: str
    """As the configuration writes it, with a remark."""
    first: int
    last: int
    train_rows: int
    train_requests: int
    train_items: int
    most_taken: int
    """Positives of the request with the most of them."""
    unseen: dict[str, float]
    """Share of the later impressions whose user (item) training does not hold."""

    def covered(self, engine: Engine, value: ir.Value, *, days: int = 1, of_all: bool = False) -> float:
        """Share of the later impressions (or of all) whose value occurs on so many days of training.

        Args:
            engine: where the rows are stored.
            value: of each of `rows`, such as a column of them.
            days: on how many.
            of_all: whether impressions of training are counted too.
        """
        rows = self.rows.select(value=value, day=self.rows[TIME] // DAY, later=self.rows[LATER])
        rows = rows.filter(rows.value.notnull())
        values = rows.group_by("value").agg(
            days=rows.day.nunique(where=~rows.later), counted=rows.later.sum() if not of_all else rows.count()
        )
        found = engine.row(values.agg(all=values.counted.sum(), some=values.counted.sum(where=values.days >= days)))
        return float((found["some"] or 0) / found["all"]) if found["all"] else 1.0

    def grows(self, engine: Engine, names: list[str]) -> set[str]:
        """The columns of numbers that go up or down with time."""
        clock = self.rows[TIME].cast("float64")
        r = {f"_{name}": as_number(self.rows[name]).value.cast("float64").corr(clock, how="pop") for name in names}
        found = engine.row(self.rows.agg(**r)) if names else {}
        return {name[1:] for name, value in found.items() if value is not None and abs(value) > _GROWS}


def guess_periods(engine: Engine, roles: Roles) -> Periods:
    """Look at the times of all impressions."""
    looked_at = roles.table
    table = looked_at.table if looked_at.is_whole else looked_at.file.table
    time = microseconds_of(engine, table, roles.columns["time"])
    label = roles.columns.get("label")
    positive = as_label(table[label], roles.positive_kinds or None).value == 1 if label else ibis.literal(True)
    kept = {name: table[name] for name in table.columns} | {TIME: time, POSITIVE: positive}
    rows = table.select(**kept).filter(time.notnull())
    if looked_at.is_whole:
        rows = engine.store("impressions", rows)
    split, boundary = _guess_split(engine, rows)
    rows = rows.mutate(**{LATER: rows[TIME] >= boundary})
    train = rows.filter(~rows[LATER])
    user, item = roles.columns["user"], roles.columns["item"]
    taken = train.group_by(roles.request_key).agg(taken=train[POSITIVE].sum())
    ends = engine.row(
        rows.agg(first=rows[TIME].min(), last=rows[TIME].max(), train=(~rows[LATER]).sum(), later=rows[LATER].sum())
    )
    later = rows.filter(rows[LATER])
    unseen = {
        side: engine.count(later.anti_join(train.select(name).distinct(), name)) / max(ends["later"], 1)
        for side, name in (("user", user), ("item", item))
    }
    found = engine.row(taken.agg(requests=taken.count(), most=taken.taken.max()))
    return Periods(
        rows=rows,
        split=split,
        first=ends["first"],
        last=ends["last"],
        train_rows=ends["train"],
        train_requests=found["requests"],
        train_items=engine.count(train.select(item).distinct()),
        most_taken=int(found["most"] or 0),
        unseen=unseen,
    )


def _guess_split(engine: Engine, rows: ir.Table) -> tuple[str, int]:
    """The `split` entry, and the time at which training ends."""
    days = rows.group_by(day=rows[TIME] // DAY).agg(rows=rows.count(), positives=rows[POSITIVE].sum())
    found = engine.read(days.order_by("day")).to_pylist()
    last = found[-1]["day"]
    span = last - found[0]["day"] + 1
    test, valid = min(14, max(1, round(span / 8))), min(7, max(1, round(span / 16)))
    periods = [
        [day for day in found if first <= day["day"] < until]
        for first, until in ((last - test + 1, last + 1), (last - test - valid + 1, last - test + 1))
    ]
    least = _LEAST_SHARE * sum(day["rows"] for day in found)
    enough = all(
        sum(day["rows"] for day in period) >= least and sum(day["positives"] for day in period) > 0
        for period in periods
    )
    if span < 4 or not enough:
        why = f"the log spans {span} days" if span < 4 else "its last days hold too little"
        boundary = engine.row(rows.agg(time=rows[TIME].quantile(0.8)))["time"]
        return f"split: {{parts: 10, test: 1, valid: 1}} # {why}: equal parts in order of time", int(boundary)

    def count(number: int) -> str:
        return f"{number} day{'s' if number > 1 else ''}"

    return f"split: {{test: {count(test)}, valid: {count(valid)}}} # the last days of {span}", (
        last - test - valid + 1
    ) * DAY
