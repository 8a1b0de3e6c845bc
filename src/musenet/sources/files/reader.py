"""The rows of each file of a log, with its columns in their roles."""

import ibis

from musenet.dataset.roles import ITEM, KIND, LABEL, REQUEST, TIME, USER, WEIGHT, LogTable
from musenet.dataset.texts import LONGEST_ID
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.recipe.recipe import Recipe
from musenet.sources.files.cleaning import Sieve, Sifted, sift
from musenet.sources.files.columns import Plan, require
from musenet.sources.files.opening import LogFile, reading
from musenet.sources.files.options import EventsFile, ImpressionsFile, ItemsFile, OwnFilesOptions, TimeColumn, UsersFile
from musenet.sources.files.times import as_time
from musenet.sources.files.values import as_id, as_kind, as_label, as_number

ODD_LABELS_AT_MOST = 0.01
"""Labels beyond 0 and 1 are refused as slips if rarer than this; more often they mean something."""

_ROLES = ("user", "item", "time", "label", "request", "weight", "kind")


class LogReader:
    """Reads each file in the form that preparation needs.

    Args:
        engine: where they are stored.
        files: the opened files.
        plan: the columns that are needed besides the roles.
        options: the `data` part of the configuration.
        recipe: names the event kinds.
    """

    def __init__(
        self,
        engine: Engine,
        files: dict[LogTable, LogFile],
        plan: Plan,
        options: OwnFilesOptions,
        recipe: Recipe,
    ) -> None:
        self._engine = engine
        self._files = files
        self._plan = plan
        self._options = options
        self._recipe = recipe

    def impressions(self) -> Sifted:
        """Roles, label, weight and features of the impressions, exact duplicates once."""
        part, file = self._options.impressions, self._files["impressions"]
        sieve = Sieve(file)
        with reading(file.name):
            self._identify(sieve, USER, part.user, "data.impressions.user")
            self._identify(sieve, ITEM, part.item, "data.impressions.item")
            self._time(sieve, part.time, "data.impressions.time")
            self._label(sieve, part)
            if part.request:
                self._identify(sieve, REQUEST, part.request, "data.impressions.request")
        if part.weight:
            with sieve.explained(part.weight, "data.impressions.weight"):
                weight = as_number(file.table[part.weight])
            sieve.parsed(WEIGHT, weight, part.weight, "a number")
            sieve.columns[WEIGHT] = sieve.columns[WEIGHT].cast("float64")
        for need in self._plan.read["impressions"].values():
            sieve.need(need)
        return sift(self._engine, "impressions", sieve, distinct=True)

    def events(self, part: EventsFile) -> Sifted:
        """What users did; an event without an item stays if it carries columns of its own."""
        file, needs = self._files["events"], self._plan.read["events"]
        sieve = Sieve(file)
        with reading(file.name):
            self._identify(sieve, USER, part.user, "data.events.user")
            self._time(sieve, part.time, "data.events.time")
            if part.kind:
                sieve.columns[KIND] = as_kind(file.table[part.kind])
                self._check_kinds(file, part.kind)
            if part.item:
                self._identify(sieve, ITEM, part.item, "data.events.item")
                # Without its item an event says something only if it carries columns of its own.
                _, no_item = sieve.reasons.pop()
                silent = [file.table[name].isnull() for name in needs]
                reason = f"{part.item} is missing" + (", and every column of the history" if silent else "")
                sieve.reasons.append((reason, ibis.and_(no_item, *silent)))
                sieve.expected.add(reason)
            elif not needs:
                raise DataError(
                    f"{file.name}: events need data.events.item, or columns of their own in history.columns"
                )
        for need in needs.values():
            sieve.need(need)
        return sift(self._engine, "events", sieve)

    def entities(self, relation: LogTable, part: UsersFile | ItemsFile) -> Sifted:
        """Users or items with their attributes."""
        file = self._files[relation]
        sieve = Sieve(file)
        role, name = (USER, part.user) if isinstance(part, UsersFile) else (ITEM, part.item)
        with reading(file.name):
            self._identify(sieve, role, name, f"data.{relation}.{role.strip('_')}")
        for need in self._plan.read[relation].values():
            sieve.need(need)
        return sift(self._engine, relation, sieve)

    def _identify(self, sieve: Sieve, role: str, name: str, key: str) -> None:
        table = sieve.file.table
        with sieve.explained(name, key):
            ids = as_id(self._engine, table[name], table)
        if ids.type().is_string():
            sieve.reasons.append((f"{name} is longer than {LONGEST_ID} characters", ids.length() > LONGEST_ID))
        sieve.role(role, ids, name)

    def _time(self, sieve: Sieve, written: str | TimeColumn, key: str) -> None:
        table = sieve.file.table
        told = TimeColumn(column=written) if isinstance(written, str) else written
        name = told.column
        with sieve.explained(name, key):
            time = as_time(self._engine, table[name], table, told, self._options.timezone)
        sieve.mended |= time.mended
        sieve.layout = time.layout
        sieve.parsed(TIME, time, name, "a time (timestamps, integers, or text such as 2024-01-31 12:00:00)")

    def _label(self, sieve: Sieve, part: ImpressionsFile) -> None:
        table = sieve.file.table
        if part.label is None:
            sieve.columns[LABEL] = ibis.literal(1, type="int8")
            return
        column = table[part.label]
        counts = table.group_by(value=as_kind(column)).agg(rows=table.count())
        found = self._engine.read(counts.order_by(counts.rows.desc(), "value").limit(1000)).to_pylist()
        values = {str(count["value"]): int(count["rows"]) for count in found if count["value"] is not None}
        with sieve.explained(part.label, "data.impressions.label"):
            label = as_label(column, part.positive_kinds)
            _check_labels(values, part.positive_kinds)
        sieve.parsed(LABEL, label, part.label, "0 or 1")

    def _check_kinds(self, file: LogFile, column: str) -> None:
        kinds = file.table.select(kind=as_kind(file.table[column])).distinct().limit(1000)
        known = {kind for kind in self._engine.read(kinds)["kind"].to_pylist() if kind is not None}
        for key, part in (("history", self._recipe.history), ("repeat", self._recipe.repeat)):
            for kind in (part.kinds if part else None) or []:
                if kind not in known and len(known) < 1000:
                    raise DataError(
                        f"{key}.kinds: {file.name} holds no kind '{kind}'; it has {', '.join(sorted(known)[:20])}"
                    )


def columns_of_roles(part: ImpressionsFile | EventsFile | UsersFile | ItemsFile) -> dict[str, str]:
    """The columns that the configuration gives a role, by role."""
    written = {role: getattr(part, role, None) for role in _ROLES}
    return {
        role: name.column if isinstance(name, TimeColumn) else name
        for role, name in written.items()
        if name is not None
    }


def require_roles(
    file: LogFile, relation: LogTable, part: ImpressionsFile | EventsFile | UsersFile | ItemsFile
) -> None:
    """Raise `DataError` if a file lacks a column that the configuration gives a role."""
    for role, name in columns_of_roles(part).items():
        require(file, name, f"data.{relation}.{role}")


def _check_labels(values: dict[str, int], positive_kinds: list[str] | None) -> None:
    """Refuse a label column that means something else than clicked or not."""
    shown = ", ".join(sorted(values)[:8]) + (" …" if len(values) > 8 else "")
    if positive_kinds is not None:
        unknown = [kind for kind in positive_kinds if kind not in values]
        if unknown and len(values) < 1000:
            raise DataError(f"never holds '{unknown[0]}' of positive_kinds; it has {shown}")
        return
    numbers = {value: rows for value, rows in values.items() if _is_number(value)}
    odd = sum(rows for value, rows in numbers.items() if float(value) not in (0, 1))
    if odd > ODD_LABELS_AT_MOST * sum(values.values()):
        raise DataError(f"holds {shown}: a label is 0 or 1; say which values are positive with positive_kinds")


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False
