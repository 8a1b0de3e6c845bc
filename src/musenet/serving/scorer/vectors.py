"""Vectors that requests and tables bring, as rows of numbers."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.errors import RequestError
from musenet.serving.values import Value, numbers_of_texts

HOLDS_TOO_LARGE = "holds too large a number"
_LISTS = pa.large_list(pa.float64())
_LARGEST = float(np.finfo(np.float32).max)


def distinct_vectors(column: pa.Array) -> tuple[pa.Array, NDArray[np.int64]] | None:
    """The different lists of a column, and (rows,) where each row's stands among them; None if it holds no such lists.

    Texts in them are read as numbers.

    Lists are told apart by their bytes: to look at every number takes many times as long.
    """
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    kind = column.type.value_type if any(test(column.type) for test in tests) else pa.null()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = column.cast(pa.large_list(pa.string()))
        # What is missing becomes an empty list, which means the same.
        column = pa.LargeListArray.from_arrays(texts.offsets, numbers_of_texts(texts.values, ())[0])
    elif not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        return None
    lists = column.cast(_LISTS)
    numbers = lists.values.to_numpy(zero_copy_only=False)  # NaN where one is missing
    ends = lists.offsets.to_numpy()
    first: dict[bytes, int] = {}
    rows = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    places = [first.setdefault(numbers[begin:end].tobytes(), len(first)) for begin, end in rows]
    return lists.take(pa.array(np.unique(places, return_index=True)[1])), np.array(places, dtype=np.int64)


def vectors_of(values: Sequence[Value] | pa.Array, width: int, at: Callable[[int], str]) -> NDArray[np.float32]:
    """(rows, width) NaN where missing, as an empty list is.

    Args:
        values: lists, or an array of `distinct_vectors`.
        width: numbers of each.
        at: the name of a row in messages.

    Raises:
        RequestError: for what is no list of so many finite numbers.
    """
    if isinstance(values, pa.Array) and values.type == _LISTS:
        return _of_lists(values, width, at)
    found = np.full((len(values), width), np.nan, dtype=np.float32)
    for place, value in enumerate(values.to_pylist() if isinstance(values, pa.Array) else values):
        if value is None or value == []:
            continue
        if type(value) is not list:
            what = "text" if type(value) is str else "one value"
            raise RequestError(at(place), f"takes a list of {width} numbers, not {what}")
        _check_length(len(value), width, at(place))
        if not set(map(type, value)) <= {int, float} or any(
            isinstance(one, float) and math.isnan(one) for one in value
        ):
            raise RequestError(at(place), f"takes a list of {width} numbers: something in it is none")
        if any(not -_LARGEST <= one <= _LARGEST for one in value):
            raise RequestError(at(place), HOLDS_TOO_LARGE)
        found[place] = value
    return found


def _of_lists(values: pa.Array, width: int, at: Callable[[int], str]) -> NDArray[np.float32]:
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    there = np.flatnonzero(lengths)
    if (odd := lengths[there] != width).any():
        _check_length(int(lengths[there[odd.argmax()]]), width, at(int(there[odd.argmax()])))
    numbers = pc.list_flatten(values).to_numpy(zero_copy_only=False).reshape(-1, width)
    if (nothing := np.isnan(numbers).any(axis=1)).any():
        raise RequestError(
            at(int(there[nothing.argmax()])), f"takes a list of {width} numbers: something in it is none"
        )
    if (large := (np.abs(numbers) > _LARGEST).any(axis=1)).any():
        raise RequestError(at(int(there[large.argmax()])), HOLDS_TOO_LARGE)
    found = np.full((len(values), width), np.nan, dtype=np.float32)
    found[there] = numbers
    return found


def _check_length(length: int, width: int, where: str) -> None:
    if length != width:
        raise RequestError(where, f"takes a list of {width} numbers, not a list of {length}")
