"""Events: streamed in order of user and time, ties put in order of their codes, and written once."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from musenet.dataset.column_files import NewColumn, mapped, write_column
from musenet.dataset.roles import TIME
from musenet.engines.engine import Engine
from musenet.preparation.encoding.coding import EventCoding, FieldCoding
from musenet.preparation.encoding.encode import FieldFiles, Folders, InOrder, as_array
from musenet.preparation.encoding.event_runs import EventRuns
from musenet.preparation.relations.event_stream import AGAIN, IN_REPEATS
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
    fields: FieldCoding,
) -> None:
    """Write `time`, `offset` and the fields of the events that histories hold, and the runs that repeats count in.

    Args:
        engine: where they lie.
        events: in order of user and time.
        counts: how many there are.
        users: rows of users, the unseen one included.
        folders: of the events; the passing one gets `_repeat_time`, `_repeat_offset` and `_again`.
        fields: of the history.
    """
    coding = EventCoding(fields, AGAIN in events.columns)
    sizes = {name: np.zeros(users, dtype=np.int64) for name in (IN_HISTORY, IN_REPEATS)}
    with ExitStack() as stack:

        def new(folder: Path, name: str, rows: int) -> NewColumn:
            return stack.enter_context(NewColumn(folder, name, (rows,), np.int64))

        time = new(folders.kept, "time", counts.in_history)
        files = FieldFiles(stack, folders, fields, counts.in_history)
        if coding.repeats:
            repeat_time = new(folders.passing, "_repeat_time", counts.in_repeats)
            running = new(folders.passing, "_again", counts.in_repeats + 1)
            running.append(np.zeros(1, dtype=np.int64))
        repeated, before = 0, 0
        for coded in InOrder(events, [USER_ROW, TIME]).through(engine, coding):
            user, moment, stored, counting = (
                as_array(coded[name]) for name in (USER_ROW, TIME, IN_HISTORY, IN_REPEATS)
            )
            _count(sizes[IN_HISTORY], user, stored)
            time.append(moment[stored])
            files.append(coded if stored.all() else coded.filter(pa.array(stored)), before)
            before += int(stored.sum())
            if coding.repeats:
                _count(sizes[IN_REPEATS], user, counting)
                repeat_time.append(moment[counting])
                again = repeated + np.cumsum(as_array(coded[AGAIN])[counting], dtype=np.int64)
                running.append(again)
                repeated = int(again[-1]) if len(again) else repeated
    write_column(folders.kept, "offset", _offset(sizes[IN_HISTORY]))
    if coding.repeats:
        write_column(folders.passing, "_repeat_offset", _offset(sizes[IN_REPEATS]))


def stored_runs(folders: Folders) -> EventRuns:
    """The events that histories hold, mapped into memory."""
    return EventRuns(*(mapped(folders.kept, name) for name in ("time", "offset")))


def counted_runs(folders: Folders) -> EventRuns:
    """The events that repeats are counted among, mapped into memory."""
    return EventRuns(*(mapped(folders.passing, name) for name in ("_repeat_time", "_repeat_offset", "_again")))


def _count(sizes: NDArray[np.int64], user: NDArray[Any], chosen: NDArray[np.bool_]) -> None:
    """Add the chosen events of each user to `sizes`; users are in order."""
    first, last = int(user[0]), int(user[-1])
    sizes[first : last + 1] += np.bincount(user[chosen] - first, minlength=last - first + 1)


def _offset(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
