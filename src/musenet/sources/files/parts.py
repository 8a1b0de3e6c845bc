"""Parts of one table, written at different times by different tools, brought together by the names of their columns."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import combinations

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from musenet.dataset.texts import LARGEST_EXACT_FLOAT
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.sources.files.values import as_plain_text


@dataclass(frozen=True)
class Part:
    """The rows of files that hold the same columns in the same types."""

    name: str
    """How messages call them."""
    table: ir.Table


@dataclass(frozen=True)
class Mended:
    """What was done to a column of some parts, and to how many rows."""

    reason: str
    rows: int


def bring_together(
    engine: Engine, key: str, parts: list[Part], named: Collection[str] | None
) -> tuple[ir.Table, list[Mended]]:
    """The rows of all parts, each column in a type that holds its values in every part, NULL where a part lacks it.

    Args:
        engine: computes the rows and the sizes of numbers.
        key: where the configuration names the parts.
        parts: at least one.
        named: the columns that are needed: others are left out where the parts differ. All, if None.

    Raises:
        DataError: if the types of a needed column do not go together.
    """
    if len(parts) == 1:
        return parts[0].table, []
    _check_capitals(parts)
    mended: list[Mended] = []
    columns: dict[str, list[ir.Value]] = {}
    for name in dict.fromkeys(name for part in parts for name in part.table.columns):
        kinds = {part.name: _known(part.table[name].type()) for part in parts if name in part.table.columns}
        if len(kinds) == len(parts) and len(set(kinds.values())) == 1:
            columns[name] = [part.table[name] for part in parts]
        elif named is None or name in named:
            columns[name], more = _unify(engine, key, name, parts, kinds)
            mended += more
    rows = [part.table.select(**{name: of[place] for name, of in columns.items()}) for place, part in enumerate(parts)]
    return ibis.union(*rows), mended


def _unify(
    engine: Engine, key: str, name: str, parts: list[Part], kinds: dict[str, dt.DataType]
) -> tuple[list[ir.Value], list[Mended]]:
    """A column of every part in the one type that holds its values, and what that changed."""
    together = _common(kinds.values())
    if together is None:
        raise _refused(key, name, kinds)
    columns, mended = [], []
    for part in parts:
        kind = kinds.get(part.name)
        if kind is None or _is_empty(kind):
            columns.append(ibis.null(together))
        elif together.is_floating() and _is_large(engine, part.table, name):
            raise _refused(key, name, kinds, " and holds whole numbers too large for it")
        else:
            columns.append(_as(part.table[name], together))
        if kind is None:
            mended.append(Mended(f"{name} is missing in {part.name}: made NULL", engine.count(part.table)))
        elif kind != together and not _is_empty(kind):
            mended.append(Mended(f"{name} is {kind} in {part.name}: made {together}", engine.count(part.table)))
    return columns, mended


def _as(column: ir.Value, kind: dt.DataType) -> ir.Value:
    return as_plain_text(column) if column.type().is_floating() and kind.is_string() else column.cast(kind)


def _common(kinds: Iterable[dt.DataType]) -> dt.DataType | None:
    """The type that holds the values of all of these exactly, if there is one; text for a column without values."""
    found = list(dict.fromkeys(_known(kind) for kind in kinds if not _is_empty(kind)))
    together: dt.DataType | None = None
    if len(found) < 2:
        together = found[0] if found else dt.string
    elif all(kind.is_array() for kind in found):
        inner = _common(kind.value_type for kind in found)
        together = None if inner is None else dt.Array(inner)
    elif all(kind.is_timestamp() or kind.is_date() for kind in found):
        zones = {getattr(kind, "timezone", None) for kind in found}
        together = dt.Timestamp(zones.pop(), 6) if len(zones) == 1 else None
    elif all(kind.is_numeric() or kind.is_boolean() or kind.is_string() for kind in found):
        unsigned = any(kind.is_uint64() for kind in found)
        if any(kind.is_string() for kind in found):
            together = dt.string
        elif any(kind.is_floating() or kind.is_decimal() for kind in found):
            together = dt.float64
        else:
            together = dt.string if unsigned else dt.int64
    return together


def _known(kind: dt.DataType) -> dt.DataType:
    """The type, whether or not it says that values may be missing; nanoseconds with a zone are unknown to Ibis."""
    return dt.Timestamp("UTC", 9) if kind.is_unknown() and "TIMESTAMPTZ" in str(kind) else kind.copy(nullable=True)


def _is_empty(kind: dt.DataType) -> bool:
    """Whether it is the type of a column without any value."""
    return kind.is_null() or (kind.is_unknown() and "NULL" in str(kind))


def _is_large(engine: Engine, table: ir.Table, name: str) -> bool:
    column = table[name]
    if column.type().is_floating() or column.type().is_boolean():
        return False
    return bool(engine.row(table.agg(large=(column.cast("float64").abs() >= LARGEST_EXACT_FLOAT).any()))["large"])


def _check_capitals(parts: list[Part]) -> None:
    first: dict[str, tuple[str, str]] = {}
    for part in parts:
        for name in part.table.columns:
            other, place = first.setdefault(name.lower(), (name, part.name))
            if other != name:
                raise DataError(f"{place} calls a column '{other}' and {part.name} '{name}': give it one name")


def _refused(key: str, name: str, kinds: dict[str, dt.DataType], more: str = "") -> DataError:
    pairs = list(combinations(kinds.items(), 2))
    unlike = (pair for pair in pairs if _common([pair[0][1], pair[1][1]]) is None)
    (first, kind), (other, differing) = next(unlike, None) or next(pair for pair in pairs if pair[0][1] != pair[1][1])
    return DataError(
        f"{key}: column '{name}' is {kind} in {first} and {differing} in {other}{more}: write it in one type everywhere"
    )
