"""What happened before many requests at once: their last events, and how often each candidate's key occurred.

By the definitions of `serving/store/rules.py`, for all requests in a few steps of arithmetic.

Shapes: E events, R requests, N candidates, L events of the longest history, H history fields.
"""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.dataset.codes import sort_ties
from musenet.dataset.inputs.repeat_features import repeat_features
from musenet.dataset.roles import MICROSECONDS
from musenet.serving.store.rules import HistoryRules

Places = NDArray[np.int64]
TIMELESS = -(1 << 62)
"""Before it lie events whose time is not known, in the order given."""


@dataclass(frozen=True)
class Happened:
    """Events in any order, each of a group: the user's, or the one request's that brings them."""

    group: Places
    """(E,)."""
    time: Places
    """(E,) microseconds, or below `TIMELESS`."""
    in_history: NDArray[np.bool_]
    in_repeats: NDArray[np.bool_]
    codes: Places
    """(E, H) rows of the embedding table."""
    keys: Sequence[pa.DictionaryArray]
    """Texts of the repeat key, column by column; null where missing."""


@dataclass(frozen=True)
class Settled:
    """Totals of events that no request can tell apart any more, by group and repeat key."""

    group: Places
    """(rows,)."""
    count: Places
    """(rows,) how many they are."""
    last: Places
    """(rows,) microseconds of the last of them."""
    keys: Sequence[pa.DictionaryArray]
    """As of `Happened`."""
    retention: int | None
    """Microseconds after which a key that was not met again is forgotten."""


class PastOfMany:
    """Answers for requests by their groups.

    Args:
        rules: which events count.
        events: all of them, but for those that are settled.
        groups: how many there are.
        settled: totals of earlier events.
    """

    def __init__(self, rules: HistoryRules, events: Happened, groups: int, settled: Settled | None = None) -> None:
        self._rules, self._groups = rules, groups
        shown = np.flatnonzero(events.in_history)
        shown = shown[np.lexsort([events.time[shown], events.group[shown]])]
        self._time, group = events.time[shown], events.group[shown]
        columns = [events.codes[shown, place] for place in range(events.codes.shape[1])]
        sort_ties(group, self._time, columns)
        self._codes = np.stack(columns, axis=1) if columns else np.zeros((len(shown), 0), dtype=np.int64)
        self._offset = _offsets(group, groups)
        counted = np.flatnonzero(events.in_repeats)
        keys = [key.take(pa.array(counted)) for key in events.keys]
        self._counted = _Counted(events.group[counted], events.time[counted], np.ones_like(counted), keys)
        self._settled = None
        self._kept = rules.span(repeats=True).window
        if settled is not None:
            self._settled = _Counted(settled.group, settled.last, settled.count, settled.keys)
            self._retention = settled.retention
            self._kept = settled.retention if self._kept is None else self._kept

    def histories(self, group: Places, when: Places) -> tuple[Places, Places]:
        """(R, L, H) rows of the embedding table of the last events, oldest first, and (R,) how many there are.

        Args:
            group: (R,) of each request; -1 for one of which nothing is known.
            when: (R,) microseconds.
        """
        known = np.where(group < 0, self._groups, group)
        begin, stop = self._offset[known], self._offset[known + 1]
        end = first_not_before(self._time, begin, stop, when - self._rules.span(repeats=False).delay)
        lengths = np.minimum(end - begin, self._rules.history.length)
        return padded(self._codes, end - lengths, lengths), lengths

    def repeats(self, group: Places, when: Places, of: Places, keys: Sequence[pa.Array]) -> NDArray[np.float32]:
        """(N, 3) repeat features of candidates, see `Batch.repeat_features`.

        Args:
            group: (R,) as of `histories`.
            when: (R,) microseconds.
            of: (N,) each candidate's request.
            keys: text of the candidates' repeat keys, column by column.
        """
        count, recency = np.zeros(len(of), dtype=np.int64), np.full(len(of), np.nan, dtype=np.float32)
        options = self._rules.repeat
        if options is None or not (self._counted or self._settled):
            return repeat_features(count > 0, count, recency)
        lacks = np.stack([~_valid(key) for key in keys], axis=1)  # (N, columns)
        may = np.array([name in options.optional for name in options.key])
        asks = (group[of] >= 0) & ~(lacks & ~may).any(1)
        for lacking in {tuple(row) for row in np.unique(lacks[asks], axis=0).tolist()}:
            chosen = np.flatnonzero(asks & (lacks == np.array(lacking)).all(1))
            texts = [key.take(pa.array(chosen)) for key, lack in zip(keys, lacking, strict=True) if not lack]
            groups, moments = group[of[chosen]], when[of[chosen]]
            begin = None if self._kept is None else moments - self._kept
            end = moments - self._rules.span(repeats=True).delay
            count[chosen], last = self._counted.index(lacking).count(groups, texts, begin, end)
            if self._settled is not None:
                begin = None if self._retention is None else moments - self._retention
                more, last_settled = self._settled.index(lacking).count(groups, texts, begin, end)
                count[chosen] += more
                last = np.maximum(last, last_settled)
            if options.recency:
                ago = (moments - last) / MICROSECONDS
                recency[chosen] = np.where((count[chosen] > 0) & (last > TIMELESS), ago, np.nan)
        return repeat_features(count > 0, count, recency)


class _Counted:
    """Events that repeats count, or totals of some, to be looked up by the columns of the key that a candidate has."""

    def __init__(self, group: Places, time: Places, count: Places, keys: Sequence[pa.DictionaryArray]) -> None:
        self._group, self._time, self._count, self._keys = group, time, count, keys
        self._by_lacking: dict[tuple[bool, ...], _KeyIndex] = {}

    def __len__(self) -> int:
        return len(self._group)

    def index(self, lacking: tuple[bool, ...]) -> "_KeyIndex":
        """By the columns that a candidate has alone; of an event, these must not be missing."""
        if lacking not in self._by_lacking:
            columns = [column for column, lack in zip(self._keys, lacking, strict=True) if not lack]
            self._by_lacking[lacking] = _KeyIndex(self._group, self._time, self._count, columns)
        return self._by_lacking[lacking]


class _KeyIndex:
    """The times of events by group and key.

    Args:
        group: (E,).
        time: (E,) microseconds.
        count: (E,) how many events a row stands for.
        columns: (E,) texts of each column of the key.
    """

    def __init__(self, group: Places, time: Places, count: Places, columns: Sequence[pa.DictionaryArray]) -> None:
        whole = np.flatnonzero(np.logical_and.reduce([_valid(column) for column in columns]))
        number = group[whole]
        self._steps: list[tuple[Places, _TextPlaces]] = []
        for column in columns:
            codes = column.indices.take(pa.array(whole)).to_numpy(zero_copy_only=False).astype(np.int64)
            texts = _TextPlaces(column.dictionary)
            pairs, number = np.unique(_paired(number, codes, texts), return_inverse=True)
            self._steps.append((pairs, texts))
        order = np.lexsort([time[whole], number])
        self._time = time[whole][order]
        self._before = np.concatenate([[0], np.cumsum(count[whole][order])])
        self._offset = _offsets(number[order], int(number.max()) + 1 if len(number) else 0)

    def count(
        self, group: Places, texts: Sequence[pa.Array], first: Places | None, last: Places | None
    ) -> tuple[Places, Places]:
        """(rows,) how many events of the group have this key and lie between two times, and when the last of them was.

        Of events whose time is not known, all are counted.
        """
        number, known = group, np.ones(len(group), dtype=bool)
        for (pairs, places), column in zip(self._steps, texts, strict=True):
            told = column.dictionary_encode()
            found = places.of(told.dictionary)
            place = found[told.indices.to_numpy(zero_copy_only=False)]
            asked = _paired(number, place, places)
            number = np.minimum(np.searchsorted(pairs, asked), max(len(pairs) - 1, 0))
            known &= (place >= 0) & (pairs[number] == asked if len(pairs) else False)
        number = np.where(known, number, len(self._offset) - 2)
        start, end = self._offset[number], self._offset[number + 1]
        if last is not None:
            end = first_not_before(self._time, start, end, last)
        begin, timeless = start, start
        if first is not None:
            begin = first_not_before(self._time, start, end, first)
            timeless = first_not_before(self._time, start, begin, np.full(len(begin), TIMELESS))
        newest = self._time.take(np.maximum(end - 1, 0), mode="clip") if len(self._time) else end
        counted = self._before[end] - self._before[begin] + self._before[timeless] - self._before[start]
        return np.where(known, counted, 0), np.where(known & (end > begin), newest, TIMELESS - 1)


class _TextPlaces:
    """Where texts stand among some: a single look-up builds a table of Arrow's, the second one that is kept."""

    def __init__(self, texts: pa.Array) -> None:
        self._texts, self._asked = texts, False

    def __len__(self) -> int:
        return len(self._texts)

    def of(self, asked: pa.Array) -> Places:
        """(rows,) -1 for texts that are not among them."""
        if not self._asked:
            self._asked = True
            found: Places = pc.index_in(asked, self._texts).fill_null(-1).to_numpy(zero_copy_only=False)
            return found.astype(np.int64)
        return np.array([self._known.get(text, -1) for text in asked.to_pylist()], dtype=np.int64)

    @cached_property
    def _known(self) -> dict[str, int]:
        return {text: place for place, text in enumerate(self._texts.to_pylist())}


def first_not_before(times: Places, begin: Places, end: Places, wanted: Places) -> Places:
    """(rows,) of each ascending run [begin, end) of times, the first place whose time is not before the wanted one."""
    low, high = begin.copy(), end.copy()
    while (open_ := low < high).any():
        middle = (low + high) // 2
        before = open_ & (times.take(middle, mode="clip") < wanted)
        low = np.where(before, middle + 1, low)
        high = np.where(open_ & ~before, middle, high)
    return low


def padded(codes: Places, begin: Places, lengths: Places) -> Places:
    """(R, L, H) runs of `codes` (E, H), padding behind each; L is 1 if all are empty."""
    longest = max(int(lengths.max(initial=0)), 1)
    within = np.arange(longest)
    there = within < lengths[:, None]
    found = np.zeros((len(lengths), longest, codes.shape[1]), dtype=np.int64)
    found[there] = codes[(begin[:, None] + within)[there]]
    return found


def _paired(number: Places, code: Places, codes: Sized) -> Places:
    return number * (len(codes) + 1) + code


def _valid(column: pa.Array) -> NDArray[np.bool_]:
    valid: NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    return valid


def _offsets(ordered: Places, count: int) -> Places:
    """(count + 2,) where each number's run begins in ascending ones; a last, empty run is of what is not there."""
    ends = np.searchsorted(ordered, np.arange(count), side="right")
    return np.concatenate([[0], ends, [len(ordered)]]).astype(np.int64)
