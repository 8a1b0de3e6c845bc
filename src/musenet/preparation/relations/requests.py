"""Impressions as requests: what a user was shown together, with one user, one time and one context."""

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import ibis
import ibis.expr.types as ir

from musenet.dataset.roles import ITEM, LABEL, MICROSECONDS, REQUEST, TIME, USER, WEIGHT
from musenet.engines.column_types import as_column_type
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.recipe.requests import RequestOptions
from musenet.sources.local_time import on_calendar
from musenet.sources.tables import CleaningRule, Tables

REQUEST_ROW, USER_ROW, ITEM_ROW = "_request_row", "_user_row", "_item_row"
IMPRESSIONS, PERIOD, DUPLICATE = "_impressions", "_period", "_duplicate"
VARIES = "_varies_"


@dataclass(frozen=True)
class CleanImpressions:
    """The impressions in use, each item once per request, and what was refused."""

    kept: ir.Table
    duplicates: ir.Table | None
    rules: list[CleaningRule]
    rows: int
    """Before duplicates were refused."""


def request_key(impressions: ir.Table) -> list[str]:
    """The columns that say which impressions belong together."""
    return [REQUEST] if REQUEST in impressions.columns else [USER, TIME]


def clean_impressions(
    engine: Engine, tables: Tables, columns: Sequence[str], options: RequestOptions
) -> CleanImpressions:
    """The columns in use, in plain types; of an item shown twice in a request, a positive is kept before the earliest.

    Raises:
        DataError: if the log is empty, a role is missing in a row, a label is not 0 or 1, or request ids recur.
    """
    roles = [name for name in (USER, ITEM, TIME, LABEL, REQUEST, WEIGHT) if name in tables.impressions.columns]
    source = tables.impressions
    selected = {name: source[name] for name in roles}
    selected |= {name: as_column_type(source[name], name) for name in columns}
    impressions = engine.store("impressions", source.select(**selected))
    rows = _check_roles(engine, impressions, roles)
    if REQUEST in roles:  # before rows of one id are taken for duplicates
        _refuse_recurring(engine, impressions, options.longest, tables.timezone)
    key = [*request_key(impressions), ITEM]
    repeated = impressions.group_by(key).aggregate(rows=impressions.count()).filter(ibis._.rows > 1)
    total = engine.row(repeated.aggregate(groups=repeated.count(), rows=repeated.rows.sum()))
    if not total["groups"]:
        return CleanImpressions(impressions, None, [], rows)
    order = [
        impressions[LABEL].desc(),
        *(impressions[name] for name in impressions.columns if name not in (*key, LABEL)),
    ]
    place = ibis.row_number().over(ibis.window(group_by=key, order_by=order))
    several = impressions.semi_join(repeated, key)
    numbered = engine.store("impressions_repeated", several.mutate(**{DUPLICATE: place}))
    surplus = int(str(total["rows"])) - int(str(total["groups"]))
    rule = CleaningRule("impressions", "shown twice in one request", surplus, dropped=True)
    once = impressions.anti_join(numbered, key)
    return CleanImpressions(
        engine.store("impressions_kept", once.union(numbered.filter(numbered[DUPLICATE] == 0).drop(DUPLICATE))),
        numbered.filter(numbered[DUPLICATE] > 0).drop(DUPLICATE),
        [rule],
        rows,
    )


def _check_roles(engine: Engine, impressions: ir.Table, roles: Sequence[str]) -> int:
    missing = {name: impressions[name].isnull().sum() for name in roles}
    label = impressions[LABEL]
    found = engine.row(impressions.aggregate(rows=impressions.count(), other=(~label.isin([0, 1])).sum(), **missing))
    if not found["rows"]:
        raise DataError("the log holds no impressions: check the path and what the cleaning rules refused")
    if found["other"]:
        raise DataError(
            f"{found['other']} impressions have labels other than 0 and 1: write 1 for what was taken, else 0"
        )
    for name in roles:
        if found[name]:
            raise DataError(f"{found[name]} impressions lack their {name.strip('_')}: drop them or fill it in")
    if WEIGHT in roles:
        wrong = engine.count(impressions.filter(~(impressions[WEIGHT] >= 0) | impressions[WEIGHT].isinf()))
        if wrong:
            raise DataError(f"{wrong} impressions have a weight that is negative or not finite: fix the weights")
    return int(str(found["rows"]))


def _refuse_recurring(engine: Engine, impressions: ir.Table, longest: float, timezone: str) -> None:
    """Impressions of one id that lie far apart are of several requests, some maybe of the test period."""
    spans = impressions.group_by(REQUEST).aggregate(first=impressions[TIME].min(), last=impressions[TIME].max())
    long = spans.filter(spans["last"] - spans["first"] > round(longest * MICROSECONDS))
    count = engine.count(long)
    if count:
        example = engine.row(long.order_by((long["first"] - long["last"]), REQUEST).limit(1))
        first, last = (local_text(int(str(example[end])), timezone) for end in ("first", "last"))
        raise DataError(
            f"{count} of {engine.count(spans)} requests last longer than {longest:,.0f} seconds, for "
            f"example '{example[REQUEST]}' from {first} to {last}: ids that begin anew each day, or for each user, "
            "name several requests; write request and day, or request and user, into one column, leave "
            "data.impressions.request out (same user and time is one request then), or set requests.longest if they "
            "really last so long"
        )


def group_requests(engine: Engine, impressions: ir.Table, context: Sequence[str], timezone: str) -> ir.Table:
    """One row per request: key, `_user`, `_time` (its earliest), `_impressions` and the context columns.

    Raises:
        DataError: if a request has several users, or a context column differs inside a request.
    """
    key = request_key(impressions)
    columns = {USER: impressions[USER].min(), TIME: impressions[TIME].min(), IMPRESSIONS: impressions.count()}
    columns = {name: value for name, value in columns.items() if name not in key}
    for name in context:
        columns[name] = impressions[name].min()
    checked = [*context] if USER in key else [USER, *context]
    for name in checked:
        columns[VARIES + name] = varies(impressions, impressions[name])
    groups = engine.store("request_groups", impressions.group_by(key).aggregate(**columns))
    if checked:
        counts = engine.row(groups.aggregate(**{name: groups[VARIES + name].sum() for name in checked}))
        for name in checked:
            if counts[name]:
                _refuse_varying(engine, groups, name, int(str(counts[name])), timezone)
    return groups.drop(*(VARIES + name for name in checked))


def varies(impressions: ir.Table, column: ir.Value) -> ir.Value:
    """Whether a column differs inside a group of impressions; a value beside a missing one differs, too."""
    partly_missing = (column.count() > 0) & (column.count() < impressions.count())
    return (partly_missing | (column.min() != column.max())).fill_null(False)


def _refuse_varying(engine: Engine, groups: ir.Table, name: str, count: int, timezone: str) -> None:
    key = request_key(groups)
    example = engine.row(groups.filter(groups[VARIES + name]).order_by(key).limit(1))
    if REQUEST in key:
        which = f"'{example[REQUEST]}'"
    else:
        which = f"of user '{example[USER]}' at {local_text(int(str(example[TIME])), timezone)}"
    requests = f"{count} request{'s' if count != 1 else ''} (for example {which})"
    if name == USER:
        raise DataError(
            f"{requests} hold impressions of several users: a request belongs to one user; if ids begin anew for each "
            "user, write request and user into one column"
        )
    raise DataError(f"column '{name}' differs inside {requests}: list it under features.candidate instead of context")


def local_text(time: int, timezone: str) -> str:
    """A time in microseconds as local date, hour and minute."""
    return f"{on_calendar(time).astimezone(ZoneInfo(timezone)):%Y-%m-%d %H:%M}"
