"""Events in order are kept once and marked as repeats, however the stream is cut into chunks."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musenet.ahead import ahead
from musenet.preparation.relations.event_stream import RepeatMarks, numbers_of_rows, once_and_marked

Row = dict[str, Any]

HUGE = 1 << 62
SCHEMA = pa.schema(
    [
        ("_user_row", pa.int64()),
        ("_time", pa.int64()),
        ("_kind", pa.string()),
        ("_in_repeats", pa.bool_()),
        ("brand", pa.string()),
        ("item", pa.int64()),
        ("tags", pa.list_(pa.string())),
    ]
)
KEYS = [["brand"], ["item"], ["brand", "item"], ["item", "tags"], ["_user_row", "brand"]]
rows = st.fixed_dictionaries(
    {
        "_user_row": st.integers(1, 3),
        "_time": st.integers(0, 6),
        "_kind": st.sampled_from(["click", "buy", None]),
        "_in_repeats": st.booleans(),
        "brand": st.sampled_from(["x", "y", None]),
        "item": st.sampled_from([-HUGE, 1, HUGE, None]),
        "tags": st.sampled_from([["a"], ["a", "b"], [], None]),
    }
)


def reference(events: list[Row], key: list[str], window: int | None) -> list[Row]:
    distinct: list[Row] = []
    for event in events:
        if event not in distinct:
            distinct.append(event)

    def again(event: Row) -> bool:
        wanted = [event[name] for name in key]
        return (
            event["_in_repeats"]
            and None not in wanted
            and any(
                other["_in_repeats"]
                and other["_user_row"] == event["_user_row"]
                and [other[name] for name in key] == wanted
                and other["_time"] < event["_time"]
                and (window is None or other["_time"] >= event["_time"] - window)
                for other in distinct
            )
        )

    return [event | {"_again": again(event)} for event in distinct]


def cut(events: list[Row], places: list[int]) -> Iterator[pa.Table]:
    table = pa.Table.from_pylist(events, SCHEMA)
    borders = sorted({0, len(events), *(place % (len(events) + 1) for place in places)})
    return (table.slice(begin, end - begin) for begin, end in itertools.pairwise(borders))


@settings(deadline=None)
@given(
    st.lists(rows, min_size=1, max_size=40),
    st.lists(st.integers(0, 40), max_size=8),
    st.sampled_from(KEYS),
    st.sampled_from([None, 1, 3]),
)
def test_equals_the_reference(events: list[Row], places: list[int], key: list[str], window: int | None) -> None:
    events.sort(key=lambda event: (event["_user_row"], event["_time"]))
    identity = [name for name in SCHEMA.names if name not in ("_user_row", "_time")]
    parts = once_and_marked(cut(events, places), identity, RepeatMarks(key, window), SCHEMA.names)
    assert pa.concat_tables(parts).to_pylist() == reference(events, key, window)


def test_without_marks_nothing_is_told_of_repeats() -> None:
    events = [dict.fromkeys(SCHEMA.names) | {"_user_row": 1, "_time": time, "_in_repeats": True} for time in (1, 1, 2)]
    parts = once_and_marked(cut(events, []), ["brand"], None, ["_user_row", "_time"])
    assert pa.concat_tables(parts).to_pylist() == [{"_user_row": 1, "_time": 1}, {"_user_row": 1, "_time": 2}]


def test_rows_are_numbered_alike_where_they_are_equal_though_the_columns_span_more_than_a_number_holds() -> None:
    frame = pl.DataFrame({name: [-HUGE, HUGE, -HUGE, HUGE, -HUGE] for name in ("a", "b")}).with_columns(
        c=pl.Series([0.0, 1.5, -0.0, 1.5, 2.0])
    )
    numbers = numbers_of_rows(frame)
    assert numbers[0] == numbers[2]
    assert numbers[1] == numbers[3]
    assert len(np.unique(numbers)) == 3


def test_the_next_item_is_made_while_one_is_in_use() -> None:
    made = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for place, event in enumerate(made):
            event.set()
            yield place

    found = []
    for item in ahead(items()):
        assert made[min(item + 1, 3)].wait(10)
        found.append(item)
    assert found == [0, 1, 2, 3]


def test_what_the_other_thread_raises_is_raised_here() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    coming = ahead(items())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="no more"):
        next(coming)


def test_who_stops_early_does_not_wait() -> None:
    wanted = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        wanted.wait()
        yield 2

    coming = ahead(items())
    assert next(coming) == 1
    coming.close()  # type: ignore[attr-defined]
    wanted.set()
