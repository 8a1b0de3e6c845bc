"""What a dataset holds already, as the relations of rows that are added to it need it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.dataset.column_files import mapped
from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import keys_file
from musenet.dataset.roles import ITEM, MICROSECONDS, REQUEST, TIME, USER, LogTable
from musenet.dataset.texts import ValueType, value_type
from musenet.engines.engine import Engine, join
from musenet.errors import DataError
from musenet.preparation.relations.requests import IMPRESSIONS, USER_ROW, local_text
from musenet.preparation.relations.split import Cuts
from musenet.recipe.recipe import Recipe
from musenet.sources.tables import Tables

WORDS: Mapping[ValueType, str] = {
    "whole": "whole numbers",
    "number": "numbers",
    "truth": "true and false",
    "text": "text",
}
BEFORE_ROW = "_before_row"
SHOWN = "_shown"
LAST_EVENT, LAST_REQUEST = "_last_event", "_last_request"
REMEDY = "prepare the whole log anew, without --extend"
"""What to do about rows that cannot be added."""
Integers = NDArray[np.int64]


class Past:
    """A dataset that further requests and events are added to.

    Args:
        dataset: of one recipe with what is added.
        counted: the folder of the events that repeats count, and beside it their keys (`.parquet`); None if nobody
            counts them.
    """

    def __init__(self, dataset: Dataset, counted: Path | None) -> None:
        self.dataset = dataset
        self._counted = counted

    @cached_property
    def time(self) -> Integers:
        """(R) microseconds, ascending."""
        return np.asarray(self.dataset.requests.time)

    @cached_property
    def sizes(self) -> Integers:
        """(R) candidates of each request."""
        return np.diff(self.dataset.requests.candidate_offset)

    def training(self, cuts: Cuts) -> int:
        """How many of the requests are training's now."""
        return int(np.searchsorted(self.time, cuts.valid_from))

    def shown(self, row_name: str, cuts: Cuts) -> NDArray[np.float64]:
        """(users or items, the unseen one included) how many impressions of training each has by now."""
        end = self.training(cuts)
        requests, candidates = self.dataset.requests, self.dataset.candidates
        if row_name == USER_ROW:
            rows, weight, known = requests.user[:end], self.sizes[:end], self.dataset.manifest.users
        else:
            rows, weight = candidates.item[: requests.candidate_offset[end]], None
            known = self.dataset.manifest.items
        return np.bincount(rows, weights=weight, minlength=known + 1).astype(np.float64)

    def entities(self, engine: Engine, row_name: str) -> ir.Table:
        """Ids and `_before_row` of the users or of the items."""
        name, relation = (USER, "users") if row_name == USER_ROW else (ITEM, "items")
        ids = self.dataset.keys(relation, [name])  # type: ignore[arg-type]
        numbered = ids.append_column(BEFORE_ROW, pa.array(np.arange(ids.num_rows)))
        return engine.store(f"before_{relation}", ibis.memtable(numbered.slice(1)))

    def shown_rows(self, engine: Engine, known: ir.Table, row_name: str, cuts: Cuts) -> ir.Table:
        """`_user_row` (`_item_row`) of those users (items) that were shown before, and `_shown`."""
        shown = self.shown(row_name, cuts)
        counts = ibis.memtable(pa.table({BEFORE_ROW: np.arange(len(shown)), SHOWN: shown.astype(np.int64)}))
        rows = join(self.entities(engine, row_name), known.select(known.columns[0], row_name), [known.columns[0]])
        found = join(rows, counts, [BEFORE_ROW])
        return engine.store(f"shown_before{row_name}", found.filter(found[SHOWN] > 0))

    def with_looked_up(self, tables: Tables) -> Tables:
        """The tables with the items that they do not tell of, and what events and repeat keys look up of these.

        Raises:
            DataError: if users or items have ids of another type.
        """
        manifest = self.dataset.manifest
        ids = [(manifest.user_column, USER), (manifest.item_column, ITEM)]
        self.check_types({name: value_type(tables.impressions[role].type().to_pyarrow()) for name, role in ids})
        known = self.dataset.keys("items").slice(1)
        if known.num_columns == 1 and tables.items is None:
            return tables
        before = ibis.memtable(known)
        if tables.items is None:
            return replace(tables, items=before)
        new, schema = tables.items, tables.items.schema()
        missing = before.anti_join(new.select(ITEM), ITEM)
        filled = {
            name: (missing[name] if name in missing.columns else ibis.null()).cast(kind(nullable=True))
            for name, kind in schema.items()
        }
        return replace(tables, items=new.union(missing.select(**filled)))

    def with_times(self, engine: Engine, groups: ir.Table, timezone: str) -> ir.Table:
        """`_time` and `_impressions` of all requests, those added included; equal times of the past are one row.

        Raises:
            DataError: if one of those added is not behind all that are held, or a part of it is held.
        """
        self._check_requests(engine, groups, timezone)
        time, place = np.unique(self.time, return_inverse=True)
        shown = np.bincount(place, weights=self.sizes).astype(np.int64)
        before = ibis.memtable(pa.table({TIME: time, IMPRESSIONS: shown}))
        added = groups.select(TIME, IMPRESSIONS)
        return added.cast(before.schema()).union(before)

    def with_shown(self, found: Mapping[int, Mapping[str, int]], cuts: Cuts) -> dict[int, dict[str, int]]:
        """Rows and positives of each period, those of the past included."""
        borders = [0, *np.searchsorted(self.time, [cuts.valid_from, cuts.test_from]), len(self.time)]
        offset, label = self.dataset.requests.candidate_offset, self.dataset.candidates.label
        together = {}
        for period, (begin, end) in enumerate(pairwise(borders)):
            shown = label[offset[begin] : offset[end]]
            more = found.get(period, {"rows": 0, "positives": 0})
            rows, positives = more["rows"] + len(shown), int(more["positives"]) + int(np.sum(shown == 1))
            if rows:
                together[period] = {"rows": rows, "positives": positives}
        return together

    def _check_requests(self, engine: Engine, groups: ir.Table, timezone: str) -> None:
        last = int(self.time[-1])
        late = engine.count(groups.filter(groups[TIME] <= last))
        if late:
            raise DataError(
                f"{late} of the requests to be added are not later than {local_text(last, timezone)}, up to which "
                f"{self.dataset.folder} holds requests: {REMEDY}"
            )
        if REQUEST in groups.columns:
            held = engine.read_parquet([keys_file(self.dataset.folder, "requests")]).select(REQUEST)
            kinds = [value_type(table[REQUEST].type().to_pyarrow()) for table in (held, groups)]
            if kinds[0] != kinds[1]:
                raise DataError(f"ids of requests are {WORDS[kinds[1]]} now, but {WORDS[kinds[0]]} before: {REMEDY}")
            again = engine.count(groups.semi_join(held, REQUEST))
            if again:
                raise DataError(
                    f"{again} of the requests to be added have ids of requests that {self.dataset.folder} holds: "
                    f"a request is added whole; {REMEDY}"
                )

    def check_events(self, engine: Engine, events: ir.Table, users: ir.Table, delay: float) -> None:
        """Refuse events that a request that is held would have seen, or that do not lie behind their user's others.

        Raises:
            DataError: saying how many.
        """
        known = join(self.entities(engine, USER_ROW), users.select(USER, USER_ROW), [USER])
        last = join(known, ibis.memtable(self._last_of_users()), [BEFORE_ROW])
        behind = join(events.select(USER_ROW, TIME), last, [USER_ROW])
        seen = behind[TIME] < behind[LAST_REQUEST] - round(delay * MICROSECONDS)
        late = engine.count(behind.filter(seen | (behind[TIME] <= behind[LAST_EVENT])))
        if late:
            raise DataError(
                f"{late} of the events to be added came late: they lie before requests or events of the same users "
                f"that {self.dataset.folder} holds, whose histories they would change; {REMEDY}"
            )

    def _last_of_users(self) -> pa.Table:
        """When each user's last event and last request were; far ago if there are none."""
        users, never = self.dataset.manifest.users + 1, np.int64(-(1 << 62))
        request = np.full(users, never)
        request[self.dataset.requests.user] = self.time  # in order of time: the last one stays
        event = np.full(users, never)
        runs = [(self.dataset.events.time, self.dataset.events.offset)]
        if self._counted is not None:
            runs.append((mapped(self._counted, "time"), mapped(self._counted, "offset")))
        for time, offset in runs:
            some = np.flatnonzero(np.diff(offset))
            if time is not None:
                event[some] = np.maximum(event[some], time[offset[some + 1] - 1])
        return pa.table({BEFORE_ROW: np.arange(users), LAST_EVENT: event, LAST_REQUEST: request})

    def counted_of(self, engine: Engine, users: ir.Table, key: Sequence[str]) -> ir.Table | None:
        """`_user_row`, `_time` and the repeat key of the events that repeats count, of these users alone."""
        if self._counted is None:
            return None
        counted = engine.read_parquet([self._counted.with_suffix(".parquet")]).rename({BEFORE_ROW: USER_ROW})
        known = join(self.entities(engine, USER_ROW), users.select(USER, USER_ROW), [USER])
        found = join(counted, known.select(BEFORE_ROW, USER_ROW), [BEFORE_ROW])
        return engine.store("counted_before", found.select(USER_ROW, *dict.fromkeys([TIME, *key])))

    def check_told(
        self,
        engine: Engine,
        requests: ir.Table,
        users: ir.Table,
        tables: Tables,
        attributes: Mapping[str, LogTable],
        recipe: Recipe,
    ) -> None:
        """Refuse added requests whose scenario a column of users names, of users that their table has no longer.

        Raises:
            DataError: saying how many users.
        """
        told = [name for name in recipe.predefined_scenario if attributes.get(name) == "users"]
        if not told or tables.users is None:
            return
        shown = users.semi_join(requests, USER_ROW).select(USER)
        lacking = engine.count(shown.anti_join(tables.users, USER).semi_join(self.entities(engine, USER_ROW), USER))
        if lacking:
            raise DataError(
                f"predefined_scenario: '{told[0]}' is told by the users' table, which lacks {lacking} users of the "
                f"requests to be added who were known before: give their rows as well, or {REMEDY}"
            )

    def check_looked_up(self, items: pa.Table, rows: Integers, names: Sequence[str], unknown: pa.Array | None) -> None:
        """Refuse attributes of items that are told otherwise than when events of the past were described by them.

        Args:
            items: added, `_item` and the attributes.
            rows: (items) where each stood before; -1 if it is new.
            names: of the attributes.
            unknown: ids of items that events of the past are of, but of which nothing was known; None if nobody knows.

        Raises:
            DataError: saying of how many items.
        """
        known = pa.array(rows >= 0)
        before, now = self.dataset.keys("items", names).take(pa.array(rows[rows >= 0])), items.filter(known)
        late = items.filter(pc.invert(known))
        late = late.slice(0, 0) if unknown is None else late.filter(pc.is_in(late[ITEM], unknown.cast(late[ITEM].type)))
        for name in names:
            same = pc.fill_null(pc.equal(now[name], before[name].cast(now[name].type)), False)
            changed = int(pc.sum(pc.and_(pc.is_valid(now[name]), pc.invert(same))).as_py() or 0)
            changed += len(late) - late[name].null_count
            if changed:
                raise DataError(
                    f"'{name}' has changed for {changed} items, or was not known before, and events of the past were "
                    f"described by it: {REMEDY}"
                )

    def check_types(self, added: Mapping[str, ValueType]) -> None:
        """Refuse columns that hold something else than before, by the log's own names; raises `DataError`."""
        before = self.dataset.manifest.value_types
        for name in before.keys() & added.keys():
            if before[name] != added[name]:
                raise DataError(
                    f"column '{name}' holds {WORDS[added[name]]} in what is to be added, but {WORDS[before[name]]} "
                    f"before: {REMEDY}"
                )
