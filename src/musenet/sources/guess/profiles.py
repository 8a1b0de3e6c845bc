"""What each column of a table holds, seen from its values."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import ibis
import ibis.expr.types as ir

from musenet.sources.files.opening import LogFile

ROWS_LOOKED_AT = 300_000
MOSTLY = 0.9
_EPOCHS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6}
_FIRST_SECOND, _LAST_SECOND = 800_000_000, 2_500_000_000  # 1995 to 2049

Kind = Literal["flag", "whole", "number", "text", "time", "list", "other"]


@dataclass(frozen=True)
class ColumnProfile:
    """One column, summed up."""

    name: str
    kind: Kind
    rows: int
    filled: int
    """Rows with a value."""
    values: int
    """Distinct values."""
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    median: float = 0.0
    odd: int = 0
    """Values of a column of numbers that are none."""
    unit: str | None = None
    """Of a time in integers: what they count."""
    as_text: bool = False
    separated: int = 0
    """Texts that hold a separator."""

    @property
    def is_unique(self) -> bool:
        """Nearly every row has its own value; a few repeated rows do not change what a table is."""
        return self.rows > 1 and self.values >= 0.95 * self.rows

    @property
    def is_id_like(self) -> bool:
        """Whole numbers or text with several values: what an id looks like."""
        return self.kind in ("whole", "text") and self.values >= 3

    @property
    def positive_share(self) -> float:
        """Of a flag."""
        return self.mean


@dataclass
class TableProfile:
    """One table and its columns."""

    file: LogFile
    table: ir.Table
    """The rows looked at."""
    rows: int
    """All rows."""
    columns: dict[str, ColumnProfile]


def profile_table(connection: ibis.BaseBackend, file: LogFile) -> TableProfile:
    """Look at a table's columns; of a large one at its first rows."""
    rows = int(connection.to_pyarrow(file.table.count()).as_py())
    table = connection.create_table(ibis.util.gen_name("looked_at"), _storable(file.table.limit(ROWS_LOOKED_AT)))
    columns = {name: _profile(connection, table, name) for name in table.columns}
    return TableProfile(file, table, rows, columns)


def time_span(connection: ibis.BaseBackend, table: ir.Table, column: ColumnProfile) -> tuple[datetime, datetime] | None:
    """First and last time of a column, to the second."""
    values = table[column.name]
    if column.unit:
        seconds = (values.try_cast("int64") if column.as_text else values.cast("int64")) // _EPOCHS[column.unit]
    else:
        seconds = (
            values.try_cast("timestamp").epoch_seconds() if column.as_text else values.cast("timestamp").epoch_seconds()
        )
    ends = connection.to_pyarrow(table.agg(first=seconds.min(), last=seconds.max())).to_pylist()[0]
    if ends["first"] is None:
        return None
    return datetime.fromtimestamp(ends["first"], UTC), datetime.fromtimestamp(ends["last"], UTC)


def _storable(table: ir.Table) -> ir.Table:
    """Columns without any value have no type that an engine could store."""
    return table.mutate(
        **{name: table[name].cast("string") for name in table.columns if table[name].type().is_unknown()}
    )


def _profile(connection: ibis.BaseBackend, table: ir.Table, name: str) -> ColumnProfile:
    column = table[name]
    kind = column.type()
    if kind.is_array():
        return ColumnProfile(name, "list", *_counts(connection, table, column.count(), column.count()))
    if kind.is_timestamp() or kind.is_date():
        return ColumnProfile(name, "time", *_counts(connection, table, column.count(), column.nunique()))
    if kind.is_string():
        return _profile_text(connection, table, name)
    if kind.is_numeric() or kind.is_boolean():
        found = _numbers(connection, table, column, column.cast("float64"))
        return _of_numbers(name, found, as_text=False)
    return ColumnProfile(name, "other", *_counts(connection, table, column.count(), column.nunique()))


def _profile_text(connection: ibis.BaseBackend, table: ir.Table, name: str) -> ColumnProfile:
    text = table[name].strip().nullif("")
    lower = text.lower()
    as_flag = ibis.cases((lower == "true", "1"), (lower == "false", "0"), else_=text)
    found = _numbers(connection, table, text, as_flag.try_cast("float64"))
    filled = found["filled"]
    if filled and found["numbers"] >= MOSTLY * filled:
        return _of_numbers(name, found, as_text=True)
    more = table.agg(times=text.try_cast("timestamp").count(), separated=text.re_search(r"\S[|;,]\S").sum())
    counts = connection.to_pyarrow(more).to_pylist()[0]
    is_time = filled and counts["times"] >= MOSTLY * filled
    return ColumnProfile(
        name,
        "time" if is_time else "text",
        found["rows"],
        filled,
        found["values"],
        odd=filled - counts["times"] if is_time else 0,
        as_text=True,
        separated=int(counts["separated"] or 0),
    )


def _counts(connection: ibis.BaseBackend, table: ir.Table, filled: ir.Value, values: ir.Value) -> tuple[int, int, int]:
    found = connection.to_pyarrow(table.agg(rows=table.count(), filled=filled, values=values)).to_pylist()[0]
    return found["rows"], found["filled"], found["values"]


def _numbers(connection: ibis.BaseBackend, table: ir.Table, column: ir.Value, number: ir.Value) -> dict[str, Any]:
    number = (number.isnan() | number.isinf()).ifelse(ibis.null("float64"), number)
    summary = table.agg(
        rows=table.count(),
        filled=column.count(),
        values=column.nunique(),
        numbers=number.count(),
        fractions=(number != number.floor()).sum(),
        low=number.min(),
        high=number.max(),
        mean=number.mean(),
        median=number.median(),
    )
    return dict(connection.to_pyarrow(summary).to_pylist()[0])


def _of_numbers(name: str, found: dict[str, Any], *, as_text: bool) -> ColumnProfile:
    low, high = found["low"] or 0.0, found["high"] or 0.0
    whole = not found["fractions"]
    unit = _epoch_unit(found["median"] or 0.0) if whole and found["values"] > 2 else None
    odd = found["filled"] - found["numbers"] if as_text else 0
    is_flag = whole and found["filled"] > 0 and low >= 0 and high <= 1 and found["values"] - odd <= 2
    kind: Kind = "flag" if is_flag else "time" if unit else "whole" if whole else "number"
    return ColumnProfile(
        name,
        kind,
        found["rows"],
        found["filled"],
        found["values"],
        low=low,
        high=high,
        mean=found["mean"] or 0.0,
        median=found["median"] or 0.0,
        odd=odd,
        unit=unit,
        as_text=as_text,
    )


def _epoch_unit(middle: float) -> str | None:
    for unit, factor in _EPOCHS.items():
        if _FIRST_SECOND * factor <= middle <= _LAST_SECOND * factor:
            return unit
    return None
