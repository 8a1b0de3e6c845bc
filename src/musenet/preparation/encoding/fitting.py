"""What training knows: its vocabularies, and which categories cannot recur after it."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import ibis.expr.types as ir

from musenet.dataset.roles import ITEM, TIME, USER
from musenet.dataset.texts import ValueType, value_type
from musenet.engines.engine import Engine, join
from musenet.errors import DataError
from musenet.preparation.encoding.fields import PlannedField
from musenet.preparation.encoding.vocabulary import Occurrences, Vocabulary, fit_vocabulary, never_trained
from musenet.preparation.relations.past import SHOWN
from musenet.preparation.relations.relations import Relations
from musenet.preparation.relations.requests import IMPRESSIONS, ITEM_ROW, PERIOD, USER_ROW
from musenet.recipe.recipe import Recipe

UNREPEATABLE_SHARE, UNREPEATABLE_ROWS = 0.95, 20


class Training:
    """The columns of categorical fields as the training impressions see them.

    A value of a user (item) counts in each of its training impressions, that of an event once if the event lies before
    the end of training.

    Args:
        engine: where the relations lie.
        relations: what is encoded.
        planned: the fields.
        shown: `_user_row` or `_item_row`, and `_shown`, of users and items that were shown before these relations.
    """

    def __init__(
        self,
        engine: Engine,
        relations: Relations,
        planned: Sequence[PlannedField],
        shown: Mapping[str, ir.Table] | None = None,
    ) -> None:
        self._engine = engine
        self._shown = shown or {}
        self._relations = relations
        self._planned = planned
        tables = self._seen_by("training", lambda period: period == 0)
        self._entries: dict[str, list[PlannedField]] = {}
        for entry in planned:
            if entry.has_codes:
                self._entries.setdefault(entry.vocabulary, []).append(entry)
        self._columns = {
            name: [_occurrences(tables, entry) for entry in entries] for name, entries in self._entries.items()
        }

    def vocabularies(self) -> dict[str, Vocabulary]:
        """Every vocabulary by name; of several `min_count` that share one the smallest counts."""
        return {
            name: fit_vocabulary(self._engine, name, self._columns[name], self.min_count(name))
            for name in self._entries
        }

    def min_count(self, vocabulary: str) -> int:
        """How often a value has to occur for a code of its own."""
        entries = self._entries[vocabulary]
        listed = [entry for entry in entries if entry.side != "history"] or entries
        return min(getattr(entry.feature.options, "min_count", 2) for entry in listed)

    def values(self) -> dict[str, Vocabulary]:
        """Every vocabulary by name, with all values that occur at all."""
        return {name: fit_vocabulary(self._engine, name, self._columns[name], 1) for name in self._entries}

    def refuse_unrepeatable(self, unseen: Mapping[PlannedField, float]) -> None:
        """Refuse categories that cannot recur after training, such as a week number or a session id.

        A category is refused if at least 95 % of the validation and test impressions that have a value (at least 20)
        have one that training never had. The ids of users and items, positions and numbers are exempt: what is unseen
        of them is what serving meets, too.

        Args:
            unseen: share without a code of their own; only what is high is looked into.

        Raises:
            DataError: naming the column.
        """
        suspects = [
            entry
            for entry, share in unseen.items()
            if share >= UNREPEATABLE_SHARE
            and entry.has_codes
            and not (entry.is_id or entry.side == "history" or entry.feature.type == "position")
        ]
        later = self._seen_by("later", lambda period: period > 0) if suspects else {}
        for entry in suspects:
            trained = self._columns[entry.vocabulary]
            fresh, total, values = never_trained(self._engine, trained, _occurrences(later, entry))
            if total >= UNREPEATABLE_ROWS and values and fresh >= UNREPEATABLE_SHARE * total:
                raise DataError(
                    f"features.{entry.side}: '{entry.source}' cannot be a category: {fresh / total:.0%} of its values "
                    f"in the validation and test periods never occur in training (which has {values}), as with a week "
                    "number or a session id; leave it out, make it numeric, or use what recurs (hour, weekday)"
                )

    def _seen_by(
        self, name: str, chosen: Callable[[ir.Value], ir.BooleanValue]
    ) -> dict[str, tuple[ir.Table, str | None]]:
        """Each side's relation as the impressions of some periods see it, and the column that counts a row."""
        relations, engine = self._relations, self._engine
        requests = relations.requests.filter(chosen(relations.requests[PERIOD]))
        candidates = relations.candidates.filter(chosen(relations.candidates[PERIOD]))
        of_users = requests.group_by(USER_ROW).aggregate(**{SHOWN: requests[IMPRESSIONS].sum()})
        of_items = candidates.group_by(ITEM_ROW).aggregate(**{SHOWN: candidates.count()})
        if self._shown and name == "training":
            of_users = _together(of_users, self._shown["user"], USER_ROW)
            of_items = _together(of_items, self._shown["item"], ITEM_ROW)
        events = relations.stored_events
        return {
            "user": (engine.store(f"{name}_users", join(relations.users, of_users, [USER_ROW])), SHOWN),
            "item": (engine.store(f"{name}_items", join(relations.items, of_items, [ITEM_ROW])), SHOWN),
            "context": (requests, IMPRESSIONS),
            "candidate": (candidates, None),
            "history": (events.filter(events[TIME] < relations.cuts.valid_from), None),
        }


def value_types(
    relations: Relations, planned: Sequence[PlannedField], vocabularies: Mapping[str, Vocabulary], recipe: Recipe
) -> dict[str, ValueType]:
    """What the columns hold whose values requests bring: ids, categories, repeat keys, predefined scenarios."""
    named: tuple[tuple[Iterable[str], ir.Table], ...] = (
        ((USER, *recipe.predefined_scenario), relations.users),
        ((ITEM,), relations.items),
        (recipe.predefined_scenario, relations.requests),
        (relations.columns.key, relations.events),
    )
    held = {name: table[name].type().to_pyarrow() for names, table in named for name in names if name in table.columns}
    held |= {entry.column: vocabularies[entry.vocabulary].values.type for entry in planned if entry.has_codes}
    return {name: value_type(kind) for name, kind in held.items()}


def _together(first: ir.Table, second: ir.Table, row: str) -> ir.Table:
    both = first.union(second.select(row, SHOWN).cast(first.schema()))
    return both.group_by(row).aggregate(**{SHOWN: both[SHOWN].sum()})


def _occurrences(tables: Mapping[str, tuple[ir.Table, str | None]], entry: PlannedField) -> Occurrences:
    table, weight = tables[entry.side]
    return Occurrences(table, entry.column, weight)
