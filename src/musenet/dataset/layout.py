"""What lies where in a dataset's folder: plain `.npy` columns of five relations, Parquet beside them, a manifest.

    manifest.json                 schema, vocabularies' sizes, counts, checksums, format version
    users/<field>.npy             (U,) one row per user; row 0 is the unseen user
    items/<field>.npy             (I,) one row per item; row 0 is the unseen item
    events/<field>.npy            (E,) sorted by user, time, then every encoded column
    requests/<field>.npy          (R,) in order of split and time
    candidates/<field>.npy        (N,) the first request's, then the second's, …
    keys/{users,items,requests}.parquet   the log's own ids, row by row; with the items what events and repeat keys
                                  look up of them
    vocabularies/<name>.parquet   value of each code from 3 on, as text, with its count in training

What events, requests and candidates have beside their fields is told by `Events`, `Requests` and `Candidates`.

Codes of categorical fields: 0 padding, 1 unseen, 2 missing, 3 and up the values by count, then value. A multi-valued
field is (rows, width), padded with 0. Dense fields and vectors, which are (rows, width), are float32, standardised on
the training period, 0 where missing.

Nothing outside this package knows a name of these files.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from musenet.dataset.manifest import FieldSide

Array = NDArray[Any]
Relation = Literal["users", "items", "events", "requests", "candidates"]

RELATIONS: Mapping[FieldSide, Relation] = {
    "user": "users",
    "item": "items",
    "context": "requests",
    "candidate": "candidates",
    "history": "events",
}
"""Whose rows a field of each side describes."""
VALUE, OCCURRENCES = "value", "count"
"""Columns of a vocabulary."""


def relation_folder(folder: Path, side: FieldSide) -> Path:
    """Where the columns of a side lie."""
    return folder / RELATIONS[side]


def keys_file(folder: Path, relation: Relation) -> Path:
    """The log's own ids of a relation's rows."""
    return folder / "keys" / f"{relation}.parquet"


def vocabulary_file(folder: Path, name: str) -> Path:
    """The values of a vocabulary's codes."""
    return folder / "vocabularies" / f"{name}.parquet"


class Column:
    """A column that stands in every dataset, mapped into memory."""

    def __set_name__(self, relation: type, name: str) -> None:
        self.name = name

    def __get__(self, relation: "Columns", kind: type) -> Array:
        return relation.read(self.name)


class OptionalColumn:
    """A column that some datasets have; None in the others."""

    def __set_name__(self, relation: type, name: str) -> None:
        self.name = name

    def __get__(self, relation: "Columns", kind: type) -> Array | None:
        return relation.read(self.name) if relation.has(self.name) else None


class Columns:
    """What a relation has beside its fields.

    Args:
        read: a column by its name.
        has: whether there is such a column.
    """

    def __init__(self, read: Callable[[str], Array], has: Callable[[str], bool]) -> None:
        self.read = read
        self.has = has


class Events(Columns):
    """Of the events that histories hold."""

    time = OptionalColumn()
    """(E,) microseconds, UTC. Models do not see it."""
    offset = Column()
    """(U + 1,) where each user's events begin."""


class Requests(Columns):
    """Of the requests."""

    user = Column()
    """(R,) row of the user."""
    time = Column()
    """(R,) microseconds, UTC."""
    history_end = Column()
    """(R,) the row before which the user's events are history."""
    candidate_offset = Column()
    """(R + 1,) where each request's candidates begin."""
    repeat_fraction = OptionalColumn()
    """(R,) r_i of Eq 10; NaN without events."""
    predefined_scenario = OptionalColumn()
    """(R,) code; -1 where it has none."""
    true_scenario = OptionalColumn()
    """(R,) code; -1 where it is not known."""


class Candidates(Columns):
    """Of the candidates."""

    item = Column()
    """(N,) row of the item."""
    label = Column()
    """(N,) 0 or 1."""
    weight = OptionalColumn()
    """(N,) importance of the impression."""
    true_probability = OptionalColumn()
    """(N,) a generator's own; NaN where it is not known."""
    repeat_indicator = OptionalColumn()
    """(N,) I[t in B_u] of Eq 9."""
    repeat_count = OptionalColumn()
    """(N,) how many such events there were."""
    repeat_recency = OptionalColumn()
    """(N,) seconds since the last one; NaN if there was none, or it is not known when."""


_BESIDE_FIELDS: Mapping[Relation, type[Columns]] = {"events": Events, "requests": Requests, "candidates": Candidates}


def required_columns(relation: Relation) -> set[str]:
    """Names of the columns that a relation has in every dataset, beside its fields."""
    return _names(relation, Column)


def reserved_columns(relation: Relation) -> set[str]:
    """Names that no field of a relation can have."""
    return _names(relation, Column, OptionalColumn)


def _names(relation: Relation, *kinds: type) -> set[str]:
    of = _BESIDE_FIELDS.get(relation)
    return set() if of is None else {name for name, column in vars(of).items() if isinstance(column, kinds)}
