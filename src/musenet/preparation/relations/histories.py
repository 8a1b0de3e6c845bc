"""What a user did before a request: the last L events strictly earlier than it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from musenet.dataset.roles import ITEM, KIND, LABEL, ROLES, TIME, USER
from musenet.engines.column_types import as_column_type
from musenet.engines.engine import Engine, join
from musenet.errors import DataError
from musenet.preparation.relations.event_stream import AGAIN, EARLIER, IN_REPEATS, RepeatMarks, once_and_marked
from musenet.preparation.relations.requests import USER_ROW
from musenet.recipe.history import Before
from musenet.sources.tables import CleaningRule, Tables

COUNT, LAST = "_count", "_last"
IN_HISTORY, INCOMPLETE = "_in_history", "_incomplete"


def raw_events(tables: Tables, impressions: ir.Table, attributes: Mapping[str, str]) -> ir.Table:
    """The log's events with the columns in use; its own positives, of no kind, where it has none."""
    events = impressions.filter(impressions[LABEL] == 1) if tables.events is None else tables.events
    own = [name for name, origin in attributes.items() if origin == "events" and name not in ROLES]
    roles = [name for name in (USER, TIME, KIND, ITEM) if name in events.columns]
    return events.select(*roles, **{name: as_column_type(events[name], name) for name in own})


@dataclass(frozen=True)
class Events:
    """Those that histories or repeats count, and what became of the others."""

    table: ir.Table
    """In order of user and time, flagged `_in_history` and `_in_repeats`, with the attributes and maybe `_again`."""
    rules: list[CleaningRule]
    found: int
    """Rows before anything was dropped."""
    kept: int


def collect_events(
    engine: Engine,
    found: ir.Table,
    users: ir.Table,
    items: ir.Table,
    attributes: Mapping[str, str],
    kinds: tuple[Sequence[str] | None, Sequence[str] | None],
    marks: RepeatMarks | None,
    counted: ir.Table | None = None,
) -> Events:
    """Events of the kinds that histories or repeats count, each once, with `_user_row` and their attributes.

    Equal rows (user, time, kind, item, attributes) are one event.

    Args:
        engine: where the result is stored.
        found: as `raw_events` gives them.
        users: user ids and rows.
        items: item ids, rows and attributes.
        attributes: the columns wanted, each from `events` or `items`.
        kinds: those that count for histories and for repeats; None for all.
        marks: tells which events repeat an earlier one; None if nobody asks.
        counted: earlier events that repeats count, with `_user_row`, `_time` and the key: none of the result.

    Raises:
        DataError: if a kind is asked for that no event has.
    """
    counting = _counting_events(engine, found, kinds)
    rows = counting.table
    if counting.listed and KIND not in attributes:
        # Only compared from here on, and numbers are sorted faster than texts.
        places = ((rows[KIND] == kind, ibis.literal(place, "int16")) for place, kind in enumerate(counting.listed))
        rows = rows.mutate(**{KIND: ibis.cases(*places)})
    looked_up = [name for name, origin in attributes.items() if origin == "items"]
    if looked_up:
        rows = join(rows, items.select(ITEM, *looked_up), [ITEM], "left")
    rows = join(rows, users.select(USER, USER_ROW), [USER])
    unwanted = [name for name in (USER, KIND) if name in rows.columns and name not in attributes]
    kept = rows.drop(*unwanted).schema().to_pyarrow()
    added = counting.found - counting.incomplete - counting.other
    if counted is not None and marks is not None:
        rows = _with_last_of_each(engine, rows, counted, marks.key)
    schema = kept if marks is None else kept.append(pa.field(AGAIN, pa.bool_()))
    identity = [name for name in found.columns if name != USER]
    become = partial(once_and_marked, identity=identity, marks=marks, kept=kept.names)
    stored = engine.store_through("events", rows, [USER_ROW, TIME], become, schema)
    count = engine.count(stored)
    duplicates = added - count
    rules = [
        CleaningRule("events", "without user or time", counting.incomplete, dropped=True),
        CleaningRule("events", "of kinds that do not count", counting.other, dropped=True),
        CleaningRule("events", "exact duplicates", duplicates, dropped=True),
    ]
    return Events(stored, [rule for rule in rules if rule.rows], counting.found, count)


def _with_last_of_each(engine: Engine, rows: ir.Table, counted: ir.Table, key: Sequence[str]) -> ir.Table:
    """The rows, and `_earlier` ones: the last counted event of each user and key that they have, which is enough to
    tell which of them repeat one.
    """
    by = list(dict.fromkeys([USER_ROW, *key]))
    met = counted.semi_join(rows.select(by).distinct(), by)
    last = engine.store("last_of_each", met.group_by(by).aggregate(**{TIME: met[TIME].max()}))
    others = [name for name in rows.columns if name not in (*by, TIME, IN_REPEATS)]
    nothing = {name: ibis.null(rows[name].type()) for name in others}
    earlier = last.mutate(**nothing, **{IN_REPEATS: ibis.literal(True)}).select(rows.columns).cast(rows.schema())
    return rows.mutate(**{EARLIER: ibis.literal(False)}).union(earlier.mutate(**{EARLIER: ibis.literal(True)}))


@dataclass(frozen=True)
class _Counting:
    """Events that count, flagged `_in_history` and `_in_repeats`, and how many rows there are of others."""

    table: ir.Table
    listed: list[str]
    """The kinds that count, if not all do."""
    found: int
    incomplete: int
    other: int


def _counting_events(
    engine: Engine, found: ir.Table, kinds: tuple[Sequence[str] | None, Sequence[str] | None]
) -> _Counting:
    listed = _listed_kinds(found, kinds)
    flags = {
        name: found[KIND].isin(list(each)).fill_null(False) if each else ibis.literal(each is None)
        for name, each in zip((IN_HISTORY, IN_REPEATS), kinds, strict=True)
    }
    flagged = found.mutate(**flags, **{INCOMPLETE: found[USER].isnull() | found[TIME].isnull()})
    counts = flagged[IN_HISTORY] | flagged[IN_REPEATS]
    totals = engine.row(
        flagged.aggregate(
            found=flagged.count(),
            incomplete=flagged[INCOMPLETE].sum(),
            other=(~flagged[INCOMPLETE] & ~counts).sum(),
            **{f"of_{place}": (flagged[KIND] == kind).sum() for place, kind in enumerate(listed)},
        )
    )
    for place, kind in enumerate(listed):
        if not totals[f"of_{place}"]:
            _refuse_unknown_kind(engine, found, kind, kinds)
    numbers = {name: int(str(totals[name] or 0)) for name in ("found", "incomplete", "other")}
    kept = flagged.filter(counts & ~flagged[INCOMPLETE]).drop(INCOMPLETE)
    return _Counting(kept, [] if None in kinds else listed, **numbers)


def _listed_kinds(events: ir.Table, kinds: tuple[Sequence[str] | None, Sequence[str] | None]) -> list[str]:
    listed = list(dict.fromkeys(kind for each in kinds for kind in each or ()))
    if listed and KIND not in events.columns:
        raise DataError(
            "history.kinds or repeat.kinds is given, but the events have no kind: name its column, or leave kinds out"
        )
    return listed


def _refuse_unknown_kind(
    engine: Engine, events: ir.Table, kind: str, kinds: tuple[Sequence[str] | None, Sequence[str] | None]
) -> NoReturn:
    where = "history.kinds" if kind in (kinds[0] or ()) else "repeat.kinds"
    known = engine.read(events.select(KIND).distinct().order_by(KIND).limit(20))[KIND].to_pylist()
    raise DataError(f"{where}: no event is of kind '{kind}'; there are {', '.join(map(str, known))}")


def before(
    events: ir.Table, targets: ir.Table, by: Sequence[str], ids: Sequence[str], sums: Sequence[str], span: Before
) -> ir.Table:
    """What happened before each target: sums over the events of the same `by` whose time lies in the span.

    One window function over the union of both, in plain SQL, so that every engine can run it.

    Args:
        events: `by`, `_time` and the integer columns `sums`.
        targets: `by`, `_time` and the integer columns `ids`.
        by: columns that must be equal; NULL equals NULL here.
        ids: what identifies a target.
        sums: what is summed.
        span: how far back, relative to a target's `_time`.

    Returns:
        One row per target: `ids`, each of `sums` (0 without events), `_last`, the time of the last event or NULL.
    """
    nothing = ibis.null("int64")
    happened = events.select(
        *by,
        TIME,
        **{name: events[name].cast("int64") for name in sums},
        **{LAST: events[TIME]},
        **dict.fromkeys(ids, nothing),
    )
    asked = targets.select(
        *by, TIME, **dict.fromkeys([*sums, LAST], nothing), **{name: targets[name].cast("int64") for name in ids}
    )
    both = happened.union(asked)
    window = ibis.range_window(preceding=(span.window, span.delay + 1), group_by=list(by), order_by=TIME)
    seen = both.mutate(
        **{name: both[name].sum().over(window) for name in sums}, **{LAST: both[LAST].max().over(window)}
    )
    asked_again = seen.filter(seen[ids[0]].notnull())
    return asked_again.select(*ids, LAST, **{name: asked_again[name].cast("int64").fill_null(0) for name in sums})
