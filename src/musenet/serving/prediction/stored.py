"""Histories from a store: one read for the users of some thousand rows, however many requests they make."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from musenet.serving.prediction.columns import Places, listed_values
from musenet.serving.prediction.histories import Asked, Past, dictionary_of, past_of
from musenet.serving.prediction.past import Happened, PastOfMany, Settled
from musenet.serving.scorer.encoder import Distinct
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.store.history import BulkHistoryStore, StoredRows
from musenet.serving.values import Value

_TEXTS_AT_ONCE = 500


class StoredHistories:
    """What a history store knows of the users.

    Args:
        scorer: whose store it is.
        store: to be asked.
    """

    def __init__(self, scorer: Scorer, store: BulkHistoryStore) -> None:
        self._scorer, self._store = scorer, store

    def of(self, asked: Asked) -> Past:
        """What the store knows."""
        places, group = np.unique(asked.users.places, return_inverse=True)
        known = listed_values(asked.users)
        order = np.lexsort([asked.when, group])
        begins = np.searchsorted(group[order], np.arange(len(places)))
        ends = np.append(begins[1:], len(order)) - 1
        first, last = (asked.when[order[at]].tolist() for at in (begins, ends))
        found = self._store.read_many([known[place] or "" for place in places.tolist()], first, last)
        of_recent, of_settled = self._keys([found.recent, found.settled])
        past = PastOfMany(
            self._scorer.rules,
            self._happened(found.events, found.recent, of_recent),
            len(places),
            Settled(found.settled.user, found.settled.count, found.settled.time, of_settled, found.retention),
        )
        return past_of(past, group, asked)

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
        """(rows, H) rows of the embedding table of events; equal ones are read once."""
        texts, places = _distinct(contents)
        encoder = self._scorer.encoder
        told: dict[str, list[Value]] = {name: [] for name in encoder.columns("history")}
        for part in _parsed(texts):
            for name, values in told.items():
                values += [attributes.get(name) for *_, attributes in part]
        columns = {name: _column(values) for name, values in told.items()}
        encoded = encoder.encode_columns("history", columns, len(texts), lambda _, name: f"history.{name}")
        return encoded.codes[places]

    def _keys(self, rows: Sequence[StoredRows]) -> list[list[pa.DictionaryArray]]:
        """Of each, the texts of the repeat key, column by column."""
        repeat = self._scorer.rules.repeat
        texts, places = _distinct(pa.concat_arrays([one.content for one in rows]))
        columns: list[list[str | None]] = [[] for _ in range(0 if repeat is None else len(repeat.key))]
        for some in _parsed(texts):
            for at, column in enumerate(columns):
                column += [key[at] for key in some]
        ends = np.cumsum([len(one.user) for one in rows])[:-1]
        return [[dictionary_of(Distinct(column, part)) for column in columns] for part in np.split(places, ends)]


def _distinct(texts: pa.Array) -> tuple[list[str], Places]:
    """The distinct ones, and where each row's stands among them."""
    encoded = texts.dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _parsed(texts: Sequence[str]) -> Iterator[list[Any]]:
    """What JSON texts say, some at a time: many lists that live at once keep Python's collector busy."""
    for begin in range(0, len(texts), _TEXTS_AT_ONCE):
        yield json.loads(f"[{','.join(texts[begin : begin + _TEXTS_AT_ONCE])}]")


def _column(values: list[Value]) -> Distinct[Value]:
    """A column of events' attributes, which may hold several types."""
    try:
        return Distinct.of(pa.array(values))
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return Distinct(values, np.arange(len(values)))
