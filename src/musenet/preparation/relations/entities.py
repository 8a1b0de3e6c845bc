"""One row per user and per item of the log, with what is known of each."""

from collections.abc import Mapping, Sequence

import ibis.expr.types as ir

from musenet.dataset.roles import LogTable
from musenet.engines.column_types import as_column_type
from musenet.engines.engine import Engine, join
from musenet.errors import DataError
from musenet.preparation.relations.requests import VARIES, varies


def number_entities(
    engine: Engine,
    id_name: str,
    row_name: str,
    impressions: ir.Table,
    relation: ir.Table | None,
    attributes: Mapping[str, LogTable],
    also: Sequence[ir.Table] = (),
) -> ir.Table:
    """Users (or items) with their row numbers from 1 on, in order of their ids; row 0 is the unseen one.

    Args:
        engine: where the result is stored.
        id_name: `_user` or `_item`.
        row_name: the column that numbers the rows.
        impressions: the impressions in use.
        relation: the users (items) relation, if the log has one.
        attributes: the columns wanted and the relation that each comes from.
        also: further tables whose ids count, such as the events' users.

    Raises:
        DataError: if an id occurs twice in its relation, or an attribute taken from the impressions changes.
    """
    known = [impressions.select(id_name), *(table.select(id_name) for table in also)]
    if relation is not None:
        known.append(relation.select(id_name))
    ids = known[0].distinct()
    for table in known[1:]:
        ids = ids.union(table.distinct(), distinct=True)
    result = ids.filter(ids[id_name].notnull())
    own = [name for name, origin in attributes.items() if origin != "impressions"]
    if relation is not None and own:
        _check_unique(engine, relation, id_name)
        described = relation.select(id_name, **{name: as_column_type(relation[name], name) for name in own})
        result = join(result, described, [id_name], "left")
    shown = [name for name, origin in attributes.items() if origin == "impressions"]
    if shown:
        result = join(result, _from_impressions(engine, impressions, id_name, shown), [id_name], "left")
    return engine.store_numbered(f"known{id_name}s", result, row_name, [id_name], first=1)


def _check_unique(engine: Engine, relation: ir.Table, id_name: str) -> None:
    repeated = relation.group_by(id_name).aggregate(rows=relation.count())
    count = engine.count(repeated.filter(repeated.rows > 1))
    if count:
        what = id_name.strip("_")
        raise DataError(f"{count} {what}s have several rows in the {what}s table: keep one row per {what}")


def _from_impressions(engine: Engine, impressions: ir.Table, id_name: str, names: Sequence[str]) -> ir.Table:
    columns: dict[str, ir.Value] = {}
    for name in names:
        column = impressions[name]
        columns[name], columns[VARIES + name] = column.min(), varies(impressions, column)
    table = engine.store(f"shown{id_name}s", impressions.group_by(id_name).aggregate(**columns))
    counts = engine.row(table.aggregate(**{name: table[VARIES + name].sum() for name in names}))
    for name in names:
        if counts[name]:
            what = id_name.strip("_")
            raise DataError(
                f"column '{name}' changes for {counts[name]} {what}s: it is no attribute of the {what}, "
                f"list it under features.{'context' if what == 'user' else 'candidate'}"
            )
    return table.drop(*(VARIES + name for name in names))
