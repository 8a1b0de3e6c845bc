"""Events as they come in order of user and time: each kept once, and told whether an earlier one has its repeat key.

One sort then serves what would otherwise take three: equal events lie beside each other, and an event that repeats
another lies behind it in the run of one user.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.ahead import ahead
from musenet.dataset.roles import TIME
from musenet.preparation.relations.requests import USER_ROW

IN_REPEATS, AGAIN, EARLIER = "_in_repeats", "_again", "_earlier"
Integers = NDArray[np.int64]
NEVER = -(1 << 63)
"""A time before all others."""


def whole_runs(chunks: Iterator[pa.Table], by: Sequence[str] = (USER_ROW, TIME)) -> Iterator[pa.Table]:
    """The same rows, in order of these columns, but no chunk ends between two that are equal in them."""
    waiting: pa.Table | None = None
    for chunk in chunks:
        together = chunk if waiting is None else pa.concat_tables([waiting, chunk]).combine_chunks()
        columns = [together[name].to_numpy() for name in by]
        differs = np.flatnonzero(np.logical_or.reduce([column != column[-1] for column in columns]))
        cut = int(differs[-1]) + 1 if len(differs) else 0
        if cut:
            yield together.slice(0, cut)
        waiting = together.slice(cut)
    if waiting is not None and waiting.num_rows:
        yield waiting


def first_of_equals(events: pa.Table, identity: Sequence[str]) -> NDArray[np.bool_]:
    """(E) whether no row before equals each in these columns and in user and time, by which the events are in order."""
    user, time = (events[name].to_numpy() for name in (USER_ROW, TIME))
    same = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    first = np.ones(len(user), dtype=bool)
    if len(tied):
        rows = pl.DataFrame(events.select(list(dict.fromkeys([USER_ROW, TIME, *identity]))).take(tied))
        first[tied] = rows.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    return first


class RepeatMarks:
    """Whether an event of the same user and key, which count both, lies strictly earlier.

    Within the window, if there is one; a key with a missing column equals none. Events come chunk by chunk; of the user
    whose events may go on in the next one, the last of every key is remembered.

    Args:
        key: columns of the events.
        window: how far back an event counts, in microseconds; for ever, if None.
    """

    def __init__(self, key: Sequence[str], window: int | None) -> None:
        self.key = list(key)
        self._by = list(dict.fromkeys([USER_ROW, *key]))
        self._window = window
        self._remembered: pl.DataFrame | None = None

    def of(self, events: pa.Table) -> NDArray[np.bool_]:
        """(E) for the next events in order of user and time; no tie of both may be split between two calls."""
        known = pl.DataFrame(events.select(list(dict.fromkeys([*self._by, TIME, IN_REPEATS]))))
        counts = known.select(pl.all_horizontal(IN_REPEATS, *(pl.col(name).is_not_null() for name in self._by)))
        again = counts.to_series().to_numpy(writable=True)
        rows = known.select(*self._by, TIME)
        if not again.all():
            rows = rows.filter(counts.to_series())
        before = 0 if self._remembered is None else len(self._remembered)
        if self._remembered is not None:
            rows = pl.concat([self._remembered, rows])
        if len(rows):
            again[again] = self._repeat_earlier_ones(rows)[before:]
        return again

    def _repeat_earlier_ones(self, rows: pl.DataFrame) -> NDArray[np.bool_]:
        """(rows) which of them do; they are in order of user and time, and no key lacks a column."""
        going_on = rows.filter(pl.col(USER_ROW) == rows[USER_ROW][-1])
        self._remembered = going_on.unique(self._by, keep="last", maintain_order=True)
        key, time = numbers_of_rows(rows.select(self._by)), rows[TIME].to_numpy()
        order = np.argsort(key, kind="stable")  # each key's events stay in order of time
        key, time = key[order], time[order]
        repeats = np.zeros(len(rows), dtype=bool)
        repeats[order] = self._is_near(_time_before(key, time), time)
        return repeats

    def _is_near(self, earlier: Integers, time: Integers) -> NDArray[np.bool_]:
        return earlier > NEVER if self._window is None else earlier >= time - self._window


def _time_before(key: Integers, time: Integers) -> Integers:
    """(E) the last time of the same key that is strictly earlier, of events in order of key and time; else `NEVER`."""
    same_key = np.append(False, key[1:] == key[:-1])
    begins = np.append(True, time[1:] != time[:-1]) | ~same_key  # of events with one key and time, the first
    before = np.where(same_key, np.append(NEVER, time[:-1]), NEVER)[begins]
    of_run: Integers = before[np.cumsum(begins) - 1]
    return of_run


def numbers_of_rows(rows: pl.DataFrame) -> Integers:
    """(rows) a number for each, the same for those that are equal in all columns; none of these may be NULL."""
    numbers, distinct = np.zeros(len(rows), dtype=np.int64), 1
    for column in rows:
        values = (column if column.dtype.is_integer() else column.rank("dense")).to_numpy().astype(np.int64)
        lowest, highest = int(values.min()), int(values.max())
        if distinct * (highest - lowest + 1) >= 1 << 63:
            numbers, values = (np.unique(part, return_inverse=True)[1] for part in (numbers, values))
            distinct, lowest, highest = int(numbers.max()) + 1, 0, int(values.max())
        numbers = numbers * (highest - lowest + 1) + (values - lowest)
        distinct *= highest - lowest + 1
    return numbers


def once_and_marked(
    chunks: Iterator[pa.Table], identity: Sequence[str], marks: RepeatMarks | None, kept: Sequence[str]
) -> Iterator[pa.Table]:
    """Events in order, each once, with `_again` if repeats are marked.

    Args:
        chunks: in order of user and time; `_earlier` ones are marked by, but not handed on.
        identity: columns in which equal events of one user and time are one event.
        marks: tells repeats; None leaves `_again` out.
        kept: columns that are handed on.
    """
    for distinct in ahead(_distinct(chunks, identity)):
        rows = distinct.select(list(kept))
        rows = rows if marks is None else rows.append_column(AGAIN, pa.array(marks.of(distinct)))
        yield rows.filter(pc.invert(distinct[EARLIER])) if EARLIER in distinct.column_names else rows


def _distinct(chunks: Iterator[pa.Table], identity: Sequence[str]) -> Iterator[pa.Table]:
    for chunk in whole_runs(chunks):
        first = first_of_equals(chunk, identity)
        yield chunk if first.all() else chunk.filter(pa.array(first))
