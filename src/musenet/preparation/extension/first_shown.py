"""What impressions tell of users and items: their values where they were first seen, however often they come again."""

from collections.abc import Mapping
from dataclasses import replace

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import Relation
from musenet.dataset.roles import ITEM, USER
from musenet.engines.engine import Engine, join
from musenet.sources.tables import CleaningRule, Tables

_SEEN, _OWN = "_seen_before", "_own_"


def with_first_shown(engine: Engine, before: Dataset, tables: Tables) -> Tables:
    """The added tables without what their impressions tell of users and items that the dataset's impressions showed.

    A source takes such an attribute from the first impression of a user or item, missing values included. So the value
    that the dataset holds stays, as it would in the whole log read at once, and no request of the past changes.

    Args:
        engine: where the tables lie.
        before: the dataset that they are added to.
        tables: added; ids of the types that the dataset has.
    """
    sides: tuple[tuple[Relation, str, NDArray[np.integer]], ...] = (
        ("users", USER, before.requests.user),
        ("items", ITEM, before.candidates.item),
    )
    changed: dict[str, ir.Table] = {}
    rules: list[CleaningRule] = []
    for relation, id_name, rows in sides:
        table, names = getattr(tables, relation), tables.shown_attributes.get(relation, [])
        if table is None or not names:
            continue
        table = engine.store(f"added_{relation}", table)
        keys = before.keys(relation)
        shown = keys.take(pa.array(np.setdiff1d(rows, [0])))  # row 0 is the unseen one
        own = {name: shown[name] for name in names if name in shown.column_names}
        seen = ibis.memtable(
            pa.table(
                {id_name: shown[id_name], _SEEN: np.ones(len(shown), dtype=bool)}
                | {_OWN + name: values for name, values in own.items()}
            )
        )
        seen = seen.cast({id_name: table[id_name].type()})
        both = engine.store(f"first_shown_{relation}", join(table, seen, [id_name], "left"))
        again = both[_SEEN].fill_null(False)
        counts = engine.row(both.agg(**{name: (again & both[name].notnull()).sum() for name in names}))
        rules += [
            CleaningRule(relation, f"{name} of {relation} shown before: its value at their first is used", count, False)
            for name, count in counts.items()
            if count
        ]
        values = _first_values(both, again, names, own)
        changed[relation] = both.mutate(**values).select(*table.columns)
    return replace(tables, cleaning=[*tables.cleaning, *rules], **changed)


def _first_values(
    both: ir.Table, again: ir.BooleanValue, names: list[str], own: Mapping[str, pa.ChunkedArray]
) -> dict[str, ir.Value]:
    """Of those shown before, the values that events look up as they were; others are told by the dataset's own rows."""
    return {
        name: ibis.ifelse(
            again, (both[_OWN + name] if name in own else ibis.null()).cast(both[name].type()), both[name]
        )
        for name in names
    }
