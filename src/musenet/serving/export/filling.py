"""Fills a history store with the events of a log, as preparation reads them."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import ibis.expr.types as ir
import pyarrow as pa

from musenet.dataset.roles import ITEM, KIND, MICROSECONDS, ROLES, TIME, USER
from musenet.dataset.texts import text_of
from musenet.engines.engine import Engine, failures_explained
from musenet.engines.registry import open_duckdb
from musenet.errors import StoreError
from musenet.preparation.relations.columns import resolve_columns
from musenet.preparation.relations.entities import number_entities
from musenet.preparation.relations.histories import collect_events, raw_events
from musenet.preparation.relations.requests import ITEM_ROW, USER_ROW, clean_impressions
from musenet.recipe.recipe import Recipe
from musenet.serving.store.history import Filled, PastEvent, UserEvent, WritableStore, microseconds
from musenet.serving.store.user_past import REMEMBERED_DAYS, remembered_from
from musenet.sources.tables import Source, Tables

AT_ONCE = 10_000
"""Events of one transaction, sorted by user."""


@dataclass(frozen=True)
class Filling:
    """What filling a store brought."""

    new: int
    """Events that were not known."""
    since: int | None
    """Microseconds: events before were in from an earlier filling; None if there was none."""
    late: int
    """Events before `since` that the log did not have then: they are not in."""


def fill_store(
    store: WritableStore,
    source: Source,
    recipe: Recipe,
    until: int | None = None,
    progress: Callable[[int, int], None] = lambda done, all_of_them: None,
) -> Filling:
    """Add the log's events to a store: from where an earlier filling ended, each of them once.

    Args:
        store: of the same recipe.
        source: the log that a model was trained on.
        recipe: of the experiment.
        until: microseconds; events from this time on are left out.
        progress: told how many events of how many are in.

    Raises:
        DataError: if the log cannot be read as the recipe says.
        StoreError: if the store does not answer, or cannot tell any more which of the events it holds.
    """
    with _temporary_engine() as engine:
        tables = source.tables(engine)
        events = _past_events(engine, tables, recipe)
        if until is not None:
            events = events.filter(events[TIME] < until)
        before = store.filled
        since = None if before is None else before.until if before.finished else before.since
        earlier = 0 if since is None else engine.count(events.filter(events[TIME] < since))
        ends = engine.row(events.aggregate(last=events[TIME].max(), count=events.count()))
        count = int(str(ends["count"] or 0)) - earlier
        late = earlier - before.events if before is not None and before.finished else 0
        if not count:
            return Filling(0, since, max(0, late))
        events = events if since is None else events.filter(events[TIME] >= since)
        _check_doubts(engine, store, before, events)
        end = int(str(ends["last"])) + 1
        filled = Filled(source.fingerprint(), since, end, earlier + count, time.time(), finished=False)
        store.filled = replace(filled, begun=before.begun) if before and not before.finished else filled
        new = done = 0
        for together in _in_parts(engine, events, tables.item_column):
            new += sum(store.append(together))
            done += len(together)
            progress(done, count)
        store.filled = replace(filled, finished=True)
    return Filling(new, since, max(0, late))


def _check_doubts(engine: Engine, store: WritableStore, before: Filled | None, events: ir.Table) -> None:
    """Raise `StoreError` if some of the events may be in without being recognised."""
    remembered = remembered_from(time.time())
    interrupted = before is not None and not before.finished and before.begun < remembered
    # What was sent when it happened may have come an hour later, by a clock that was behind.
    doubtful = events.filter(events[TIME] < microseconds(remembered + 3600.0))
    sent = store.begun < remembered and bool(store.some_users(1)) and engine.count(doubtful) > 0
    if interrupted or sent:
        raise StoreError(
            f"the store may hold some of the log's events since more than {REMEMBERED_DAYS} days, and cannot tell "
            "which any more: fill a new store"
        )


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
        shown = clean_impressions(engine, tables, own, recipe.requests).kept
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
    for user, item, kind, happened, described in told:
        known = {name: value for name, value in {item_column: item, **described}.items() if value is not None}
        assert user is not None
        yield UserEvent(user, PastEvent(item, kind, happened / MICROSECONDS, known))
