"""Events: streamed in order of user and time, ties put in order of their codes, and written once."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from musenet.ahead import ahead
from musenet.dataset.codes import sort_ties
from musenet.dataset.column_files import NewColumn, mapped, write_column
from musenet.dataset.numeric import NumericTransform
from musenet.dataset.roles import TIME
from musenet.engines.engine import Engine
from musenet.preparation.encoding.encode import Folders, InOrder, encoded, new_field, numbers
from musenet.preparation.encoding.event_runs import EventRuns
from musenet.preparation.encoding.fields import PlannedField
from musenet.preparation.encoding.uncoded import new_uncoded
from musenet.preparation.encoding.vocabulary import Vocabulary
from musenet.preparation.relations.event_stream import AGAIN, IN_REPEATS, whole_ties
from musenet.preparation.relations.histories import IN_HISTORY
from musenet.preparation.relations.requests import USER_ROW


@dataclass(frozen=True)
class EventCounts:
    """How many events histories hold, and how many repeats are counted among."""

    in_history: int
    in_repeats: int


def count_events(engine: Engine, events: ir.Table) -> EventCounts:
    """Of the events in order."""
    found = engine.row(events.aggregate(history=events[IN_HISTORY].sum(), repeats=events[IN_REPEATS].sum()))
    return EventCounts(*(int(str(found[name] or 0)) for name in ("history", "repeats")))


def encode_events(
    engine: Engine,
    events: ir.Table,
    counts: EventCounts,
    users: int,
    folders: Folders,
    planned: Sequence[PlannedField],
    vocabularies: Mapping[str, Vocabulary],
    transforms: Mapping[str, NumericTransform],
) -> None:
    """Write `time`, `offset` and the fields of the events that histories hold, and the runs that repeats count in.

    Args:
        engine: where they lie.
        events: in order of user and time.
        counts: how many there are.
        users: rows of users, the unseen one included.
        folders: of the events; the passing one gets `_repeat_time`, `_repeat_offset` and `_again`.
        planned: fields of the history.
        vocabularies: by name.
        transforms: of numeric columns, by the name of the vocabulary of their buckets.
    """
    repeats = AGAIN in events.columns
    sizes = {name: np.zeros(users, dtype=np.int64) for name in (IN_HISTORY, IN_REPEATS)}
    columns = [USER_ROW, TIME, IN_HISTORY, IN_REPEATS, *([AGAIN] if repeats else []), *(e.column for e in planned)]
    with ExitStack() as stack:

        def new(folder: Path, name: str, rows: int, dtype: Any) -> NewColumn:
            return stack.enter_context(NewColumn(folder, name, (rows,), dtype))

        time = new(folders.kept, "time", counts.in_history, np.int64)
        fields = {entry: stack.enter_context(_new_field(folders, entry, counts.in_history)) for entry in planned}
        uncoded = new_uncoded(stack, folders.uncoded, planned, vocabularies)
        if repeats:
            repeat_time = new(folders.passing, "_repeat_time", counts.in_repeats, np.int64)
            running = new(folders.passing, "_again", counts.in_repeats + 1, np.int64)
            running.append(np.zeros(1, dtype=np.int64))
        repeated, before = 0, 0
        chunks = whole_ties(InOrder(events, [USER_ROW, TIME]).chunks(engine, list(dict.fromkeys(columns))))
        for chunk, every_code in ahead(_with_codes(chunks, planned, vocabularies, transforms)):
            user, moment = (numbers(chunk[name], 0) for name in (USER_ROW, TIME))
            stored, counting = (numbers(chunk[name], 0).astype(bool) for name in (IN_HISTORY, IN_REPEATS))
            _count(sizes[IN_HISTORY], user, stored)
            time.append(moment[stored])
            codes, place = [code[stored] for code in every_code], np.flatnonzero(stored)
            sort_ties(user[stored], moment[stored], [*codes, place])
            for entry, code in zip(planned, codes, strict=True):
                fields[entry].append(code)
                if entry in uncoded:
                    uncoded[entry].add(chunk[entry.column].take(pa.array(place)), code, before)
            before += len(place)
            if repeats:
                _count(sizes[IN_REPEATS], user, counting)
                repeat_time.append(moment[counting])
                again = repeated + np.cumsum(numbers(chunk[AGAIN], 0)[counting], dtype=np.int64)
                running.append(again)
                repeated = int(again[-1]) if len(again) else repeated
    write_column(folders.kept, "offset", _offset(sizes[IN_HISTORY]))
    if repeats:
        write_column(folders.passing, "_repeat_offset", _offset(sizes[IN_REPEATS]))


def stored_runs(folders: Folders) -> EventRuns:
    """The events that histories hold, mapped into memory."""
    return EventRuns(*(mapped(folders.kept, name) for name in ("time", "offset")))


def counted_runs(folders: Folders) -> EventRuns:
    """The events that repeats are counted among, mapped into memory."""
    return EventRuns(*(mapped(folders.passing, name) for name in ("_repeat_time", "_repeat_offset", "_again")))


def _new_field(folders: Folders, entry: PlannedField, rows: int) -> NewColumn:
    """Where the codes of a field of the history go; a number's are those of its buckets."""
    return NewColumn(folders.kept, entry.name, (rows,), np.int32) if entry.numeric else new_field(folders, entry, rows)


def _count(sizes: NDArray[np.int64], user: NDArray[Any], chosen: NDArray[np.bool_]) -> None:
    """Add the chosen events of each user to `sizes`; users are in order."""
    first, last = int(user[0]), int(user[-1])
    sizes[first : last + 1] += np.bincount(user[chosen] - first, minlength=last - first + 1)


def _with_codes(
    chunks: Iterator[pa.Table],
    planned: Sequence[PlannedField],
    vocabularies: Mapping[str, Vocabulary],
    transforms: Mapping[str, NumericTransform],
) -> Iterator[tuple[pa.Table, list[NDArray[Any]]]]:
    for chunk in chunks:
        yield chunk, [_codes(chunk[entry.column], entry, vocabularies, transforms) for entry in planned]


def _codes(
    column: pa.ChunkedArray,
    entry: PlannedField,
    vocabularies: Mapping[str, Vocabulary],
    transforms: Mapping[str, NumericTransform],
) -> NDArray[Any]:
    """Of a number, the bucket of the feature of that name, which was fitted on the training impressions."""
    values = encoded(column, entry, vocabularies)
    return transforms[entry.vocabulary].bucket(values) if entry.numeric else values


def _offset(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
