"""Relations of a log brought together: attributes that only the impressions hold, the clock."""

import ibis
import ibis.expr.types as ir

from musenet.dataset.roles import TIME
from musenet.engines.engine import Engine
from musenet.sources.files.cleaning import keep_first
from musenet.sources.local_time import LocalTime, hour_of, weekday_of
from musenet.sources.tables import CleaningRule


def add_shown(
    engine: Engine,
    relation: str,
    table: ir.Table | None,
    impressions: ir.Table,
    key: str,
    names: list[str],
) -> tuple[ir.Table, list[CleaningRule]]:
    """Attributes that only the impressions hold: their values where the user (item) was first seen."""
    shown = impressions.select(key, TIME, *names)
    first, _ = keep_first(engine, relation, shown, key, [TIME])
    what = relation.removesuffix("s")
    varying = shown.group_by(key).agg(**{name: shown[name].nunique() > 1 for name in names})
    counts = engine.row(varying.agg(**{name: varying[name].sum() for name in names}))
    rules = [
        CleaningRule(
            relation, f"{name} changes in the impressions: its value at the {what}'s first is used", count, False
        )
        for name, count in counts.items()
        if count
    ]
    first = first.drop(TIME)
    if table is None:
        return first, rules
    joined = table.outer_join(first, key)
    columns = {key: ibis.coalesce(joined[key], joined[f"{key}_right"])}
    others = [name for name in (*table.columns, *first.columns) if name != key]
    return joined.select(**columns, **{name: joined[name] for name in others}), rules


def with_clock(engine: Engine, impressions: ir.Table, names: list[str], zone: str) -> ir.Table:
    """Columns `hour` and `weekday` on the local clock of each impression."""
    local = LocalTime.of(engine, zone, impressions[TIME], impressions).to_local(impressions[TIME])
    clock = {"hour": hour_of(local), "weekday": weekday_of(local)}
    return impressions.mutate(**{name: clock[name] for name in names})
