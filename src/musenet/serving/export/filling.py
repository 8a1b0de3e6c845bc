"""Fills a history store with the events of a log, as preparation reads them."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import ibis.expr.types as ir
import pyarrow as pa

from musenet.dataset.roles import ITEM, KIND, MICROSECONDS, ROLES, TIME, USER
from musenet.dataset.texts import text_of
from musenet.engines.engine import Engine, failures_explained, open_duckdb
from musenet.preparation.relations.columns import resolve_columns
from musenet.preparation.relations.entities import number_entities
from musenet.preparation.relations.histories import collect_events, raw_events
from musenet.preparation.relations.requests import ITEM_ROW, USER_ROW, clean_impressions
from musenet.recipe.recipe import Recipe
from musenet.serving.store.history import PastEvent, UserEvent, WritableStore
from musenet.sources.tables import Source, Tables

AT_ONCE = 10_000
"""Events of one transaction, sorted by user."""


def fill_store(
    store: WritableStore,
    source: Source,
    recipe: Recipe,
    until: int | None = None,
    progress: Callable[[int, int], None] = lambda done, all_of_them: None,
) -> int:
    """Add the log's events to a store; those that it holds already are not counted twice.

    Args:
        store: of the same recipe.
        source: the log that a model was trained on.
        recipe: of the experiment.
        until: microseconds; events from this time on are left out.
        progress: told how many events of how many are in.

    Returns:
        How many events were new.

    Raises:
        DataError: if the log cannot be read as the recipe says.
        StoreError: if the store does not answer.
    """
    new = done = 0
    with _temporary_engine() as engine:
        tables = source.tables(engine)
        events = _past_events(engine, tables, recipe)
        if until is not None:
            events = events.filter(events[TIME] < until)
        count = engine.count(events)
        for together in _in_parts(engine, events, tables.item_column):
            new += sum(store.append(together))
            done += len(together)
            progress(done, count)
    return new


@contextmanager
def _temporary_engine() -> Iterator[Engine]:
    with (
        tempfile.TemporaryDirectory(prefix="musenet-") as folder,
        failures_explained(Path(folder)),
        closing(open_duckdb(Path(folder))) as engine,
    ):
        yield engine


def _past_events(engine: Engine, tables: Tables, recipe: Recipe) -> ir.Table:
    """Every event that counts, once, with its user's id and the attributes that histories and repeat keys read."""
    columns = resolve_columns(tables, recipe)
    shown = tables.impressions
    if tables.events is None:
        own = [name for name, origin in columns.event.items() if origin == "events" and name not in ROLES]
        shown = clean_impressions(engine, tables, own).kept
    found = raw_events(tables, shown, columns.event)
    users = number_entities(engine, USER, USER_ROW, found, None, {})
    looked_up = {name: origin for name, origin in columns.event.items() if origin == "items"}
    items = number_entities(engine, ITEM, ITEM_ROW, tables.impressions, tables.items, looked_up)
    kinds = (recipe.history.kinds, recipe.repeat.kinds if recipe.repeat else [])
    wanted = {**columns.event, USER: "events", **({KIND: "events"} if KIND in found.columns else {})}
    return collect_events(engine, found, users, items, wanted, kinds, marks=None).table


def _in_parts(engine: Engine, events: ir.Table, item_column: str) -> Iterator[list[UserEvent]]:
    for chunk in engine.chunks(events):
        for begin in range(0, chunk.num_rows, AT_ONCE):
            yield list(_new_events(chunk.slice(begin, AT_ONCE), item_column))


def _new_events(rows: pa.Table, item_column: str) -> Iterator[UserEvent]:
    def texts(name: str) -> list[str | None]:
        if name not in rows.column_names:
            return [None] * rows.num_rows
        listed: list[str | None] = text_of(rows[name]).to_pylist()
        return listed

    own = [name for name in rows.column_names if not name.startswith("_")]
    attributes = rows.select(own).to_pylist() if own else [{} for _ in range(rows.num_rows)]
    told = zip(texts(USER), texts(ITEM), texts(KIND), rows[TIME].to_pylist(), attributes, strict=True)
    for user, item, kind, time, described in told:
        known = {name: value for name, value in {item_column: item, **described}.items() if value is not None}
        assert user is not None
        yield UserEvent(user, PastEvent(item, kind, time / MICROSECONDS, known))
