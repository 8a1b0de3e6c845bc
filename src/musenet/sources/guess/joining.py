"""What the other tables are to the impressions: users, items or events, told by names and by whose ids they hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.sources.guess.names import ITEM, NEUTRAL, USER, says, snake
from musenet.sources.guess.profiles import ColumnProfile, TableProfile
from musenet.sources.guess.roles import Roles, best_time, find_kind, guess_impressions

_OVERLAP = 0.3
_CLEARLY = 0.2
Side = Literal["user", "item"]


@dataclass
class LogRoles:
    """The tables of a log by what they are, and those that found no place, with the reason."""

    impressions: Roles
    events: Roles | None = None
    users: Roles | None = None
    items: Roles | None = None
    left_out: list[str] = field(default_factory=list)

    @property
    def item_columns(self) -> list[ColumnProfile]:
        """What is known of items."""
        return self.items.others if self.items else []


@dataclass(frozen=True)
class _Match:
    """A column whose values are ids of the impressions."""

    column: str
    named: int
    """3: as in the impressions; 2: like a user (an item); 1: an id, in a file named like one; 0: like neither."""
    alike: float
    """Share of the ids of both that both hold."""
    doubt: str = ""

    @property
    def strength(self) -> tuple[int, float]:
        return self.named, self.alike


def guess_roles(engine: Engine, tables: list[TableProfile]) -> LogRoles:
    """Find the impressions, then what the other tables are to them; the order of the tables decides nothing.

    Raises:
        DataError: if no table has a user, an item and a time.
    """
    tables = sorted(tables, key=lambda table: table.file.paths)
    impressions = guess_impressions(engine, tables)
    found = LogRoles(impressions)
    places: dict[str, list[tuple[tuple[int, float], Roles]]] = {"users": [], "items": [], "events": []}
    for table in tables:
        if table is not impressions.table:
            place = _place(engine, impressions, table)
            if isinstance(place, str):
                found.left_out.append(f"{table.label}: {place}")
            else:
                places[place[0]].append(place[1:])
    for name, fitting in places.items():
        fitting.sort(key=lambda place: (place[0][0], place[1].table.rows), reverse=True)
        for number, (_, roles) in enumerate(fitting):
            if number == 0:
                setattr(found, name, roles)
            else:
                chosen = fitting[0][1].table.label
                found.left_out.append(f"{roles.table.label}: holds {name} too: join it to {chosen}, to use both")
    return found


def told_roles(engine: Engine, tables: Mapping[str, TableProfile]) -> LogRoles:
    """The roles of columns where it is told which table is what: `impressions`, maybe `events`, `users`, `items`.

    Raises:
        DataError: if the impressions have no user, item or time, or another table no id of theirs.
    """
    found = LogRoles(guess_impressions(engine, [tables["impressions"]]))

    def match(name: str, side: Side, taken: Sequence[str] = ()) -> _Match | None:
        own = snake(found.impressions.columns[side])
        same = next((column for column in tables[name].columns if snake(column) == own and column not in taken), None)
        known = _Match(same, 3, 1.0) if same else None
        unique = name != "events"
        return known or _match(engine, found.impressions, tables[name], side, unique=unique, taken=list(taken))

    def needed(name: str, side: Side) -> _Match:
        ids = match(name, side)
        if ids is None:
            raise DataError(
                f"{name}: no column holds the {side}s of the impressions' {found.impressions.columns[side]}, of "
                f"{', '.join(tables[name].columns)}: give the ids a column of that name"
            )
        return ids

    if "users" in tables:
        found.users = _entities(tables["users"], "user", needed("users", "user"))
    if "items" in tables:
        found.items = _entities(tables["items"], "item", needed("items", "item"))
    if "events" in tables:
        user, time = needed("events", "user"), best_time(tables["events"])
        if time is None:
            columns = ", ".join(tables["events"].columns)
            raise DataError(f"events: no column holds times, of {columns}: give the one that says when")
        item = match("events", "item", [user.column, time])
        found.events = _events_roles(engine, tables["events"], time, user, item)
    return found


def _place(engine: Engine, impressions: Roles, table: TableProfile) -> tuple[str, tuple[int, float], Roles] | str:
    """What a table is, how sure that is, and its roles; or why it is nothing."""
    user, item = (_match(engine, impressions, table, side, unique=True) for side in ("user", "item"))
    if user and item and user.named == item.named and abs(user.alike - item.alike) < _CLEARLY:
        return "its ids may be those of users and of items: name the column as in the impressions"
    if user and (not item or user.strength > item.strength):
        return "users", user.strength, _entities(table, "user", user)
    if item:
        return "items", item.strength, _entities(table, "item", item)
    return _place_events(engine, impressions, table)


def _place_events(
    engine: Engine, impressions: Roles, table: TableProfile
) -> tuple[str, tuple[int, float], Roles] | str:
    user, time = _match(engine, impressions, table, "user"), best_time(table)
    if user is None or time is None:
        return "fits neither events nor users nor items of the impressions"
    label = impressions.columns.get("label")
    if label in table.columns:
        return f"holds {label} as the impressions do, but other columns or another format: make it a part of them"
    if len(table.columns) > 3 and set(table.columns) < set(impressions.table.columns):
        return f"its columns are the impressions' without {label}: what was shown is no event"
    item = _match(engine, impressions, table, "item", taken=[user.column, time])
    roles = _events_roles(engine, table, time, user, item)
    return "events", (user.named, float(item.named if item else -1)), roles


def _events_roles(engine: Engine, table: TableProfile, time: str, user: _Match, item: _Match | None) -> Roles:
    roles = Roles(table, {"user": user.column, "time": time}, {"user": user.doubt} if user.doubt else {})
    if item:
        roles.columns["item"] = item.column
        if item.doubt:
            roles.doubts["item"] = item.doubt
    find_kind(engine, roles)
    return roles


def _entities(table: TableProfile, side: Side, match: _Match) -> Roles:
    return Roles(table, {side: match.column}, {side: match.doubt} if match.doubt else {})


def _match(
    engine: Engine,
    impressions: Roles,
    table: TableProfile,
    side: Side,
    *,
    unique: bool = False,
    taken: list[str] | None = None,
) -> _Match | None:
    """The column that holds the ids of one side of the impressions; None if no name or no value says so."""
    pattern, other_pattern = (USER, ITEM) if side == "user" else (ITEM, USER)
    own = impressions.columns[side]
    elsewhere = {snake(name) for name in impressions.table.columns} - {snake(own)}
    found = []
    for name, column in table.columns.items():
        if not column.is_id_like or column.is_unique != unique or name in (taken or []):
            continue
        if snake(name) == snake(own):
            named = 3
        elif snake(name) in elsewhere or (says(other_pattern, name) and not says(pattern, name)):
            continue
        elif says(pattern, name):
            named = 2
        else:
            named = int(says(NEUTRAL, name) and says(pattern, table.file.paths[0].stem))
        shared, alike = _overlap(engine, impressions, table, side, name)
        # Whole numbers from 1 on are everybody's: they tell the key of a table, but none of an event's columns.
        if shared >= _OVERLAP and (named or unique or column.kind == "text"):
            doubt = "" if named else f"no name says so: {shared:.0%} of its values are {side}s of the impressions"
            found.append(_Match(name, named, alike, doubt))
    return max(found, key=lambda match: match.strength, default=None)


def _overlap(engine: Engine, impressions: Roles, table: TableProfile, side: Side, name: str) -> tuple[float, float]:
    """Ids that a column shares with the impressions: as a share of the fewer, and of all ids of both."""
    known = impressions.table.table[impressions.columns[side]].cast("string").name("id").as_table().distinct()
    values = table.table[name].cast("string").name("id").as_table().distinct()
    shared = engine.count(values.semi_join(known, "id"))
    few, many = sorted([table.columns[name].values, impressions.column(side).values])
    return shared / max(few, 1), shared / max(few + many - shared, 1)
