"""Histories from a store: one read for the users of some thousand rows, however many requests they make."""

import itertools
import json
import time as clock
import warnings
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from musenet.dataset.roles import MICROSECONDS
from musenet.dataset.texts import LARGEST_EXACT_FLOAT
from musenet.errors import LogWarning
from musenet.serving.prediction.columns import Places, listed_values
from musenet.serving.prediction.histories import Asked, Past, past_of
from musenet.serving.prediction.past import Happened, PastOfMany, Settled
from musenet.serving.scorer.encoder import Distinct
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.store.history import BulkHistoryStore, StoredRows, microseconds
from musenet.serving.store.user_past import BEHIND
from musenet.serving.values import Value


class StoredHistories:
    """What a history store knows of the users.

    Args:
        scorer: whose store it is.
        store: to be asked.
    """

    def __init__(self, scorer: Scorer, store: BulkHistoryStore) -> None:
        self._scorer, self._store, self._warned = scorer, store, False

    def of(self, asked: Asked) -> Past:
        """What the store knows."""
        places, group = np.unique(asked.users.places, return_inverse=True)
        known = listed_values(asked.users)
        order = np.lexsort([asked.when, group])
        begins = np.searchsorted(group[order], np.arange(len(places)))
        ends = np.append(begins[1:], len(order)) - 1
        first, last = (asked.when[order[at]].tolist() for at in (begins, ends))
        found = self._store.read_many([known[place] or "" for place in places.tolist()], first, last)
        self._warn_of_the_past(found.newest, group, asked)
        of_recent, of_settled = self._keys([found.recent, found.settled])
        past = PastOfMany(
            self._scorer.rules,
            self._happened(found.events, found.recent, of_recent),
            len(places),
            Settled(found.settled.user, found.settled.count, found.settled.time, of_settled, found.retention),
        )
        return past_of(past, group, asked)

    def _warn_of_the_past(self, newest: Places, group: Places, asked: Asked) -> None:
        """Warn, once, if requests lie so far back that the store may have forgotten what they ask for."""
        if self._warned or not self._scorer.sees_histories:
            return
        early = asked.when + BEHIND < np.minimum(newest, microseconds(clock.time()))[group]
        if early.any():
            self._warned = True
            user = listed_values(asked.users)[int(asked.users.places[np.argmax(early)])]
            warnings.warn(
                f"requests lie more than {BEHIND // (3600 * MICROSECONDS)} hours before their users' newest events (of "
                f"{user}, for example): a history store no longer knows all that had happened by then, so their scores "
                "may differ from those of that time; for requests of the past give the log's `events`",
                LogWarning,
                stacklevel=2,
            )

    def _happened(self, events: StoredRows, recent: StoredRows, keys: Sequence[pa.DictionaryArray]) -> Happened:
        """The events that histories show, and those that repeats count, which are other rows."""
        codes = self._codes(events.content)
        shown, counted = len(events.user), len(recent.user)
        nothing = pa.nulls(shown, pa.int32())
        return Happened(
            np.concatenate([events.user, recent.user]),
            np.concatenate([events.time, recent.time]),
            np.repeat([True, False], [shown, counted]),
            np.repeat([False, True], [shown, counted]),
            np.concatenate([codes, np.zeros((counted, codes.shape[1]), dtype=np.int64)]),
            [pa.DictionaryArray.from_arrays(pa.concat_arrays([nothing, key.indices]), key.dictionary) for key in keys],
        )

    def _codes(self, contents: pa.Array) -> Places:
        """(rows, H) rows of the embedding table of events."""
        encoder = self._scorer.encoder
        columns = _attributes(contents, list(encoder.columns("history")))
        return encoder.encode_columns("history", columns, len(contents), lambda _, name: f"history.{name}").codes

    def _keys(self, rows: Sequence[StoredRows]) -> list[list[pa.DictionaryArray]]:
        """Of each, the texts of the repeat key, column by column."""
        repeat = self._scorer.rules.repeat
        columns = range(0 if repeat is None else len(repeat.key))
        texts = pa.concat_arrays([one.content for one in rows])
        lines = pc.binary_join_element_wise('{"key":', texts, "}", "")
        keys = _read_json(lines, pa.schema({"key": pa.list_(pa.string())}))["key"].combine_chunks()
        told = [pc.list_element(keys, column).dictionary_encode() for column in columns]
        ends = np.cumsum([0, *(len(one.user) for one in rows)])
        return [[column[begin:end] for column in told] for begin, end in itertools.pairwise(ends.tolist())]


def _attributes(contents: pa.Array, names: Sequence[str]) -> dict[str, Distinct[Value]]:
    """Of events, the columns of these names."""
    try:
        told = _read_json(contents)
        if all(map(_is_as_written, told.columns)):
            return {name: Distinct.of(told[name].combine_chunks()) for name in names if name in told.column_names}
    except pa.ArrowInvalid:
        pass  # a column of several types
    distinct = contents.dictionary_encode()
    rows = json.loads(f"[{','.join(distinct.dictionary.to_pylist())}]")
    places = distinct.indices.to_numpy()
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    return {name: Distinct(one.values, one.places[places]) for name, one in columns.items()}


def _read_json(lines: pa.Array, schema: pa.Schema | None = None) -> pa.Table:
    """Objects, each a row."""
    if not len(lines):
        return pa.schema([] if schema is None else schema).empty_table()
    text = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), lines), "\n")[0].as_buffer()
    return pyarrow.json.read_json(
        pa.BufferReader(text),
        pyarrow.json.ReadOptions(use_threads=False, block_size=text.size + 1),
        pyarrow.json.ParseOptions(explicit_schema=schema),
    )


def _is_as_written(column: pa.ChunkedArray) -> bool:
    """Whether Arrow took these values for what they are: no texts for times, no long numbers for floats."""
    kind = column.type
    if pa.types.is_floating(kind):
        return not pc.any(pc.greater_equal(pc.abs(column), LARGEST_EXACT_FLOAT)).as_py()
    return any(test(kind) for test in (pa.types.is_integer, pa.types.is_string, pa.types.is_boolean, pa.types.is_null))


def _column(values: list[Value]) -> Distinct[Value]:
    """A column of events' attributes, which may hold several types."""
    try:
        return Distinct.of(pa.array(values))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return Distinct(values, np.arange(len(values)))
