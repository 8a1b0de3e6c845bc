"""The relational half of preparation: from a source's tables to ordered users, items, events, requests, candidates."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa

from musenet.dataset.roles import ITEM, LABEL, REQUEST, TIME, USER, WEIGHT
from musenet.engines.engine import Engine, join
from musenet.errors import DataError
from musenet.preparation.relations.columns import Columns, resolve_columns
from musenet.preparation.relations.entities import number_entities
from musenet.preparation.relations.event_stream import IN_REPEATS, RepeatMarks
from musenet.preparation.relations.histories import COUNT as EVENTS_BEFORE
from musenet.preparation.relations.histories import IN_HISTORY, LAST, collect_events, raw_events
from musenet.preparation.relations.negatives import NegativeSampler
from musenet.preparation.relations.past import SHOWN, Past
from musenet.preparation.relations.repeats import candidate_repeats, with_comparable_keys
from musenet.preparation.relations.requests import (
    IMPRESSIONS,
    ITEM_ROW,
    PERIOD,
    REQUEST_ROW,
    USER_ROW,
    clean_impressions,
    group_requests,
    request_key,
)
from musenet.preparation.relations.split import Cuts, check_periods, count_shown, split_cuts
from musenet.recipe.history import Before
from musenet.recipe.negatives import NegativeOptions
from musenet.recipe.recipe import Recipe
from musenet.sources.tables import CleaningRule, Tables

REPEAT_COUNT, REPEAT_LAST = "_repeat_count", "_repeat_last"
KEY = "_key_"


@dataclass(frozen=True)
class Relations:
    """Everything that is encoded, stored in the engine."""

    users: ir.Table
    items: ir.Table
    events: ir.Table
    requests: ir.Table
    candidates: ir.Table
    cuts: Cuts
    columns: Columns
    protocol: str
    rules: list[CleaningRule]
    duplicates: ir.Table | None
    rows: dict[str, int] = field(default_factory=dict)
    """Impressions and events as the source gave them, and events kept."""

    @property
    def stored_events(self) -> ir.Table:
        """The events that histories hold."""
        return self.events.filter(self.events[IN_HISTORY])


def build_relations(
    engine: Engine, tables: Tables, recipe: Recipe, say: Callable[[str], None], past: Past | None = None
) -> Relations:
    """Group, split, sample, number, and count what came before.

    Args:
        engine: where the relations are stored.
        tables: the log's; or what is added to one that was prepared before.
        recipe: what is asked of them.
        say: told of each step.
        past: what came before the tables' rows, if they are added.

    Raises:
        DataError: whatever the log and the recipe disagree on, in one sentence.
    """
    columns = resolve_columns(tables, recipe)
    say("grouping impressions into requests")
    clean = clean_impressions(engine, tables, _needed(tables, columns), recipe.requests)
    groups = group_requests(engine, clean.kept, columns.context, tables.timezone)
    timed = groups if past is None else past.with_times(engine, groups, tables.timezone)
    cuts = split_cuts(engine, recipe.split, timed, tables.timezone)
    say("numbering users, items and requests")
    found = raw_events(tables, clean.kept, columns.event)
    users = number_entities(engine, USER, USER_ROW, clean.kept, tables.users, columns.user, [found])
    items = number_entities(engine, ITEM, ITEM_ROW, clean.kept, tables.items, columns.item)
    requests, left_out = _number_requests(engine, groups, users, cuts)
    shown = _shown(clean.kept, requests, items, columns)
    protocol = tables.protocol
    if isinstance(recipe.negatives, NegativeOptions):
        say("sampling negatives")
        drawable = _drawable(recipe.negatives, tables, cuts, clean.kept, shown, requests, items)
        shown = _with_negatives(engine, recipe.negatives, recipe.seed, shown, items, drawable)
        requests = requests.mutate(**{IMPRESSIONS: requests[IMPRESSIONS] + recipe.negatives.per_request})
        protocol = f"{protocol}; {recipe.negatives.protocol}"
    candidates = engine.store("candidates", _describe(shown, requests, items, columns))
    shown_by = count_shown(engine, candidates)
    check_periods(engine, past.with_shown(shown_by, cuts) if past else shown_by, timed, cuts, tables.timezone)
    say("collecting events")
    kinds = (recipe.history.kinds, recipe.repeat.kinds if recipe.repeat else [])
    marks = _repeat_marks(columns, recipe)
    counted = None if past is None or marks is None else past.counted_of(engine, users, list(columns.key))
    events = collect_events(engine, found, users, items, columns.event, kinds, marks, counted)
    if past:
        past.check_events(engine, events.table, users, recipe.history.delay)
    relations = Relations(
        users=users,
        items=items,
        events=events.table,
        requests=requests,
        candidates=candidates,
        cuts=cuts,
        columns=columns,
        protocol=protocol,
        rules=[*clean.rules, *left_out, *events.rules],
        duplicates=clean.duplicates,
        rows={"impressions": clean.rows, "events": events.found, "kept_events": events.kept},
    )
    say("counting what came before each request")
    return _with_repeats(engine, relations, recipe, counted)


def _repeat_marks(columns: Columns, recipe: Recipe) -> RepeatMarks | None:
    if recipe.repeat is None:
        return None
    return RepeatMarks(list(columns.key), Before.of(recipe.history.delay, recipe.repeat.window).window)


def _needed(tables: Tables, columns: Columns) -> list[str]:
    """Columns of the impressions in use; a log without events describes its own positives with them."""
    own = [name for name, origin in columns.event.items() if origin == "events" and name not in (USER, ITEM)]
    return list(dict.fromkeys([*columns.impressions, *(own if tables.events is None else [])]))


def _number_requests(
    engine: Engine, groups: ir.Table, users: ir.Table, cuts: Cuts
) -> tuple[ir.Table, list[CleaningRule]]:
    timed = groups.mutate(**{PERIOD: cuts.period_of(groups[TIME])})
    outside = engine.row(timed.aggregate(rows=timed[IMPRESSIONS].sum(where=timed[PERIOD].isnull())))["rows"]
    rule = CleaningRule("impressions", "before train_from or after test_until", int(str(outside or 0)), dropped=True)
    kept = join(timed.filter(timed[PERIOD].notnull()), users.select(USER, USER_ROW), [USER])
    order = [PERIOD, TIME, USER, *([REQUEST] if REQUEST in kept.columns else [])]
    return engine.store_numbered("requests", kept, REQUEST_ROW, order), [rule] if rule.rows else []


def _shown(impressions: ir.Table, requests: ir.Table, items: ir.Table, columns: Columns) -> ir.Table:
    """`_request_row`, `_item_row`, `_label`, maybe `_weight`, and the impressions' columns that candidates need."""
    key = request_key(impressions)
    keys = [name for name, origin in columns.key.items() if origin == "impressions" and name != ITEM]
    wanted = list(dict.fromkeys([*columns.candidate, *keys]))
    weight = [WEIGHT] if WEIGHT in impressions.columns else []
    selected = impressions.select(*dict.fromkeys([*key, ITEM, LABEL, *weight, *wanted]))
    rowed = join(selected, requests.select(*key, REQUEST_ROW), key)
    rowed = join(rowed, items.select(ITEM, ITEM_ROW), [ITEM])
    return rowed.select(REQUEST_ROW, ITEM_ROW, LABEL, *weight, *wanted)


def _describe(shown: ir.Table, requests: ir.Table, items: ir.Table, columns: Columns) -> ir.Table:
    """Candidates with their request's user, time and period, and their repeat key."""
    rowed = join(shown, requests.select(REQUEST_ROW, USER_ROW, TIME, PERIOD), [REQUEST_ROW])
    keys = [name for name, origin in columns.key.items() if origin == "items" or name == ITEM]
    if not keys:
        return rowed
    # Where the impressions have a column of that name too, it is a feature, and the key is the item's.
    keyed = items.select(ITEM_ROW, **{KEY + name: items[name] for name in keys})
    return join(rowed, keyed, [ITEM_ROW])


def _key_columns(candidates: ir.Table, columns: Columns) -> ir.Table:
    """Candidates with nothing but their place and their repeat key, under the key's own names."""
    keys = {name: candidates[KEY + name if KEY + name in candidates.columns else name] for name in columns.key}
    return candidates.select(REQUEST_ROW, ITEM_ROW, USER_ROW, TIME, **keys)


def _drawable(
    options: NegativeOptions,
    tables: Tables,
    cuts: Cuts,
    impressions: ir.Table,
    shown: ir.Table,
    requests: ir.Table,
    items: ir.Table,
) -> ir.Table:
    """`_item_row` of the items that can be drawn, as often as readily: its positives in training, or once if known."""
    if options.source == "popular":
        training = requests.filter(requests[PERIOD] == 0).select(REQUEST_ROW)
        return join(shown, training, [REQUEST_ROW]).select(ITEM_ROW)
    seen = impressions.filter(impressions[TIME] < cuts.valid_from).select(ITEM)
    seen = seen if tables.items is None else seen.union(tables.items.select(ITEM))
    return items.semi_join(seen, ITEM).select(ITEM_ROW)


def _with_negatives(
    engine: Engine, options: NegativeOptions, seed: int, shown: ir.Table, items: ir.Table, drawable: ir.Table
) -> ir.Table:
    """What was shown, and the sampled negatives of every request.

    Raises:
        DataError: if the log has negatives, impressions have columns that a sampled item cannot have, or too few items
            can be drawn.
    """
    unknown = [name for name in shown.columns if name not in (REQUEST_ROW, ITEM_ROW, LABEL, WEIGHT)]
    if unknown:
        raise DataError(
            f"column '{unknown[0]}' of the impressions is unknown for sampled negatives: leave it out of "
            "features.candidate and repeat.key, or give it as an attribute of the items"
        )
    negative = engine.count(shown.filter(shown[LABEL] == 0))
    if negative:
        raise DataError(f"negatives are for logs of positives alone, but {negative} labels are 0: set negatives: none")
    readiness = engine.read(drawable.group_by(ITEM_ROW).aggregate(**{SHOWN: drawable.count()}))
    weight = np.zeros(engine.count(items) + 1, dtype=np.int64)
    weight[readiness[ITEM_ROW].to_numpy()] = readiness[SHOWN].to_numpy()
    taken = shown.select(REQUEST_ROW, ITEM_ROW)
    sampler = NegativeSampler(weight, options.per_request, seed)
    of_requests = taken.distinct().semi_join(drawable, ITEM_ROW).group_by(REQUEST_ROW)
    sizes = of_requests.aggregate(**{SHOWN: ibis._.count()})
    sampler.refuse_too_few(int(str(engine.row(sizes.aggregate(most=sizes[SHOWN].max()))["most"] or 0)))
    schema = pa.schema([(REQUEST_ROW, pa.int64()), (ITEM_ROW, pa.int64())])
    drawn = engine.store_through("negatives", taken, [REQUEST_ROW, ITEM_ROW], sampler, schema)
    negatives = drawn.mutate(**{LABEL: ibis.literal(0, "int8")})
    if WEIGHT in shown.columns:
        negatives = negatives.mutate(**{WEIGHT: ibis.literal(1.0, "float64")})
    labelled = shown.mutate(**{LABEL: shown[LABEL].cast("int8")})
    # Engines number rows in types of different width.
    return labelled.union(negatives.select(*labelled.columns).cast(labelled.schema()))


def _with_repeats(engine: Engine, relations: Relations, recipe: Recipe, counted: ir.Table | None) -> Relations:
    """Candidates in order of request and item, with their repeat statistics."""
    candidates = relations.candidates
    if recipe.repeat:
        key = list(relations.columns.key)
        counting = relations.events.filter(relations.events[IN_REPEATS])
        if counted is not None:
            wanted = list(dict.fromkeys([USER_ROW, TIME, *key]))
            counting = counting.select(wanted).union(counted.select(wanted).cast(counting.select(wanted).schema()))
        events, keyed = with_comparable_keys(counting, _key_columns(candidates, relations.columns), key)
        span = Before.of(recipe.history.delay, recipe.repeat.window)
        # An id is never missing, so its role name need not be found.
        optional = [name for name in key if name in recipe.repeat.optional]
        repeats = candidate_repeats(engine, events, keyed, key, optional, span)
        last = repeats[LAST] if recipe.repeat.recency else ibis.null("int64")
        repeats = repeats.select(REQUEST_ROW, ITEM_ROW, **{REPEAT_COUNT: repeats[EVENTS_BEFORE], REPEAT_LAST: last})
        candidates = join(candidates, engine.store("repeats", repeats), [REQUEST_ROW, ITEM_ROW], "left")
    ordered = engine.store("candidates_in_order", candidates, [REQUEST_ROW, ITEM_ROW])
    return replace(relations, candidates=ordered)
