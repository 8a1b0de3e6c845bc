"""Relations of a log brought together: one type per name, attributes that only the impressions hold, the clock."""

import ibis
import ibis.expr.types as ir

from musenet.dataset.roles import ITEM, ROLES, TIME, USER
from musenet.engines.engine import Engine
from musenet.sources.files.cleaning import keep_first
from musenet.sources.files.columns import Relation
from musenet.sources.local_time import LocalTime, hour_of, weekday_of
from musenet.sources.tables import CleaningRule


def unify_types(engine: Engine, kept: dict[Relation, ir.Table]) -> list[CleaningRule]:
    """Give columns of one name one type in all relations: text, where any of them is text."""
    rules = []
    names = dict.fromkeys(name for table in kept.values() for name in table.columns)
    for name in names:
        if name in ROLES and name not in (USER, ITEM):
            continue
        types = {relation: table[name].type() for relation, table in kept.items() if name in table.columns}
        if len({kind.copy(nullable=True) for kind in types.values()}) < 2 or not any(
            kind.is_string() for kind in types.values()
        ):
            continue
        for relation, kind in types.items():
            if not kind.is_string():
                table = kept[relation]
                kept[relation] = table.mutate(**{name: table[name].cast("string")})
                rows = engine.count(table)
                rules.append(
                    CleaningRule(
                        relation, f"{name.strip('_')} is {kind} here and text elsewhere: made text", rows, False
                    )
                )
    return rules


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
    ends = impressions.agg(first=impressions[TIME].min(), last=impressions[TIME].max())
    span = engine.row(ends)
    local = LocalTime(zone, span["first"], span["last"]).to_local(impressions[TIME])
    clock = {"hour": hour_of(local), "weekday": weekday_of(local)}
    return impressions.mutate(**{name: clock[name] for name in names})
