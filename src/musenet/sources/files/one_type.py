"""What a column holds, decided once over all tables that share it: truth values, whole numbers, numbers, or text.

CSV files hold nothing but text, table tools turn whole numbers with gaps into floats, and databases write truth values
as words. A column becomes what all of its values are, in every table; see `musenet.dataset.texts` for the forms.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from musenet.dataset.roles import ITEM, REQUEST, ROLES, USER, LogTable
from musenet.dataset.texts import LARGEST_EXACT_FLOAT, NUMBER, TRUTHS, WHOLE, ValueType
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.sources.files.values import as_plain_text, is_whole
from musenet.sources.tables import CleaningRule

IDS = (USER, ITEM, REQUEST)
TYPES: dict[ValueType, dt.DataType] = {
    "truth": dt.boolean,
    "whole": dt.int64,
    "number": dt.float64,
    "text": dt.string,
}
"""From the narrowest to the widest."""
_WIDE = r"^-?(0|[1-9][0-9]{0,14})([.]0*)?$"
"""Whole numbers that floats hold exactly."""
_PADDED = r"^-?0[0-9]+$"
_EXPONENT = r"[eE]"


@dataclass(frozen=True)
class _Member:
    """A column of one table, and what all of its values may be taken for."""

    relation: LogTable
    name: str
    kind: dt.DataType
    fits: set[ValueType]
    padded: str | None = None
    """A value with leading zeros."""


@dataclass
class Shared:
    """Which columns are one, whatever they are called, and which are left as they are.

    Args:
        vocabulary: of a column, the other one whose values it shares.
        kept: columns that are numbers by their use.
        lists: columns whose text holds several values.
    """

    vocabulary: Mapping[str, str] = field(default_factory=dict)
    kept: Collection[str] = ()
    lists: Collection[str] = ()


def unify_types(engine: Engine, kept: dict[LogTable, ir.Table], shared: Shared) -> list[CleaningRule]:
    """Give the columns that share their values one type in all relations; rules say where numbers became text.

    Raises:
        DataError: if leading zeros, or the last digits of ids, were lost in one of the tables.
    """
    groups: dict[str, list[_Member]] = {}
    for relation, table in kept.items():
        names = [n for n in table.columns if n not in shared.kept and (n not in ROLES or n in IDS)]
        for member in _members(engine, relation, table, names, shared.lists):
            groups.setdefault(shared.vocabulary.get(member.name, member.name), []).append(member)
    rules = []
    for members in groups.values():
        kind = next(kind for kind in TYPES if all(kind in member.fits for member in members))
        if kind == "text":
            _refuse_lost_zeros(engine, kept, members)
        for member in members:
            table = kept[member.relation]
            if member.kind.copy(nullable=True) in (TYPES[kind], dt.Array(TYPES[kind])):
                continue
            kept[member.relation] = table.mutate(**{member.name: _as(table[member.name], kind)})
            if kind == "text" and (member.kind.is_numeric() or member.kind.is_boolean()):
                reason = f"{member.name.strip('_')} is {member.kind} here and text elsewhere: made text"
                rules.append(CleaningRule(member.relation, reason, engine.count(table), False))
    return rules


def _members(
    engine: Engine, relation: LogTable, table: ir.Table, names: list[str], lists: Collection[str]
) -> list[_Member]:
    """The columns of a table, looked at in one pass."""
    asked: dict[str, ir.Value] = {}
    for place, name in enumerate(names):
        column = table[name]
        if _is_written(column.type()) and name not in lists:
            asked |= {f"{what}{place}": value for what, value in _counts_of_text(column.cast("string")).items()}
        elif column.type().is_floating():
            whole = is_whole(column) & (column.abs() <= LARGEST_EXACT_FLOAT)
            asked |= {f"values{place}": column.count(), f"whole{place}": whole.sum()}
    found = engine.row(table.agg(**asked)) if asked else {}
    members = []
    for place, name in enumerate(names):
        counts = {what: found.get(f"{what}{place}") or 0 for what in ("values", "truth", "whole", "number", "exponent")}
        kind = table[name].type()
        fits = _fits(kind, counts, name in lists)
        if name in IDS:
            if "number" in fits and "whole" not in fits and counts["exponent"]:
                raise DataError(
                    f"{relation}: the {name.strip('_')} ids are numbers such as 1.5e+18, whose last digits a table "
                    "tool has left out: export them as text"
                )
            fits -= {"number", "truth"}
        members.append(_Member(relation, name, kind, fits, found.get(f"padded{place}")))
    return members


def _counts_of_text(text: ir.StringValue) -> dict[str, ir.Value]:
    padded, whole, number = text.re_search(_PADDED), text.re_search(WHOLE), text.re_search(NUMBER)
    return {
        "values": text.count(),
        "truth": text.lower().isin(TRUTHS).sum(),
        "whole": (whole & _whole(text).notnull()).sum(),
        "number": (number & (~whole | text.re_search(_WIDE))).sum(),
        "exponent": (number & text.re_search(_EXPONENT)).sum(),
        "padded": text.min(where=padded),
    }


def _fits(kind: dt.DataType, counts: Mapping[str, int], is_list: bool) -> set[ValueType]:
    values = counts["values"]
    if kind.is_array():
        return _fits(kind.value_type, counts, is_list=True)
    if kind.is_boolean():
        return {"truth", "whole", "number", "text"}
    if kind.is_floating():
        return {"whole", "number", "text"} if counts["whole"] == values else {"number", "text"}
    if is_list or not _is_written(kind):
        return {"whole", "number", "text"} if kind.is_integer() else {"text"}
    named: tuple[ValueType, ...] = ("truth", "whole", "number")
    fits: set[ValueType] = {"text"}
    fits.update(name for name in named if counts[name] == values)
    return fits


def _is_written(kind: dt.DataType) -> bool:
    """Whether values are told from their text: there are larger numbers than the types in use hold."""
    return kind.is_string() or kind.is_decimal() or isinstance(kind, dt.UInt64)


def _whole(text: ir.StringValue) -> ir.Value:
    return text.re_replace(r"[.]0*$", "").try_cast("int64")


def _as(column: ir.Value, kind: ValueType) -> ir.Value:
    """A column all of whose values are of this kind."""
    held = column.type()
    if held.is_array():
        return column.cast(dt.Array(TYPES[kind]))
    if held.is_boolean() and kind == "text":
        return column.ifelse("true", "false")
    if held.is_floating() and kind == "text":
        return as_plain_text(column)
    if not _is_written(held) or kind == "text":
        return column.cast(TYPES[kind])
    text = column.cast("string")
    return text.lower() == "true" if kind == "truth" else _whole(text) if kind == "whole" else text.try_cast("float64")


def _refuse_lost_zeros(engine: Engine, kept: Mapping[LogTable, ir.Table], members: list[_Member]) -> None:
    """Of values that one table writes as 007 and another as 7, nobody knows whether they are the same."""
    for padded in [member for member in members if member.padded is not None]:
        texts = _texts(kept, padded)
        bare = texts.filter(texts.text.re_search(_PADDED)).mutate(text=texts.text.re_replace("^(-?)0+([0-9])", r"\1\2"))
        for other in [member for member in members if member is not padded and member.padded is None]:
            lost = _texts(kept, other).semi_join(bare, "text").anti_join(texts, "text")
            count = engine.count(lost)
            if count:
                raise DataError(
                    f"{padded.name.strip('_')}: {padded.relation} have values with leading zeros such as "
                    f"'{padded.padded}', {other.relation} write {count} of them without: write the column as text "
                    "in both, zeros included"
                )


def _texts(kept: Mapping[LogTable, ir.Table], member: _Member) -> ir.Table:
    table = kept[member.relation]
    return table.select(text=_as(table[member.name], "text")).distinct()
