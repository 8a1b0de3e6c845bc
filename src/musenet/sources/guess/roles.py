"""Which table holds the impressions, and which of its columns plays which role: by names, and by what values do."""

import math
import re
from dataclasses import dataclass, field

import ibis

from musenet.dataset.texts import READABLE
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.sources.guess.names import (
    DONE,
    EXPOSURE,
    ID,
    ITEM,
    KIND,
    LABEL,
    NAMED_AS_ID,
    NEGATED,
    RATING,
    REQUEST,
    TIME,
    USER,
    says,
    snake,
    yaml_name,
)
from musenet.sources.guess.profiles import ColumnProfile, TableProfile

_KINDS = 20
_HANDFUL = 20
"""Of values: so many describe users and are no ids of them, if another column can be."""


@dataclass
class Roles:
    """One table's columns by role (`user`, `item`, `time`, `label`, `request`, `kind`), and doubts by role."""

    table: TableProfile
    columns: dict[str, str] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)
    positive_kinds: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    alternatives: list[str] = field(default_factory=list)
    """Where there is no label: what else could be one."""

    def column(self, role: str) -> ColumnProfile:
        """The column that plays this role."""
        return self.table.columns[self.columns[role]]

    @property
    def request_key(self) -> list[str]:
        """The columns that say which impressions belong together."""
        return [self.columns[role] for role in (("request",) if "request" in self.columns else ("user", "time"))]

    @property
    def others(self) -> list[ColumnProfile]:
        """The columns that play no role."""
        return [column for name, column in self.table.columns.items() if name not in self.columns.values()]


def guess_impressions(engine: Engine, tables: list[TableProfile]) -> Roles:
    """The table that says who was shown (or took) what and when, with the columns that say so.

    Raises:
        DataError: if no table has a user, an item and a time.
    """
    unique = {name for table in tables for name, column in table.columns.items() if column.is_unique}
    logs = [roles for table in tables if (roles := _roles_of_log(engine, table, unique))]
    if not logs:
        raise DataError(
            "none of these files has a user, an item and a time, so none can be the impressions "
            f"({'; '.join(_lacking(table) for table in tables)}): "
            "give the file that says who was shown (or took) what, and when"
        )
    found = max(logs, key=lambda roles: ("label" in roles.columns, roles.table.rows))
    _find_request(engine, found)
    if "label" not in found.columns:
        _find_positive_kinds(engine, found)
    return found


def _lacking(table: TableProfile) -> str:
    """What keeps a table from being a log's, and the columns that nearly fitted."""
    lacking = []
    for role, pattern in (("user", USER), ("item", ITEM), ("time", TIME)):
        named = [column for column in table.columns.values() if says(pattern, column.name)]
        if best_time(table) is not None if role == "time" else any(column.is_id_like for column in named):
            continue
        near = max(named, key=lambda column: column.filled, default=None)
        if near and near.unread:
            lacking.append(f"no {role}, '{near.name}' {near.unread}; write them as 2024-01-31, or give rows that tell")
            continue
        holds = near and (
            f"{near.values} value{'s'[: near.values != 1]}"
            if near.values < (1 if role == "time" else 3)
            else f"values of kind {near.kind}"
        )
        lacking.append(f"no {role}" + (f", '{near.name}' is named like one but holds {holds}" if near else ""))
    return f"{table.file.name}: {' and '.join(lacking) or 'every row has a user of its own'}"


def _roles_of_log(engine: Engine, table: TableProfile, unique: set[str]) -> Roles | None:
    """User, item, time and maybe label of a table that records what happened; None if it does not."""
    time = best_time(table)
    if time is None:
        return None
    roles = Roles(table, {"time": time})
    for role, pattern, other in (("user", USER, ITEM), ("item", ITEM, USER)):
        named = _best(table, pattern, other)
        if named is not None:
            roles.columns[role] = named
            if not (_is_alone(named, pattern) or says(NAMED_AS_ID, named)):
                roles.doubts[role] = (
                    f"is {named} an id of {role}s? It may only describe them; histories, repeats and intervals depend "
                    f"on it, and musenet cannot learn from a log without ids of {role}s"
                )
    _find_unnamed(engine, roles, unique)
    if {"user", "item"} - set(roles.columns) or roles.column("user").is_unique:
        return None
    _find_label(engine, roles)
    return roles


def _best(table: TableProfile, pattern: str, other: str) -> str | None:
    """The id-like column whose name fits best: the word alone or with an id's ending, then more distinct values."""

    def score(column: ColumnProfile) -> float:
        bonus = 2.0 * says(ID, column.name) + 4.0 * _is_alone(column.name, pattern) - 2.0 * says(other, column.name)
        return bonus + math.log10(1 + column.values)

    fitting = [column for column in table.columns.values() if column.is_id_like and says(pattern, column.name)]
    return max(fitting, key=score).name if fitting else None


def _is_alone(name: str, pattern: str) -> bool:
    """Whether a name is such a word, with an id's ending at most: `hotel` and `hotel_key`, but not `hotel_class`."""
    return bool(re.fullmatch(rf"(is_)?({pattern})s?_?(id|no|number|code|key|idx|index)?", snake(name)))


def _find_unnamed(engine: Engine, roles: Roles, unique: set[str]) -> None:
    """A user and an item that no name gives away: rows of one time are of one user, but of several items.

    Of several such columns, one that is another table's key is taken before one with more values. A user that is named
    so, but has a handful of values, gives way.
    """
    missing = [role for role in ("user", "item") if role not in roles.columns]
    table, time = roles.table, roles.columns["time"]
    spare = [
        column
        for name, column in table.columns.items()
        if column.is_id_like and not column.is_unique and name not in roles.columns.values() and not says(REQUEST, name)
    ]
    if not missing and "user" in roles.doubts and roles.column("user").values <= _HANDFUL:
        missing, spare = ["user"], [column for column in spare if column.values > _HANDFUL]
    if not missing or len(spare) < len(missing):
        return
    rows = table.table
    pairs = {
        column.name: ibis.struct({"time": rows[time].cast("string"), "value": rows[column.name].cast("string")})
        for column in spare
    }
    counts = [rows[time].nunique().name("_times"), *(pair.nunique().name(name) for name, pair in pairs.items())]
    found = engine.row(rows.agg(counts))
    together = found["_times"] < 0.8 * table.columns[time].filled
    # What never comes again at another time is the request's id, or of users that come once.
    again = {column.name for column in spare if not together or found[column.name] > 1.05 * column.values}
    spare.sort(key=lambda one: (one.name in unique, one.values > _HANDFUL, one.name in again, one.values), reverse=True)
    for role in missing:
        constant = [column for column in spare if found[column.name] <= 1.05 * found["_times"]]
        fitting = constant if role == "user" else [column for column in spare if column not in constant]
        chosen = next(iter((fitting if together else []) or spare), None)
        if chosen is None:
            return
        spare.remove(chosen)
        roles.columns[role] = chosen.name
        why = (
            f"rows of one time hold {'one value' if role == 'user' else 'several values'} of this one"
            if together and chosen in fitting
            else "the values do not show which are users and which are items: swap them if this is wrong"
        )
        roles.doubts[role] = f"no column is named like one; {why}"


def best_time(table: TableProfile) -> str | None:
    """The column that says when; one named so goes first, then the fullest."""
    times = [column for column in table.columns.values() if column.kind == "time" and column.filled]
    named = [column for column in times if says(TIME, column.name)]
    # Integers need a name as well: a large id may look like seconds since 1970.
    usable = named or [column for column in times if not column.in_integers] or times
    return max(usable, key=lambda column: (column.filled, column.values)).name if usable else None


def _find_label(engine: Engine, roles: Roles) -> None:
    flags = [column for column in roles.others if column.kind == "flag" and not column.name.startswith("true_")]
    named = [column for column in flags if says(LABEL, column.name)]
    if named:
        best = max(named, key=lambda column: (not says(NEGATED, column.name), column.filled))
        roles.columns["label"] = best.name
        others = [column.name for column in named if column is not best]
        if others:
            roles.doubts["label"] = f"or {', '.join(others)}?"
        elif says(NEGATED, best.name):
            roles.doubts["label"] = "its name says that 1 means no"
        return
    key = [roles.columns["user"], roles.columns["time"]]
    differing = varying(engine, roles.table, key, [column.name for column in flags])
    chosen = next((column.name for column in flags if differing[column.name]), None)
    if chosen:
        roles.columns["label"] = chosen
        roles.doubts["label"] = "no column is named like a label; this one is 0 or 1 and differs inside a request"


def _find_request(engine: Engine, roles: Roles) -> None:
    """The id of what was shown together: named so, or one value for each user and time."""
    table = roles.table
    candidates = [column for column in roles.others if column.is_id_like and 1.3 * column.values < column.filled]
    key = [roles.columns["user"], roles.columns["time"]]
    requests = engine.count(table.table.select(key).distinct())
    for column in sorted(candidates, key=lambda column: not says(REQUEST, column.name)):
        named = says(REQUEST, column.name)
        if not named and not 0.95 * requests <= column.values <= requests:
            continue
        if any(varying(engine, table, [column.name], key, missing_differs=False).values()):
            continue
        roles.columns["request"] = column.name
        if not named:
            roles.doubts["request"] = "no column is named like one; this one has a value for each user and time"
        return


def _find_positive_kinds(engine: Engine, roles: Roles) -> None:
    """A column of kinds as label, where exposures are among them; or one named like a label with two values."""
    find_kind(engine, roles)
    exposures = [kind for kind in roles.kinds if re.search(EXPOSURE, kind.lower())]
    kind = roles.columns.pop("kind", None)
    if kind and exposures and len(exposures) < len(roles.kinds):
        roles.columns["label"] = kind
        roles.positive_kinds = [name for name in roles.kinds if name not in exposures]
        roles.doubts["label"] = f"taken: {', '.join(exposures)} mean shown, the rest a positive answer"
        return
    for column in roles.others:
        if says(LABEL, column.name) and column.kind in ("text", "whole") and column.values == 2:
            values = _values(engine, roles.table, column.name)
            no = next((value for value in values if re.match(r"(-1|0|n|f|un|dis|skip)", value.lower())), values[0])
            roles.columns["label"] = column.name
            roles.positive_kinds = [value for value in values if value != no]
            roles.doubts["label"] = f"taken: {no} means no"
            return
    for column in roles.others:
        if says(RATING, column.name) and column.kind in ("whole", "number") and 3 <= column.values <= _KINDS:
            numbers = [value for value in _values(engine, roles.table, column.name) if re.match(READABLE, value)]
            best = [value for value in numbers if float(value) > 0.7 * column.high]
            kinds = ", ".join(f'"{value}"' for value in best)
            roles.alternatives.append(
                f"label: {yaml_name(column.name)}, positive_kinds: [{kinds}], with `negatives: none` further down, "
                "so that low ratings are the negatives"
            )


def find_kind(engine: Engine, roles: Roles) -> None:
    """The column that says what was done: named so, or with values that mostly are deeds."""
    for column in sorted(roles.others, key=lambda column: not says(KIND, column.name)):
        if column.kind == "text" and 1 <= column.values <= _KINDS:
            kinds = _values(engine, roles.table, column.name)
            deeds = [kind for kind in kinds if re.search(DONE, kind.lower())]
            if says(KIND, column.name) or 2 * len(deeds) >= len(kinds):
                roles.columns["kind"], roles.kinds = column.name, kinds
                return


def _values(engine: Engine, table: TableProfile, name: str) -> list[str]:
    kinds = table.table.select(kind=table.table[name].cast("string")).distinct()
    return sorted(kind for kind in engine.read(kinds)["kind"].to_pylist() if kind)


def varying(
    engine: Engine, table: TableProfile, key: list[str], names: list[str], *, missing_differs: bool = True
) -> dict[str, int]:
    """For each column, in how many groups of rows of one key it has several values; rows without a key are passed over.

    Args:
        engine: where the table is stored.
        table: the rows looked at.
        key: columns that say which rows belong together.
        names: the columns in question.
        missing_differs: whether a missing value beside a value counts as a difference.
    """
    if not names:
        return {}
    rows = table.table.filter([table.table[column].notnull() for column in key])
    differs = {}
    for name in names:
        value = rows[name]
        differs[f"_{name}"] = value.min() != value.max()  # half the time of counting them, or less
        if missing_differs:
            differs[f"_{name}"] |= (value.count() > 0) & (value.count() < rows.count())
    groups = rows.group_by(key).agg(**differs)
    counts = engine.row(groups.agg(**{name: groups[name].sum() for name in differs}))
    return {name: int(counts[f"_{name}"] or 0) for name in names}
