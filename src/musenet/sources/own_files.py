"""A log in Parquet, CSV or JSON files or in a database, described in the configuration alone."""

from dataclasses import replace
from pathlib import Path

import ibis

from musenet.dataset.roles import ITEM, USER, LogTable
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.recipe.recipe import Recipe
from musenet.sources.files.cleaning import Sifted, keep_first
from musenet.sources.files.columns import Plan, named_columns, plan_columns
from musenet.sources.files.one_type import Shared, unify_types
from musenet.sources.files.opening import LogFile, open_files
from musenet.sources.files.options import EventsFile, ImpressionsFile, ItemsFile, OwnFilesOptions, UsersFile
from musenet.sources.files.paths import called, described, expected_rows, find_files, fingerprint_of, known_by
from musenet.sources.files.query import Query
from musenet.sources.files.reader import LogReader, columns_of_roles, require_roles
from musenet.sources.files.relations import add_shown, with_clock
from musenet.sources.files.values import with_plain_text
from musenet.sources.tables import LogSize, Tables

__all__ = ["OwnFiles", "OwnFilesOptions"]


class OwnFiles:
    """The source `own_files`.

    Args:
        options: the `data` part of the configuration.
        recipe: names the columns that are needed and their types.
        base: the folder that relative paths start from.
    """

    options_type = OwnFilesOptions

    def __init__(self, options: OwnFilesOptions, recipe: Recipe, base: Path = Path()) -> None:
        self._options = options
        self._recipe = recipe
        self._base = base
        self._known: dict[str, set[str]] = {}
        self._queries: dict[LogTable, Query] = {
            relation: Query(f"data.{relation}", part, base)
            for relation, part in self._parts().items()
            if part.sql is not None
        }

    def fingerprint(self) -> str:
        """The options, each file's place in its table, size and time of modification (or etag), and queries' rows."""
        return fingerprint_of(
            self._options,
            [self._files(relation) for relation in self._parts() if relation not in self._queries],
            [query.fingerprint() for query in self._queries.values()],
        )

    def files(self) -> dict[str, list[str]]:
        """What each file of the impressions and of the events is known by; a query's rows are none."""
        return {
            relation: [known_by(path) for path in self._files(relation)]
            for relation in self._parts()
            if relation in ("impressions", "events") and relation not in self._queries
        }

    def described(self) -> str:
        """The options without the places of files."""
        return described(self._options)

    def added_to(self, known: dict[str, list[str]]) -> "OwnFiles":
        """The log of those files that are not known; users, items and what a query gives are as they are now.

        Raises:
            DataError: if there are none, or a known file has changed.
        """
        added = OwnFiles(self._options, self._recipe, self._base)
        for relation, files in self.files().items():
            before = set(known.get(relation, []))
            gone = {called(file) for file in before.difference(files)}  # files of one name may lie in several folders
            changed = [name for file in files if (name := called(file)) in gone and file not in before]
            if changed:
                raise DataError(
                    f"data.{relation}: {changed[0]} has changed since the dataset was prepared: put the new rows "
                    "in new files, or prepare the whole log again, without --extend"
                )
            if not set(files) - before:
                raise DataError(f"data.{relation}: no file was added since the dataset was prepared")
            added._known[relation] = before
        return added

    def size(self) -> LogSize:
        """Rows of the impressions' and the events' files."""
        parts = self._parts()
        queries = self._queries
        relations: tuple[LogTable, ...] = ("impressions", "events")
        shown, events = (
            queries[name].rows() if name in queries else expected_rows(self._files(name)) if name in parts else 0
            for name in relations
        )
        return LogSize(shown, events)

    def tables(self, engine: Engine) -> Tables:
        """The log's relations, renamed and cleaned.

        Raises:
            DataError: on whatever cannot be used, in one sentence.
        """
        options = self._options
        self._check_sense()
        named = named_columns(self._recipe)
        files = {
            relation: self._open(engine, relation, named | set(columns_of_roles(part).values()))
            for relation, part in self._parts().items()
        }
        files = {
            relation: replace(file, table=with_plain_text(file.table, options.missing))
            for relation, file in files.items()
        }
        for relation, part in self._parts().items():
            require_roles(files[relation], relation, part)
        plan = plan_columns(self._recipe, files, options.impressions.user, options.impressions.item)
        reader = LogReader(engine, files, plan, options, self._recipe)
        sifted: dict[LogTable, Sifted] = {"impressions": reader.impressions()}
        if options.events is not None:
            sifted["events"] = reader.events(options.events)
        if options.users is not None:
            sifted["users"] = reader.entities("users", options.users)
        if options.items is not None:
            sifted["items"] = reader.entities("items", options.items)
        return self._assemble(engine, sifted, plan)

    def _open(self, engine: Engine, relation: LogTable, named: set[str]) -> LogFile:
        if relation in self._queries:
            return self._queries[relation].open(engine)
        return open_files(engine, f"data.{relation}", self._files(relation), named=named)

    def _files(self, relation: LogTable) -> list[Path]:
        path = self._parts()[relation].path
        assert path is not None
        found = find_files(f"data.{relation}.path", path, self._base)
        known = self._known.get(relation)
        return found if known is None else [file for file in found if known_by(file) not in known]

    def _parts(self) -> dict[LogTable, ImpressionsFile | EventsFile | UsersFile | ItemsFile]:
        options = self._options
        parts: dict[LogTable, ImpressionsFile | EventsFile | UsersFile | ItemsFile | None] = {
            "impressions": options.impressions,
            "events": options.events,
            "users": options.users,
            "items": options.items,
        }
        return {relation: part for relation, part in parts.items() if part is not None}

    def _check_sense(self) -> None:
        """What can be told before any file is opened."""
        options, recipe = self._options, self._recipe
        if options.impressions.label is None:
            if options.impressions.positive_kinds is not None:
                raise DataError(
                    "data.impressions.positive_kinds needs data.impressions.label: name the column of kinds"
                )
            if recipe.negatives == "none":
                raise DataError(
                    "data.impressions names no label, so every row is a positive: name the label, "
                    "or sample negatives with negatives: {per_request: 20, from: popular}"
                )
        for key, part in (("history", recipe.history), ("repeat", recipe.repeat)):
            if part is not None and part.kinds and (options.events is None or options.events.kind is None):
                raise DataError(f"{key}.kinds chooses among kinds, but data.events.kind names no column: name one")

    def _assemble(self, engine: Engine, sifted: dict[LogTable, Sifted], plan: Plan) -> Tables:
        rules = [rule for part in sifted.values() for rule in part.rules]
        kept = {relation: part.kept for relation, part in sifted.items()}
        refused = [part.refused for part in sifted.values()]
        rules += unify_types(engine, kept, self._shared(plan))
        impressions = kept["impressions"]
        sides: list[tuple[LogTable, str, list[str]]]
        sides = [("users", USER, plan.shown_of_user), ("items", ITEM, plan.shown_of_item)]
        for relation, key, shown in sides:
            if relation in kept:
                kept[relation], more = keep_first(engine, relation, kept[relation], key, [])
                rules += more
            if shown:
                kept[relation], more = add_shown(engine, relation, kept.get(relation), impressions, key, shown)
                rules += more
        if plan.clock:
            impressions = with_clock(engine, impressions, plan.clock, self._options.timezone)
        attributes = [name for name in (*plan.shown_of_user, *plan.shown_of_item) if name in impressions.columns]
        return Tables(
            impressions=impressions.drop(*attributes),
            events=kept.get("events"),
            users=kept.get("users"),
            items=kept.get("items"),
            user_column=self._options.impressions.user,
            item_column=self._options.impressions.item,
            protocol=self._protocol(),
            timezone=self._options.timezone,
            negative_sampling_rate=self._options.negative_sampling_rate,
            missing_texts=self._options.missing,
            time_layouts={relation: part.layout for relation, part in sifted.items() if part.layout is not None},
            cleaning=rules,
            shown_attributes={"users": plan.shown_of_user, "items": plan.shown_of_item},
            rejected=ibis.union(*refused) if len(refused) > 1 else refused[0],
        )

    def _shared(self, plan: Plan) -> Shared:
        """Columns share a vocabulary by the recipe; the ids stand under their role names."""
        ids = {self._options.impressions.user: USER, self._options.impressions.item: ITEM}
        features = list(self._recipe.features.resolved())
        needs = [need for needs in plan.read.values() for need in needs.values()]
        return Shared(
            {ids.get(one.name, one.name): ids.get(one.vocabulary, one.vocabulary) for one in features},
            kept={need.name for need in needs if need.form != "value"},
            lists={one.name for one in features if one.type == "multi_valued"},
        )

    def _protocol(self) -> str:
        label = self._options.impressions.label
        if label is None:
            return "a log of positives alone"
        rate = self._options.negative_sampling_rate
        sampled = "" if rate == 1 else f", in which {rate:.2%} of the negatives were kept"
        return f"impressions and labels ({label}) as logged{sampled}"
