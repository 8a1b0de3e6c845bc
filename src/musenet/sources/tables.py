"""The contract between a source and preparation: four relations and what was done to them.

A source renames and cleans. It never joins histories, splits, encodes, or drops a row without saying so.

Role columns carry a leading underscore, so that a log's own columns keep their own names:

| relation    | role columns                                                     | other columns                       |
|-------------|------------------------------------------------------------------|-------------------------------------|
| impressions | `_user`, `_item`, `_time`, `_label`, maybe `_request`, `_weight` | context and candidate features      |
| events      | `_user`, `_time`, maybe `_item`, `_kind`                         | attributes of what was acted upon   |
| users       | `_user`, once each                                               | user features                       |
| items       | `_item`, once each                                               | item features                       |

`_user` and `_item` keep the log's type (integer or string; the same in all relations), `_time` is int64 microseconds
since 1970 in UTC, `_label` is int8 0 or 1, `_weight` is float64.
"""

from dataclasses import dataclass, field
from typing import Protocol

import ibis.expr.types as ir
import pyarrow as pa

from musenet.dataset.roles import ITEM, LABEL, TIME, USER, LogTable
from musenet.engines.engine import Engine
from musenet.errors import DataError

REFUSED = pa.schema([("table", pa.string()), ("reason", pa.string()), ("row", pa.string())])
"""Of the table of refused rows."""


@dataclass(frozen=True)
class CleaningRule:
    """How many rows of a relation one rule of a source touched, and whether they were dropped or mended."""

    table: str
    reason: str
    rows: int
    dropped: bool


@dataclass(frozen=True)
class Tables:
    """What a source yields.

    `user_column` and `item_column` are the log's own names of the two ids: under these names the ids are features,
    history columns and repeat keys.
    """

    impressions: ir.Table
    events: ir.Table | None
    users: ir.Table | None
    items: ir.Table | None
    user_column: str
    item_column: str
    protocol: str
    """One line: what a row is, how negatives came about."""
    timezone: str = "UTC"
    negative_sampling_rate: float = 1.0
    """Share of the negatives that the log keeps; serving corrects the logit by its logarithm."""
    missing_texts: list[str] = field(default_factory=list)
    """Texts that stand where there is no value, besides those that never are one."""
    time_layouts: dict[LogTable, str] = field(default_factory=dict)
    """How times of impressions and events are laid out, where their values told it."""
    cleaning: list[CleaningRule] = field(default_factory=list)
    shown_attributes: dict[str, list[str]] = field(default_factory=dict)
    """Attributes of `users` and `items` that were taken from the impressions, where each was first seen."""
    rejected: ir.Table | None = None
    """Refused rows, of the schema `REFUSED`: `table`, `reason`, `row` (the row as JSON text)."""


@dataclass(frozen=True)
class LogSize:
    """About how many rows a log has."""

    impressions: int
    events: int


class Source(Protocol):
    """Anything that yields tables."""

    def tables(self, engine: Engine) -> Tables:
        """Read, rename and clean; raises `DataError` on what cannot be used."""
        ...

    def fingerprint(self) -> str:
        """Change whenever the underlying data may have changed (sizes and modification times of files, versions)."""
        ...

    def size(self) -> LogSize:
        """About how many rows there are, told from the files without reading them."""
        ...


_NEEDED = {"impressions": (USER, ITEM, TIME, LABEL), "events": (USER, TIME), "users": (USER,), "items": (ITEM,)}


def check_tables(tables: Tables) -> None:
    """Raise `DataError` unless what a source gave has the role columns of its relations, of fitting types."""
    if not isinstance(tables, Tables):
        raise DataError(f"the source's tables(engine) gives a {type(tables).__name__}: it has to give Tables")
    texts = {role: tables.impressions.schema().get(role) for role in (USER, ITEM)}
    for name, needed in _NEEDED.items():
        relation: ir.Table | None = getattr(tables, name)
        schema = {} if relation is None else dict(relation.schema().items())
        for role in needed if relation is not None else ():
            if role not in schema:
                raise DataError(f"the source gives {name} without {role}: rename the log's column to it")
        if TIME in schema and not schema[TIME].is_integer():
            raise DataError(
                f"the source gives {name} whose {TIME} is of type {schema[TIME]}: give integers, microseconds since "
                "1970 in UTC"
            )
        for role in (USER, ITEM):
            if role in schema and schema[role].is_string() != texts[role].is_string():
                raise DataError(
                    f"the source gives {name} whose {role} is of type {schema[role]}, and impressions whose {role} is "
                    f"of type {texts[role]}: give both the same"
                )
