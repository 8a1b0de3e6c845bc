"""Had this before? Repeat indicator, count and recency of a candidate, repeat fraction of a request."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import ibis
import ibis.expr.types as ir

from musenet.dataset.roles import TIME
from musenet.engines.column_types import common_type
from musenet.engines.engine import Engine
from musenet.preparation.relations.histories import COUNT, before
from musenet.preparation.relations.requests import ITEM_ROW, REQUEST_ROW, USER_ROW
from musenet.recipe.history import Before


def with_comparable_keys(events: ir.Table, candidates: ir.Table, key: Sequence[str]) -> tuple[ir.Table, ir.Table]:
    """Both tables with the key's columns cast to a common type.

    Raises:
        DataError: if a column is text on one side and a number on the other.
    """
    kinds = {
        name: common_type(
            (events[name].type()(nullable=True), candidates[name].type()(nullable=True)), f"repeat.key: '{name}'"
        )
        for name in key
    }
    return (
        events.mutate(**{name: events[name].cast(kind) for name, kind in kinds.items()}),
        candidates.mutate(**{name: candidates[name].cast(kind) for name, kind in kinds.items()}),
    )


def candidate_repeats(
    engine: Engine, events: ir.Table, candidates: ir.Table, key: Sequence[str], optional: Sequence[str], span: Before
) -> ir.Table:
    """Count and time of the last of the user's events with each candidate's repeat key, before its request.

    Args:
        engine: keeps the events that may matter.
        events: `_user_row`, `_time` and the key.
        candidates: `_request_row`, `_item_row`, `_user_row`, `_time` (the request's) and the key.
        key: columns that must be equal and not NULL.
        optional: those of them that set no condition where a candidate lacks them.
        span: how far back an event counts.

    Returns:
        `_request_row`, `_item_row`, `_count`, `_last` of those candidates whose user ever had an event of that key.
    """
    parts = []
    for lacking in _subsets(optional):
        conditions = [name for name in key if name not in lacking]
        asked = candidates.filter([candidates[name].isnull() for name in lacking]) if lacking else candidates
        asked = _complete(asked, conditions)
        by = [USER_ROW, *conditions]
        # Most events are of keys that no candidate has, and most candidates repeat nothing: neither enters the window.
        met = _complete(events, conditions).semi_join(asked.select(by).distinct(), by)
        met = engine.store("met", met.group_by([*by, TIME]).aggregate(**{COUNT: ibis._.count()}))
        relevant = asked.semi_join(met.select(by).distinct(), by)
        parts.append(before(met, relevant, by, [REQUEST_ROW, ITEM_ROW], [COUNT], span))
    return ibis.union(*parts) if len(parts) > 1 else parts[0]


def _subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for size in range(len(names) + 1):
        yield from combinations(names, size)


def _complete(table: ir.Table, key: Sequence[str]) -> ir.Table:
    for name in key:
        table = table.filter(table[name].notnull())
    return table
