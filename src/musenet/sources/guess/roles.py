"""Which table is what, and which of its columns plays which role: by spelling, and by what the values do."""

import math
import re
from dataclasses import dataclass, field

import ibis

from musenet.errors import DataError
from musenet.sources.guess.profiles import ColumnProfile, TableProfile

USER = r"user|visitor|customer|client|member|household|person|account|viewer|shopper|guest|buyer|reader|listener|uid"
ITEM = (
    r"item|product|article|sku|hotel|(^|_)ads?(_|$)|adgroup|movie|film|book|track|song|listing|offer|goods|video|news"
    r"|content|recipe|restaurant|poi|game|(^|_)app(_|$)|course|(^|_)job|(^|_)doc|photo|property|asset"
)
TIME = r"time|date|stamp|(^|_)(at|on|ts|ms|when|day)(_|$)"
LABEL = r"click|clk|label|taken|bought|purchas|conver|order|target|book|respon|positive|(^|_)(y|buy|hit)$"
REQUEST = r"request|search|page|impression_?id|slate|list_?id|query|auction|session|basket|serp|(^|_)(req|rid)(_|$)"
KIND = r"kind|action|verb|event|type|behavio"
EXPOSURE = r"^(view|impression|impr|show|shown|expos\w*|display\w*|pv|served?)$"
_ID = r"(^|_)(id|no|key|code|number)$|id$"
_OVERLAP = 0.3


@dataclass
class Roles:
    """One table's columns by role (`user`, `item`, `time`, `label`, `request`, `kind`), and doubts by role."""

    table: TableProfile
    columns: dict[str, str] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)
    positive_kinds: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)

    def column(self, role: str) -> ColumnProfile:
        """The column that plays this role."""
        return self.table.columns[self.columns[role]]


@dataclass
class LogRoles:
    """The tables of a log by what they are, and those that found no place, with the reason."""

    impressions: Roles
    events: Roles | None = None
    users: Roles | None = None
    items: Roles | None = None
    left_out: list[str] = field(default_factory=list)


def guess_roles(connection: ibis.BaseBackend, tables: list[TableProfile]) -> LogRoles:
    """Find the impressions, then what the other tables are to them.

    Raises:
        DataError: if no table has a user, an item and a time.
    """
    logs = [roles for roles in (_roles_of_log(connection, table) for table in tables) if roles is not None]
    complete = [roles for roles in logs if "item" in roles.columns]
    if not complete:
        raise DataError(
            "none of these files has a user, an item and a time, so none can be the impressions: "
            "give the file that says who was shown (or took) what, and when"
        )
    impressions = max(complete, key=lambda roles: ("label" in roles.columns, roles.table.rows))
    found = LogRoles(impressions)
    _require_kinds(connection, impressions)
    for table in tables:
        if table is not impressions.table:
            _place(connection, found, table)
    return found


def _place(connection: ibis.BaseBackend, found: LogRoles, table: TableProfile) -> None:
    """Make a table the users, the items or the events, whichever its values fit."""
    impressions = found.impressions
    user = _matching(connection, table, impressions, "user")
    item = _matching(connection, table, impressions, "item")
    time = _best_time(table)
    if user and time and not table.columns[user].is_unique and found.events is None:
        events = Roles(table, {"user": user, "time": time})
        if item:
            events.columns["item"] = item
        _name_kind(connection, events)
        found.events = events
    elif user and table.columns[user].is_unique and found.users is None:
        found.users = Roles(table, {"user": user})
    elif item and table.columns[item].is_unique and found.items is None:
        found.items = Roles(table, {"item": item})
    else:
        found.left_out.append(f"{table.file.name}: fits neither events nor users nor items of the impressions")


def _roles_of_log(connection: ibis.BaseBackend, table: TableProfile) -> Roles | None:
    """User, time and maybe item and label of a table that records what happened; None if it does not."""
    time = _best_time(table)
    user, item = _best(table, USER, ITEM), _best(table, ITEM, USER)
    if time is None:
        return None
    roles = Roles(table, {"time": time})
    spare = [name for name, column in table.columns.items() if column.is_id_like and not column.is_unique]
    spare = [name for name in spare if name not in (user, item, time) and not re.search(REQUEST, name.lower())]
    for role, named in (("user", user), ("item", item)):
        if named is not None:
            roles.columns[role] = named
        elif spare:
            roles.columns[role] = spare.pop(0)
            roles.doubts[role] = "no column is named like one: is it this?"
    if "user" not in roles.columns or roles.column("user").is_unique:
        return None
    _name_label(connection, roles)
    return roles


def _best(table: TableProfile, pattern: str, other: str) -> str | None:
    """The id-like column whose name fits best; more distinct values and an id's ending count for it."""

    def score(column: ColumnProfile) -> float:
        name = snake(column.name)
        bonus = 2.0 * bool(re.search(_ID, name)) - 2.0 * bool(re.search(other, name))
        return bonus + math.log10(1 + column.values)

    fitting = [
        column for column in table.columns.values() if column.is_id_like and re.search(pattern, snake(column.name))
    ]
    return max(fitting, key=score).name if fitting else None


def _best_time(table: TableProfile) -> str | None:
    times = [column for column in table.columns.values() if column.kind == "time"]
    named = [column for column in times if re.search(TIME, snake(column.name))]
    # Integers need a name as well: a large id may look like seconds since 1970.
    usable = named or [column for column in times if column.unit is None] or times
    return max(usable, key=lambda column: (column.filled, column.values)).name if usable else None


def _name_label(connection: ibis.BaseBackend, roles: Roles) -> None:
    flags = [
        column
        for column in roles.table.columns.values()
        if column.kind == "flag" and not column.name.startswith("true_")
    ]
    named = [column for column in flags if re.search(LABEL, snake(column.name))]
    if named:
        roles.columns["label"] = max(named, key=lambda column: column.filled).name
        if len(named) > 1:
            roles.doubts["label"] = (
                f"or {', '.join(column.name for column in named if column.name != roles.columns['label'])}?"
            )
        return
    if "item" not in roles.columns:
        return
    key = [roles.columns["user"], roles.columns["time"]]
    varying = [column.name for column in flags if not is_constant(connection, roles.table, key, column.name)]
    if varying:
        roles.columns["label"] = varying[0]
        roles.doubts["label"] = "no column is named like a label; this one is 0 or 1 and differs inside a request"


def _require_kinds(connection: ibis.BaseBackend, roles: Roles) -> None:
    """Request id of the impressions; a column of kinds as label, where exposures are among them."""
    table, user, time = roles.table, roles.columns["user"], roles.columns["time"]
    taken = set(roles.columns.values())
    for column in table.columns.values():
        if column.name in taken or not column.is_id_like or not 1.3 * column.values < column.filled:
            continue
        together = all(
            is_constant(connection, table, [column.name], other, missing_differs=False) for other in (user, time)
        )
        if together and re.search(REQUEST, snake(column.name)):
            roles.columns["request"] = column.name
            break
    if "label" in roles.columns:
        return
    _name_kind(connection, roles)
    exposures = [kind for kind in roles.kinds if re.search(EXPOSURE, kind.lower())]
    if exposures and len(exposures) < len(roles.kinds):
        roles.columns["label"] = roles.columns["kind"]
        roles.positive_kinds = [kind for kind in roles.kinds if kind not in exposures]
        roles.doubts["label"] = f"taken: {', '.join(exposures)} mean shown, the rest a positive answer"
    roles.columns.pop("kind", None)


def _name_kind(connection: ibis.BaseBackend, roles: Roles) -> None:
    fitting = [
        column
        for column in roles.table.columns.values()
        if column.kind == "text" and 1 <= column.values <= 20 and column.name not in roles.columns.values()
        if re.search(KIND, snake(column.name))
    ]
    if fitting:
        name = fitting[0].name
        kinds = roles.table.table.select(kind=roles.table.table[name]).distinct()
        roles.columns["kind"] = name
        roles.kinds = sorted(kind for kind in connection.to_pyarrow(kinds)["kind"].to_pylist() if kind)


def _matching(connection: ibis.BaseBackend, table: TableProfile, impressions: Roles, role: str) -> str | None:
    """The column whose values are those of this role in the impressions; one of the same name goes first."""
    target = impressions.table.table[impressions.columns[role]].cast("string").name("id")
    known = target.as_table().distinct()
    shares: dict[str, float] = {}
    for column in table.columns.values():
        if not column.is_id_like:
            continue
        values = table.table[column.name].cast("string").name("id").as_table().distinct()
        shared = connection.to_pyarrow(values.semi_join(known, "id").count()).as_py()
        share = shared / max(1, min(column.values, impressions.column(role).values))
        if share >= _OVERLAP:
            named = bool(re.search(USER if role == "user" else ITEM, snake(column.name)))
            shares[column.name] = share + (column.name == impressions.columns[role]) + 0.5 * named
    return max(shares, key=lambda name: shares[name]) if shares else None


def is_constant(
    connection: ibis.BaseBackend, table: TableProfile, key: list[str], name: str, *, missing_differs: bool = True
) -> bool:
    """Whether a column has one value for all rows of a key; rows that lack the key are passed over.

    Args:
        connection: the engine.
        table: the rows looked at.
        key: columns that say which rows belong together.
        name: the column in question.
        missing_differs: whether a missing value beside a value counts as a difference.
    """
    rows = table.table.filter([table.table[column].notnull() for column in key])
    value = rows[name]
    partly_missing = (value.count() > 0) & (value.count() < rows.count())
    differs = (value.nunique() > 1) | (partly_missing if missing_differs else ibis.literal(False))
    groups = rows.group_by(key).agg(differs=differs)
    return not connection.to_pyarrow(groups.filter(groups.differs).count()).as_py()


def snake(name: str) -> str:
    """`userId` as `user_id`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
