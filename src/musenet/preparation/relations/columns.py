"""Where each column that a recipe names comes from."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import ibis.expr.types as ir

from musenet.dataset.manifest import Manifest
from musenet.dataset.roles import ITEM, ROLES, USER, LogTable
from musenet.errors import DataError
from musenet.recipe.recipe import Recipe
from musenet.sources.tables import Tables

Told = TypeVar("Told")


@dataclass(frozen=True)
class Columns:
    """The relation of every column in use; the ids stand under their role names."""

    user: dict[str, LogTable]
    """Attributes of users: from users, or from the impressions."""
    item: dict[str, LogTable]
    """Attributes of items, those included that events or repeat keys look up."""
    context: list[str]
    """Columns of the impressions that must be the same for a whole request."""
    candidate: list[str]
    """Columns of the impressions that may differ inside a request."""
    event: dict[str, LogTable]
    """Attributes of events: from events, or from items through the item id."""
    key: dict[str, LogTable]
    """The repeat key's columns as a candidate has them: from the impression, or from items."""

    @property
    def looked_up(self) -> list[str]:
        """Attributes of items that events or repeat keys read through the item's id."""
        past = (*self.event.items(), *self.key.items())
        return list(dict.fromkeys(name for name, origin in past if origin == "items"))

    @property
    def impressions(self) -> list[str]:
        """Every column of the impressions in use besides the roles."""
        attributes = [
            name for side in (self.user, self.item) for name, origin in side.items() if origin == "impressions"
        ]
        keys = [name for name, origin in self.key.items() if origin == "impressions" and name not in ROLES]
        return list(dict.fromkeys([*self.context, *self.candidate, *attributes, *keys]))


def role_name(tables: Tables, name: str) -> str:
    """The column that holds this name in the relations: the ids stand under `_user` and `_item`."""
    return {tables.user_column: USER, tables.item_column: ITEM}.get(name, name)


def under_own_names(columns: Mapping[str, Told], log: Tables | Manifest) -> dict[str, Told]:
    """What is told of columns, by the log's own names of them."""
    own = {USER: log.user_column, ITEM: log.item_column}
    return {own.get(name, name): told for name, told in columns.items()}


def resolve_columns(tables: Tables, recipe: Recipe) -> Columns:
    """Find every column that the recipe names.

    Raises:
        DataError: for a column that no relation holds, or an id under the wrong side.
    """
    finder = _Finder(tables)
    user: dict[str, LogTable] = {}
    item: dict[str, LogTable] = {}
    context: list[str] = []
    candidate: list[str] = []
    for feature in recipe.features.resolved():
        where = f"features.{feature.side}"
        if finder.is_id(feature.name, feature.side):
            continue
        if feature.side == "user":
            user[feature.name] = finder.find(feature.name, where, "users", "impressions")
        elif feature.side == "item":
            item[feature.name] = finder.find(feature.name, where, "items", "impressions")
        else:
            finder.find(feature.name, where, "impressions")
            (context if feature.side == "context" else candidate).append(feature.name)
    for name in recipe.predefined_scenario:
        if finder.find(name, "predefined_scenario", "impressions", "users") == "users":
            user[name] = "users"
        else:
            context.append(name)
    for truth, where, columns in (
        (recipe.true_scenario, "true_scenario", context),
        (recipe.true_probability, "true_probability", candidate),
    ):
        if truth:
            finder.find(truth, where, "impressions")
            columns.append(truth)
    event, key = _past_columns(finder, recipe)
    for name in [name for side in (event, key) for name, origin in side.items() if origin == "items"]:
        item.setdefault(name, "items")
    return Columns(user, item, list(dict.fromkeys(context)), list(dict.fromkeys(candidate)), event, key)


def _past_columns(finder: "_Finder", recipe: Recipe) -> tuple[dict[str, LogTable], dict[str, LogTable]]:
    """Attributes of events, and the repeat key as candidates have it."""
    key_names = recipe.repeat.key if recipe.repeat else []
    event = {
        role_name(finder.tables, name): finder.find_event(name, where)
        for where, names in (("history.columns", recipe.history.columns), ("repeat.key", key_names))
        for name in names
    }
    key: dict[str, LogTable] = {}
    for name in key_names:
        # What events look up from items, candidates do too: only so are the two comparable.
        from_items = event[role_name(finder.tables, name)] == "items"
        origins: tuple[LogTable, ...] = ("items",) if from_items else ("impressions", "items")
        key[role_name(finder.tables, name)] = finder.find(name, "repeat.key", *origins)
    return event, key


class _Finder:
    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        # Databases take columns that differ only in case for one.
        self.spellings: dict[str, str] = {}
        relations: dict[LogTable, ir.Table | None] = {
            "impressions": tables.impressions,
            # A log without events has its own earlier positives as events.
            "events": tables.impressions if tables.events is None else tables.events,
            "users": tables.users,
            "items": tables.items,
        }
        self.names = {name: set(table.columns) if table is not None else set() for name, table in relations.items()}

    def is_id(self, name: str, side: str) -> bool:
        for id_name, its_side in ((self.tables.user_column, "user"), (self.tables.item_column, "item")):
            if name == id_name and side != its_side:
                raise DataError(
                    f"features.{side}: '{name}' is the {its_side} id: list it under {its_side}, or leave it out"
                )
        return name in (self.tables.user_column, self.tables.item_column)

    def find(self, name: str, where: str, *relations: LogTable) -> LogTable:
        column = role_name(self.tables, name)
        if column == name and name.startswith("_"):
            raise DataError(f"{where}: '{name}' begins with '_', as only musenet's own columns may: rename it")
        other = self.spellings.setdefault(column.lower(), column)
        if other != column:
            raise DataError(f"{where}: columns '{other}' and '{name}' differ only in case: rename one of them")
        for relation in relations:
            if column in self.names[relation] and (column == name or column in ROLES):
                return relation
        known = sorted(set().union(*(self.names[relation] for relation in relations)) - set(ROLES))
        places = " or ".join(relation for relation in relations if self.names[relation])
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known[:20]) or 'none'}"
        raise DataError(f"{where}: there is no column '{name}' in {places}; {hint}")

    def find_event(self, name: str, where: str) -> LogTable:
        origin = self.find(name, where, "events", "items")
        if origin == "items" and ITEM not in self.names["events"]:
            raise DataError(f"{where}: '{name}' is an attribute of items, but the events do not say of which item")
        return origin
