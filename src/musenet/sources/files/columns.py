"""Which columns of which of a log's files are needed for what the configuration names."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from musenet.dataset.roles import LogTable
from musenet.errors import DataError
from musenet.recipe.features import Feature, VectorOptions
from musenet.recipe.recipe import Recipe
from musenet.sources.files.opening import LogFile

Form = Literal["value", "number", "whole", "vector"]
CLOCK_COLUMNS = ("hour", "weekday")
"""Context that comes from the time, where the log has no column of that name."""


@dataclass(frozen=True)
class Need:
    """A column that the configuration names."""

    name: str
    key: str
    """Where it is named, such as `features.context`."""
    form: Form = "value"
    length: int = 0
    """Of a vector."""


@dataclass
class Plan:
    """Columns to read from each relation, besides the roles; attributes that only the impressions hold."""

    read: dict[LogTable, dict[str, Need]] = field(
        default_factory=lambda: {"impressions": {}, "events": {}, "users": {}, "items": {}}
    )
    clock: list[str] = field(default_factory=list)
    """Columns to derive from the time of an impression."""
    shown_of_user: list[str] = field(default_factory=list)
    shown_of_item: list[str] = field(default_factory=list)


def require(file: LogFile, name: str, key: str) -> None:
    """Raise `DataError` if a file lacks a column, with the nearest spelling."""
    if name not in file.table.columns:
        raise DataError(f"{file.name}: there is no column '{name}' ({key}); {_hint(name, file.table.columns)}")


def plan_columns(recipe: Recipe, files: dict[LogTable, LogFile], user_column: str, item_column: str) -> Plan:
    """Find every column that the recipe names.

    Raises:
        DataError: for a column that no file holds, naming the file, the key and the nearest spelling.
    """
    planner = _Planner(files, {user_column, item_column})
    for feature in recipe.features.resolved():
        planner.add_feature(feature)
    for name in recipe.predefined_scenario:
        planner.add(Need(name, "predefined_scenario"), "impressions", "users")
    if recipe.true_scenario:
        planner.add(Need(recipe.true_scenario, "true_scenario"), "impressions")
    if recipe.true_probability:
        planner.add(Need(recipe.true_probability, "true_probability", "number"), "impressions")
    # A log without events uses its own earlier positives.
    event: LogTable = "events" if "events" in files else "impressions"
    for name in recipe.history.columns:
        planner.add(Need(name, "history.columns"), event, "items")
    for name in recipe.repeat.key if recipe.repeat else []:
        need = Need(name, "repeat.key")
        if planner.add(need, event, "items") == "events":
            # The same column must be known of a candidate.
            planner.add(need, "impressions", "items")
    return planner.plan


def named_columns(recipe: Recipe) -> set[str]:
    """The columns of a log that the recipe names, wherever they may be."""
    truth = (recipe.true_scenario, recipe.true_probability)
    return {
        *(feature.name for feature in recipe.features.resolved()),
        *recipe.predefined_scenario,
        *recipe.history.columns,
        *(recipe.repeat.key if recipe.repeat else ()),
        *(name for name in truth if name),
    }


class _Planner:
    def __init__(self, files: dict[LogTable, LogFile], ids: set[str]) -> None:
        self._files = files
        self._ids = ids
        self._forms: dict[str, Form] = {}
        self.plan = Plan()

    def add_feature(self, feature: Feature) -> None:
        forms: dict[str, Form] = {"numeric": "number", "position": "whole", "vector": "vector"}
        length = feature.options.vector if isinstance(feature.options, VectorOptions) else 0
        need = Need(feature.name, f"features.{feature.side}", forms.get(feature.type, "value"), length)
        if feature.side in ("context", "candidate"):
            self.add(need, "impressions")
            return
        own: LogTable = "users" if feature.side == "user" else "items"
        if self.add(need, own, "impressions") == "impressions":
            shown = self.plan.shown_of_user if feature.side == "user" else self.plan.shown_of_item
            shown.append(need.name)

    def add(self, need: Need, *relations: LogTable) -> LogTable | None:
        """Read a column from the first of these relations that has it; None for the ids, which are read anyway."""
        if need.name in self._ids:
            return None
        places = [relation for relation in relations if relation in self._files]
        for relation in places:
            if need.name in self._files[relation].table.columns:
                # What is a number as a feature is one in the history too.
                form = self._forms.setdefault(need.name, need.form)
                self.plan.read[relation].setdefault(need.name, replace(need, form=form))
                return relation
        if "items" in relations and need.name in self.plan.shown_of_item:
            return "items"
        if (
            "impressions" in relations
            and need.name in CLOCK_COLUMNS
            and need.key in ("features.context", "predefined_scenario")
        ):
            if need.name not in self.plan.clock:
                self.plan.clock.append(need.name)
            return "impressions"
        names = " and ".join(self._files[relation].name for relation in places) or "the events"
        known = [name for relation in places for name in self._files[relation].table.columns]
        raise DataError(f"{names}: there is no column '{need.name}' ({need.key}); {_hint(need.name, known)}")


def _hint(name: str, known: Iterable[str]) -> str:
    columns = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name.lower(), [column.lower() for column in columns], n=1)
    if near:
        return f"did you mean '{next(column for column in columns if column.lower() == near[0])}'?"
    return f"it has {', '.join(columns[:20])}{' …' if len(columns) > 20 else ''}"
