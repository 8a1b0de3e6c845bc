"""A dataset from arrays in memory, for those who have their own; `prepare` makes one of a log."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from musenet import __version__
from musenet.dataset.column_files import write_column
from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import (
    OCCURRENCES,
    RELATIONS,
    VALUE,
    Array,
    Relation,
    keys_file,
    required_columns,
    reserved_columns,
    vocabulary_file,
)
from musenet.dataset.manifest import (
    FIRST_VALUE,
    Field,
    Manifest,
    Period,
    Split,
    carry_over,
    checksums_of,
    orphans_of_replacing,
    write_manifest,
)
from musenet.errors import DatasetError
from musenet.workspace import install, result_folder, workspace

OFFSETS = ("offset", "candidate_offset")
"""Columns that have a place more than their relation has rows, or those of users."""


@dataclass(frozen=True)
class Arrays:
    """A dataset's columns by name: every field, and what `layout.Events`, `Requests` and `Candidates` tell of."""

    users: dict[str, Array] = field(default_factory=dict)
    """Row 0 is the unseen user."""
    items: dict[str, Array] = field(default_factory=dict)
    """Row 0 is the unseen item."""
    events: dict[str, Array] = field(default_factory=dict)
    """Sorted by user and time."""
    requests: dict[str, Array] = field(default_factory=dict)
    """In order of split and time."""
    candidates: dict[str, Array] = field(default_factory=dict)
    """Those of the first request, then of the second, …"""

    def __or__(self, other: "Arrays") -> "Arrays":
        """Both; where both have a column, the other's."""
        return Arrays(**{one.name: getattr(self, one.name) | getattr(other, one.name) for one in fields_of(self)})

    def relations(self) -> Iterator[tuple[Relation, dict[str, Array]]]:
        """Each relation with its columns."""
        return ((cast("Relation", one.name), getattr(self, one.name)) for one in fields_of(self))


def write_dataset(
    folder: Path,
    arrays: Arrays,
    fields: Sequence[Field],
    splits: Mapping[Split, tuple[int, int]],
    vocabularies: Mapping[str, Sequence[str] | int],
    keys: Mapping[Relation, pa.Table] | None = None,
    *,
    replace: bool = False,
    **facts: Any,
) -> Dataset:
    """Write a dataset of columns in memory, whole or not at all, and open it.

    Args:
        folder: of the dataset.
        arrays: its columns.
        fields: what models see of them, in their order.
        splits: the requests [begin, end) of each period.
        vocabularies: the texts of each one's values, those of the codes from 3 on; or how many codes there are, padding
            left out, where they have no texts: such a dataset can be trained on, but neither described nor exported.
        keys: the log's own ids, row by row, by the names of `roles.py`; exports and tables of scenarios need them.
        replace: another dataset in the folder gives way, and runs on it lose theirs.
        facts: what else `Manifest` holds: `user_column`, `item_column` and `history_length` always, `protocol`,
            `timezone`, `numeric`, `vectors`, `predefined_scenarios`, `true_scenarios`, `event_columns`, `key_columns`
            if known. A fingerprint is made of the contents if none is given.

    Raises:
        DatasetError: if the arrays do not fit together, or the folder holds something else, or another dataset that may
            not be replaced.
    """
    sizes = {name: of if isinstance(of, int) else len(of) + FIRST_VALUE - 1 for name, of in vocabularies.items()}
    _check(arrays, fields, sizes)
    requests = len(arrays.requests["candidate_offset"]) - 1
    for split, (begin, end) in splits.items():
        if not 0 <= begin <= end <= requests:
            raise DatasetError(f"the split '{split}' has to be requests from 0 to {requests}, not {begin} to {end}")
    with workspace(folder, f"arrays {uuid4()}") as work:
        new = result_folder(work)
        for relation, columns in arrays.relations():
            for name, column in columns.items():
                write_column(new / relation, name, column)
        for name, texts in vocabularies.items():
            if not isinstance(texts, int):
                write_vocabulary(new, name, texts)
        for keyed, table in (keys or {}).items():
            keys_file(new, keyed).parent.mkdir(exist_ok=True)
            pq.write_table(table, keys_file(new, keyed))
        manifest = _manifest(arrays, fields, splits, sizes, checksums_of(new), facts)
        orphans_of_replacing(folder, manifest.fingerprint, asked=replace, how="give replace=True")
        write_manifest(new, manifest)
        carry_over(folder, new)
        install(work, folder)
    return Dataset(folder)


def write_vocabulary(folder: Path, name: str, values: Sequence[str], counts: Array | None = None) -> None:
    """Write the text of each value from code 3 on, with its count in training if that is known."""
    file = vocabulary_file(folder, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    table = {VALUE: values} | ({} if counts is None else {OCCURRENCES: pa.array(counts, pa.int64())})
    pq.write_table(pa.table(table), file)


def _manifest(
    arrays: Arrays,
    fields: Sequence[Field],
    splits: Mapping[Split, tuple[int, int]],
    sizes: dict[str, int],
    checksums: dict[str, str],
    facts: dict[str, Any],
) -> Manifest:
    offset, time = arrays.requests["candidate_offset"], arrays.requests["time"]
    derived: dict[str, Any] = {
        "version": __version__,
        "fingerprint": hashlib.sha256(json.dumps([checksums, sizes], sort_keys=True).encode()).hexdigest(),
        "protocol": "written from arrays",
        "timezone": "UTC",
        "negative_sampling_rate": 1.0,
        "users": _rows(arrays.users) - 1,
        "items": _rows(arrays.items) - 1,
        "events": int(arrays.events["offset"][-1]),
        "requests": len(arrays.requests["user"]),
        "candidates": len(arrays.candidates["label"]),
        "splits": {split: period_of(offset, time, arrays.candidates["label"], *span) for split, span in splits.items()},
        "fields": fields,
        "vocabularies": sizes,
        "has_repeats": "repeat_indicator" in arrays.candidates,
        "checksums": checksums,
    }
    try:
        return Manifest.model_validate(derived | facts)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise DatasetError(f"the dataset's {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from error


def period_of(offset: Array, time: Array, label: Array, begin: int, end: int) -> Period:
    """The requests from `begin` to before `end` as a split.

    Args:
        offset: (B + 1) first candidate of each request.
        time: (B) of each request, microseconds.
        label: (C) of each candidate.
    """
    label = label[offset[begin] : offset[end]]
    return Period(
        begin=begin,
        end=end,
        impressions=len(label),
        positives=int(np.sum(label == 1)),
        first_time=int(time[begin]) if end > begin else None,
        last_time=int(time[end - 1]) if end > begin else None,
    )


def _rows(columns: Mapping[str, Array]) -> int:
    return len(next(iter(columns.values()), ()))


def _check(arrays: Arrays, fields: Sequence[Field], sizes: Mapping[str, int]) -> None:
    """Raise `DatasetError` unless columns are there, as long as each other, and hold rows and codes that there are."""
    rows: dict[Relation, int] = {}
    for relation, columns in arrays.relations():
        if not columns:
            raise DatasetError(f"the dataset's {relation} have no columns")
        own = {field.name for field in fields if RELATIONS[field.side] == relation}
        missing = sorted((own | required_columns(relation)) - columns.keys())
        unknown = sorted(columns.keys() - own - reserved_columns(relation))
        if missing or unknown:
            told = f"lack {', '.join(missing)}" if missing else f"have {', '.join(unknown)}, which is no field"
            raise DatasetError(f"the dataset's {relation} {told}")
        lengths = {name: len(column) for name, column in columns.items() if name not in OFFSETS}
        if len(set(lengths.values())) > 1:
            raise DatasetError(f"the dataset's {relation} have columns of different lengths: {lengths}")
        rows.update(dict.fromkeys([relation] if lengths else [], max(lengths.values(), default=0)))
    _check_offset("events", arrays.events["offset"], rows["users"], rows.get("events"))
    _check_offset("candidates", arrays.requests["candidate_offset"], rows["requests"], rows["candidates"])
    user, item, offset = arrays.requests["user"], arrays.candidates["item"], arrays.events["offset"]
    for name, column, of in (("user", user, rows["users"]), ("item", item, rows["items"])):
        if len(column) and not 0 <= column.min() <= column.max() < of:
            raise DatasetError(f"the column '{name}' has to hold rows of the {name}s, 0 to {of - 1}")
    if ((arrays.requests["history_end"] < offset[user]) | (arrays.requests["history_end"] > offset[user + 1])).any():
        raise DatasetError("the column 'history_end' has to be among the events of each request's user, or behind them")
    for one in fields:
        column = getattr(arrays, RELATIONS[one.side])[one.name]
        if one.has_codes and len(column) and not 0 <= column.min() <= column.max() <= sizes[one.vocabulary_name]:
            raise DatasetError(f"the {one.side} field '{one.name}' holds codes that its vocabulary does not have")


def _check_offset(relation: Relation, offset: Array, parts: int, rows: int | None) -> None:
    rows = int(offset[-1]) if rows is None else rows
    if (len(offset), int(offset[0]), int(offset[-1])) != (parts + 1, 0, rows) or (np.diff(offset) < 0).any():
        raise DatasetError(f"the offset of {relation} has to be {parts + 1} numbers from 0 to {rows}, ascending")
