"""Where the histories of many requests come from: a table of events, a history store, or the requests themselves.

Shapes: R requests, N candidates, L events of the longest history, H history fields.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.dataset.inputs.repeat_features import REPEAT_FEATURES
from musenet.dataset.roles import ITEM, KIND
from musenet.dataset.texts import kind_text
from musenet.errors import DataError, RequestError
from musenet.serving.prediction.columns import (
    Places,
    first_rows,
    in_form,
    is_there,
    labels_of,
    listed,
    listed_values,
    of_one_type,
    plain,
    spread,
    texts_of,
)
from musenet.serving.prediction.past import TIMELESS, Happened, PastOfMany
from musenet.serving.prediction.times import NO_TIME, NoTimeError, microseconds_of
from musenet.serving.scorer.encoder import NO_VALUES, Distinct
from musenet.serving.scorer.scorer import Scorer, refuse_unknown
from musenet.serving.values import Value, text_of_value
from musenet.sources.files.options import TimeColumn

Rows: TypeAlias = pa.RecordBatchReader | pa.Table


@dataclass(frozen=True)
class Asked:
    """The requests of a table whose past is asked for."""

    users: Distinct[str | None]
    """(R,) text of the users' ids."""
    when: Places
    """(R,) microseconds."""
    of: Places
    """(N,) each candidate's request, ascending."""
    keys: Sequence[pa.Array]
    """(N,) text of the candidates' repeat keys, column by column."""
    own: pa.Array | None = None
    """(R,) lists of events that the requests bring; null where they bring none."""


@dataclass(frozen=True)
class Past:
    """What is known of the past of requests and candidates."""

    codes: Places
    """(R, L, H) rows of the embedding table of the last events, padding behind them."""
    lengths: Places
    """(R,) how many there are."""
    repeats: NDArray[np.float32]
    """(N, 3) of `repeat_features`."""


class Histories(Protocol):
    """Who tells the past of many requests; several threads may ask at once."""

    def of(self, asked: Asked) -> Past:
        """The past of these requests."""
        ...


class NoHistories:
    """Nothing is known of anybody."""

    def __init__(self, scorer: Scorer) -> None:
        self._fields = len(scorer.manifest.fields_of("history"))

    def of(self, asked: Asked) -> Past:
        """Nothing."""
        requests, candidates = len(asked.when), len(asked.of)
        codes = np.zeros((requests, 1, self._fields), dtype=np.int64)
        repeats = np.zeros((candidates, REPEAT_FEATURES), dtype=np.float32)
        return Past(codes, np.zeros(requests, dtype=np.int64), repeats)


class EventHistories:
    """Events of a table, all held in memory as numbers: some tens of bytes each.

    Args:
        scorer: says which columns and which events count.
        events: as the log has them, under its own names; a log without events of its own takes its impressions. Those
            of several tables, each with its name.
        name: of a single table, for messages.

    Raises:
        DataError: naming table, row and column, if a column is missing or a value cannot be used.
    """

    def __init__(self, scorer: Scorer, events: Rows | Iterable[tuple[str, Rows]], name: str = "the events") -> None:
        tables = []
        for called, rows in [(name, events)] if isinstance(events, Rows) else events:
            reader = rows.to_reader() if isinstance(rows, pa.Table) else rows
            read = _EventReader(scorer, reader.schema, called)
            tables += [read.told(batch) for batch in reader] or [read.told(reader.schema.empty_table())]
        columns = _together(tables)
        users, time = columns["user"], columns["time"].to_numpy()
        self._users: dict[str, int] = {user: place for place, user in enumerate(users.dictionary.to_pylist())}
        group = users.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        told = {column: Distinct.of_dictionary(columns[column]) for column in read.columns}
        kept = _once(group, time, told)
        told = {column: Distinct[Value](values.values, values.places[kept]) for column, values in told.items()}
        found = happened(scorer, group[kept], time[kept], told)
        self._past = PastOfMany(scorer.rules, found, len(self._users))

    def of(self, asked: Asked) -> Past:
        """What these events tell."""
        known = np.array([self._users.get(user or "", -1) for user in listed_values(asked.users)], dtype=np.int64)
        return past_of(self._past, known[asked.users.places], asked)


class OwnHistories:
    """The requests' own events, and what others know of those that bring none.

    Args:
        scorer: says which events count.
        kind: of the column that holds them: lists of structs.
        others: for requests that bring none.
    """

    def __init__(self, scorer: Scorer, kind: pa.DataType, others: Histories) -> None:
        self._scorer, self._others = scorer, others
        fields = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
        if not (fields is not None and pa.types.is_struct(fields)) and not pa.types.is_null(kind):
            raise RequestError("history", f"takes lists of structs, but holds {kind}")
        names = [] if fields is None else [field.name for field in fields]
        known = set(scorer.manifest.event_columns) - {scorer.manifest.item_column}
        refuse_unknown([name for name in names if name not in ("item", "kind", "time")], known, "history", "events")

    def of(self, asked: Asked) -> Past:
        """What the requests bring."""
        assert asked.own is not None
        others = self._others.of(asked)
        if pa.types.is_null(asked.own.type):
            return others
        brought = asked.own.is_valid().to_numpy(zero_copy_only=False)
        if not brought.any():
            return others
        events = pc.list_flatten(asked.own)
        group = pc.list_parent_indices(asked.own).to_numpy(zero_copy_only=False).astype(np.int64)
        own = past_of(
            self._happened(events, group, len(brought)), np.where(brought, np.arange(len(brought)), -1), asked
        )
        of_own = brought[asked.of]
        return Past(
            np.where(brought[:, None, None], *_equally_long(own.codes, others.codes)),
            np.where(brought, own.lengths, others.lengths),
            np.where(of_own[:, None], own.repeats, others.repeats),
        )

    def _happened(self, events: pa.StructArray, group: Places, requests: int) -> PastOfMany:
        scorer, manifest = self._scorer, self._scorer.manifest
        names = [str(field.name) for field in events.type]
        columns = dict(zip(names, events.flatten(), strict=True))
        time = np.full(len(events), NO_TIME, dtype=np.int64)
        if "time" in columns:
            time = microseconds_of(columns.pop("time"), TimeColumn(column="time", unit="seconds"), manifest.timezone)
        time = np.where(time == NO_TIME, TIMELESS - len(time) + np.arange(len(time)), time)
        roles = {"item": ITEM, "kind": KIND}
        told = {roles.get(name, name): Distinct.of(plain(column)) for name, column in columns.items()}
        return PastOfMany(scorer.rules, happened(scorer, group, time, told), requests)


class _EventReader:
    """The events of a table that count, batch by batch."""

    def __init__(self, scorer: Scorer, schema: pa.Schema, name: str) -> None:
        self._scorer, self._name = scorer, name
        manifest, log = scorer.manifest, scorer.manifest.log
        self._user, self._time = log.event_user or manifest.user_column, log.event_time or log.time
        origins = manifest.event_columns
        self._item = log.event_item or manifest.item_column
        wanted = [name for name, origin in origins.items() if origin == "events" and name != manifest.item_column]
        needed = [self._user, self._time.column, *wanted]
        if manifest.item_column in origins or "items" in origins.values():
            needed.append(self._item)
        kinds = [scorer.rules.history.kinds, scorer.rules.repeat.kinds if scorer.rules.repeat else None]
        if log.kind is not None and any(each is not None for each in kinds):
            needed.append(log.kind)
        missing = [column for column in dict.fromkeys(needed) if column not in schema.names]
        if missing:
            raise DataError(f"{name} lacks {listed(missing)}; it has {listed(schema.names)}")
        roles = {ITEM: self._item} | ({} if log.kind is None else {KIND: log.kind})
        self.columns = {role: column for role, column in roles.items() if column in schema.names}
        self.columns |= {column: column for column in wanted}
        """The table's own name of each column that is kept, beside user and time."""
        self._label = log.label if log.label in schema.names else None
        self._rows = 0

    def told(self, batch: pa.RecordBatch | pa.Table) -> pa.Table:
        """`user`, `time` and the columns that are kept, by their distinct values; events that count alone."""
        manifest, rules = self._scorer.manifest, self._scorer.rules
        try:
            time = microseconds_of(batch[self._time.column], self._time, manifest.timezone)
        except NoTimeError as error:
            where = f"{self._name}: row {self._rows + error.place + 1}: column '{self._time.column}'"
            raise DataError(f"{where} {error}") from None
        self._rows += batch.num_rows
        columns = {name: Distinct.of(plain(batch[column])) for name, column in self.columns.items()}
        columns["user"] = texts_of(manifest.forms, manifest.user_column, Distinct.of(plain(batch[self._user])))
        kinds = columns.get(KIND, NO_VALUES)
        counts = _of_kinds(kinds, rules.in_history, len(time)) | _of_kinds(kinds, rules.in_repeats, len(time))
        counts &= (time != NO_TIME) & is_there(columns["user"])
        if self._label is not None:
            label = Distinct.of(plain(batch[self._label]))
            counts &= labels_of(manifest.forms, self._label, label, manifest.log.positive_kinds) == 1
        kept = pa.array(np.flatnonzero(counts))
        told = {name: spread(column).take(kept).dictionary_encode() for name, column in columns.items()}
        return pa.table(told | {"time": pa.array(time).take(kept)})


def _together(tables: list[pa.Table]) -> dict[str, pa.Array]:
    """The columns of all tables, each with one dictionary."""
    table = pa.concat_tables(of_one_type(tables), promote_options="permissive").unify_dictionaries()
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    return {name: one.dictionary_encode() if pa.types.is_string(one.type) else one for name, one in columns.items()}


def _once(group: Places, time: Places, told: Mapping[str, Distinct[Value]]) -> Places:
    """The rows of which none before is equal, as preparation counts events."""
    columns = [*(column.places for column in told.values()), time, group]
    order = np.lexsort(columns)
    kept = first_rows((column[order] for column in columns), len(order))
    return order[kept]


def happened(scorer: Scorer, group: Places, time: Places, told: Mapping[str, Distinct[Value]]) -> Happened:
    """Events with what is known of them: their own columns, and those that are looked up from their items.

    Args:
        scorer: says which columns and which events count.
        group: (E,) as of `Happened`.
        time: (E,) as of `Happened`.
        told: the events' columns by the log's own names, and `ITEM` and `KIND`.
    """
    manifest, rules, forms = scorer.manifest, scorer.rules, scorer.forms
    items = texts_of(forms, manifest.item_column, told.get(ITEM, _nothing(len(time))))
    rows = scorer.items.find(items.values)
    columns: dict[str, Distinct[Value]] = {}
    for name, origin in manifest.event_columns.items():
        if name == manifest.item_column:
            columns[name] = items
        elif name in told:
            columns[name] = told[name]
        elif origin == "items":
            columns[name] = Distinct(scorer.items.attribute(name, rows), items.places)
        else:
            columns[name] = _nothing(len(time))
    keys = [texts_of(forms, name, columns[name]) for name in (rules.repeat.key if rules.repeat else [])]
    columns = {name: in_form(forms, name, one) for name, one in columns.items()}
    kinds = told.get(KIND, _nothing(len(time)))
    return Happened(
        group,
        time,
        _of_kinds(kinds, rules.in_history, len(time)),
        _of_kinds(kinds, rules.in_repeats, len(time)),
        scorer.encoder.encode_columns("history", columns, len(time), lambda _, name: f"history.{name}").codes,
        [dictionary_of(key) for key in keys],
    )


def past_of(past: PastOfMany, group: Places, asked: Asked) -> Past:
    """What is known of the requests of these groups."""
    return Past(*past.histories(group, asked.when), past.repeats(group, asked.when, asked.of, asked.keys))


def _of_kinds(kinds: Distinct[Value], counts: Callable[[str | None], bool], rows: int) -> NDArray[np.bool_]:
    """(rows,) whether events of these kinds count."""
    if kinds is NO_VALUES:
        return np.full(rows, counts(None))
    texts = [text_of_value(value) for value in listed_values(kinds)]
    return np.array([counts(None if text is None else kind_text(text)) for text in texts])[kinds.places]


def dictionary_of(column: Distinct[str | None]) -> pa.DictionaryArray:
    """The column's texts by the distinct ones; null where missing."""
    values = column.values if isinstance(column.values, pa.Array) else pa.array(column.values, pa.string())
    distinct = values.dictionary_encode()
    return pa.DictionaryArray.from_arrays(distinct.indices.take(pa.array(column.places)), distinct.dictionary)


def _nothing(rows: int) -> Distinct[None]:
    return Distinct(pa.nulls(1), np.zeros(rows, dtype=np.int64))


def _equally_long(one: Places, other: Places) -> tuple[Places, Places]:
    """Two (R, L, H) with as much padding as the longer one has events."""
    longest = max(one.shape[1], other.shape[1])
    padding = [[(0, 0), (0, longest - each.shape[1]), (0, 0)] for each in (one, other)]
    return np.pad(one, padding[0]), np.pad(other, padding[1])
