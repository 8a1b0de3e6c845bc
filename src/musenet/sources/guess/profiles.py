"""What each column of a table holds, seen from its values."""

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from musenet.dataset.roles import MICROSECONDS
from musenet.engines.engine import Engine
from musenet.errors import ConfigError, DataError
from musenet.sources.files.headers import clean_names
from musenet.sources.files.opening import LogFile
from musenet.sources.files.options import TimeColumn
from musenet.sources.files.times import SAY, as_time
from musenet.sources.files.values import as_number, as_vector
from musenet.sources.guess.names import ID, ITEM, ROW_NUMBER, TIME, USER, says, snake
from musenet.sources.local_time import on_calendar, zone_of

ROWS_LOOKED_AT = 300_000
MOSTLY = 0.9
_SEPARATORS = ("|", ";", ",")
_LIKE_A_DATE = r"^\d{1,4}[-/.]\d"
_LEAST_OF_A_TIME = 1_000_000
_EARLIEST, _LATEST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * MICROSECONDS for year in (1990, 2050))

Kind = Literal["flag", "whole", "number", "text", "time", "list", "vector", "other"]


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
    """Values of a column of numbers or times that are none."""
    in_integers: bool = False
    """Of a time."""
    zeros_in_front: bool = False
    length: int = 0
    """Of each vector."""
    separator: str = ""
    """What many of its texts hold between their parts."""
    unread: str = ""
    """Why its texts, which look like dates, are none: what it holds."""

    @property
    def is_unique(self) -> bool:
        """Nearly every row has its own value; a few repeated rows do not change what a table is."""
        return self.rows > 1 and self.values >= 0.95 * self.rows

    @property
    def is_id_like(self) -> bool:
        """Whole numbers or text with several values, but no numbers of rows: what an id looks like."""
        return self.kind in ("whole", "text") and self.values >= 3 and not re.search(ROW_NUMBER, snake(self.name))

    @property
    def numbers_rows(self) -> bool:
        """Each of so many whole numbers in a row once, as an index does."""
        return self.kind == "whole" and self.values == self.rows == self.high - self.low + 1

    @property
    def looks_coded(self) -> bool:
        """Zeros in front, or all of the same four and more digits, but no years."""
        digits = len(str(int(self.low)))
        alike = digits >= 4 and digits == len(str(int(self.high))) and not 1900 <= self.low <= self.high <= 2100
        return self.kind == "whole" and (self.zeros_in_front or (alike and 2 * self.values < self.filled))


@dataclass
class TableProfile:
    """One table and its columns."""

    file: LogFile
    table: ir.Table
    """The rows looked at."""
    rows: int
    """All rows."""
    columns: dict[str, ColumnProfile]

    @property
    def is_whole(self) -> bool:
        """Whether the rows looked at are all rows: then no file is read again."""
        return self.rows <= ROWS_LOOKED_AT

    @property
    def sample(self) -> str:
        """What figures of the rows looked at are figures of, to be written behind them."""
        return "" if self.is_whole else f" in the first {ROWS_LOOKED_AT:,} rows"

    @property
    def label(self) -> str:
        """How remarks call it."""
        return self.file.paths[0].name


def profile_table(engine: Engine, file: LogFile) -> TableProfile:
    """Look at a table's columns; of a large one at its first rows."""
    table = engine.store("looked_at", _storable(file.table.limit(ROWS_LOOKED_AT)))
    columns = {name: _profile(engine, table, name) for name in table.columns}
    return TableProfile(file, table, engine.count(file.table), columns)


def microseconds_of(engine: Engine, table: ir.Table, name: str) -> ir.Value:
    """A column as times, microseconds since 1970, as preparation reads them."""
    return as_time(engine, table[name], table, TimeColumn(column=name), "UTC").value


def local_date(microseconds: int, zone: str) -> str:
    """The day of a time on a zone's clock."""
    return f"{on_calendar(microseconds).astimezone(zone_of(zone)):%Y-%m-%d}"


def zone_of_times(file: LogFile, name: str) -> str:
    """The zone that a column of Parquet's timestamps names; UTC if it names none that has a clock."""
    if not file.is_parquet:
        return "UTC"
    with file.paths[0].open("rb") as content:
        schema = pq.read_schema(content)
    names = clean_names(schema.names, file.paths[0])
    kind = schema.types[names.index(name)] if name in names else pa.null()
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        with suppress(ConfigError):
            return zone_of(kind.tz).key
    return "UTC"


def _storable(table: ir.Table) -> ir.Table:
    """Columns without any value have no type that an engine could store."""
    return table.mutate(
        **{name: table[name].cast("string") for name in table.columns if table[name].type().is_unknown()}
    )


def _profile(engine: Engine, table: ir.Table, name: str) -> ColumnProfile:
    column = table[name]
    kind = column.type()
    if kind.is_array():
        counts = _counts(engine, table, column.count(), column.count())
        length = _length_of_vectors(engine, table, column)
        return ColumnProfile(name, "vector" if length else "list", *counts, length=length)
    if kind.is_timestamp() or kind.is_date():
        return ColumnProfile(name, "time", *_counts(engine, table, column.count(), column.nunique()))
    if kind.is_string():
        return _profile_text(engine, table, name)
    if kind.is_numeric() or kind.is_boolean():
        return _of_numbers(engine, table, name, _numbers(engine, table, column, column))
    return ColumnProfile(name, "other", *_counts(engine, table, column.count(), column.nunique()))


def _length_of_vectors(engine: Engine, table: ir.Table, column: ir.ArrayValue) -> int:
    """How many numbers each list holds, if all are lists of as many, some of which are fractions; else 0."""
    inner = column.type().value_type
    length = int(engine.row(table.agg(longest=column.length().max()))["longest"] or 0)
    if length < 2 or not (inner.is_floating() or inner.is_decimal() or inner.is_string()):
        return 0
    read = as_vector(column, length)
    rows = table.select(vector=read.value, wrong=read.wrong)
    fractions = rows.vector.filter(lambda one: one % 1 != 0).length() > 0
    found = engine.row(rows.agg(wrong=rows.wrong.sum(), fractions=fractions.sum()))
    return length if found["fractions"] and not found["wrong"] else 0


def _profile_text(engine: Engine, table: ir.Table, name: str) -> ColumnProfile:
    text = table[name].strip().nullif("")
    lower = text.lower()
    as_flag = ibis.cases((lower == "true", "1"), (lower == "false", "0"), else_=text)
    like = {sign: text.re_search(rf"\S[{sign}]\S") for sign in _SEPARATORS}
    found = _numbers(engine, table, text, as_flag, dates=text.re_search(_LIKE_A_DATE), **like)
    filled = found["filled"]
    if filled and found["numbers"] >= MOSTLY * filled:
        return _of_numbers(engine, table, name, found)
    counts = found["rows"], filled, found["values"]
    if filled and (found["dates"] or 0) >= MOSTLY * filled:
        read = _times(engine, table, name)
        if read["times"] >= MOSTLY * filled:
            return ColumnProfile(name, "time", *counts, odd=filled - read["times"])
        if read.get("unread"):
            return ColumnProfile(name, "text", *counts, unread=read["unread"])
    sign = max(_SEPARATORS, key=lambda sign: found[sign] or 0)
    return ColumnProfile(name, "text", *counts, separator=sign if (found[sign] or 0) > 0.3 * filled else "")


def _counts(engine: Engine, table: ir.Table, filled: ir.Value, values: ir.Value) -> tuple[int, int, int]:
    found = engine.row(table.agg(rows=table.count(), filled=filled, values=values))
    return found["rows"], found["filled"], found["values"]


def _times(engine: Engine, table: ir.Table, name: str) -> dict[str, Any]:
    """How many values can be read as times, and the middle one of them; `unread` says why none can."""
    try:
        value = microseconds_of(engine, table, name)
    except DataError as error:
        return {"times": 0, "middle": None, "unread": str(error).removesuffix(f": {SAY}")}
    return engine.row(table.agg(times=value.count(), middle=value.median()))


def _numbers(engine: Engine, table: ir.Table, column: ir.Value, readable: ir.Value, **more: ir.Value) -> dict[str, Any]:
    # Each expression once, however often it is asked about.
    read = {"column": column, "number": as_number(readable).value.cast("float64"), "text": column.cast("string")}
    rows = table.select(**read, **more)
    number = rows.number
    summary = rows.agg(
        rows=rows.count(),
        filled=rows.column.count(),
        values=rows.column.nunique(),
        numbers=number.count(),
        fractions=(number % 1 != 0).sum(),
        low=number.min(),
        high=number.max(),
        mean=number.mean(),
        median=number.median(),
        zeros_in_front=rows.text.re_search(r"^0\d").any(),
        **{name: rows[name].sum() for name in more},
    )
    return engine.row(summary)


def _of_numbers(engine: Engine, table: ir.Table, name: str, found: dict[str, Any]) -> ColumnProfile:
    low, high = found["low"] or 0.0, found["high"] or 0.0
    whole = not found["fractions"]
    odd = found["filled"] - found["numbers"]
    is_flag = whole and found["filled"] > 0 and low >= 0 and high <= 1 and found["values"] - odd <= 2
    # A large id looks like seconds since 1970: then its name decides.
    may_be_time = whole and found["values"] > 2 and (says(TIME, name) or not says(f"{ID}|{USER}|{ITEM}", name))
    is_time = may_be_time and (found["median"] or 0) >= _LEAST_OF_A_TIME and _is_time(engine, table, name)
    return ColumnProfile(
        name,
        "flag" if is_flag else "time" if is_time else "whole" if whole else "number",
        found["rows"],
        found["filled"],
        found["values"],
        low=low,
        high=high,
        mean=found["mean"] or 0.0,
        median=found["median"] or 0.0,
        odd=odd,
        in_integers=is_time,
        zeros_in_front=bool(found["zeros_in_front"]),
    )


def _is_time(engine: Engine, table: ir.Table, name: str) -> bool:
    middle = _times(engine, table, name)["middle"]
    return middle is not None and _EARLIEST <= middle < _LATEST
