"""Two folders become one dataset: the columns of the past, and behind them those of what is added."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from musenet.dataset.column_files import BLOCK, NewColumn, blocks, column_file, mapped, write_column
from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import RELATIONS, Relation, keys_file, relation_folder
from musenet.dataset.manifest import MISSING, FieldSide
from musenet.dataset.roles import ITEM, USER
from musenet.errors import DataError
from musenet.preparation.encoding.coding import encoded
from musenet.preparation.encoding.event_runs import EventRuns
from musenet.preparation.encoding.fields import PlannedField
from musenet.preparation.encoding.uncoded import ROW, VALUE, NewUncoded, lacks_codes, read_uncoded
from musenet.preparation.encoding.vocabulary import Vocabulary
from musenet.preparation.extension.growth import rows_before
from musenet.preparation.extension.kept import Kept
from musenet.preparation.extension.runs import JoinedRuns
from musenet.preparation.relations.past import REMEDY, Past
from musenet.preparation.relations.requests import USER_ROW
from musenet.recipe.history import Before
from musenet.recipe.recipe import Recipe

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Added:
    """What is added, encoded as a dataset of its own, whose users and items are numbered by themselves."""

    folder: Path
    passing: Path
    """For columns that are needed on the way alone."""
    kept: Kept
    predefined_scenarios: list[str]
    true_scenarios: list[str]

    def column(self, relation: Relation, name: str) -> NDArray[Any]:
        """One of its columns."""
        return mapped(self.folder / relation, name)


@dataclass
class Joining:
    """Writes the folder of both.

    Args:
        past: the dataset.
        kept: what it keeps.
        added: what is added.
        out: the new folder.
        planned: the fields.
        vocabularies: grown.
        known: names of the predefined and of the true scenarios, by code; those of what is added are put behind them.
    """

    past: Past
    kept: Kept
    added: Added
    out: Path
    planned: Sequence[PlannedField]
    vocabularies: Mapping[str, Vocabulary]
    known: Mapping[str, list[str]]
    _rows: dict[Relation, Integers] = field(default_factory=dict)

    @property
    def before(self) -> Dataset:
        """The dataset."""
        return self.past.dataset

    def write(self, recipe: Recipe, looked_up: Sequence[str], fixed: Mapping[str, set[str]]) -> None:
        """Write every column, and what is kept.

        Args:
            recipe: of both.
            looked_up: attributes of items that events and repeat keys look up, which may not change.
            fixed: attributes of users and of items that may not change either, by side.

        Raises:
            DataError: if one of these did.
        """
        self._write_keys(looked_up)
        for side in ("user", "item"):
            self._write_entities(side, fixed[side])
        self._write_behind("context", {"user", "history_end", "candidate_offset", "repeat_fraction"})
        self._write_behind("candidate", {"item"})
        folder = relation_folder(self.out, "context")
        offset = self.before.requests.candidate_offset
        added = self.added.column("requests", "candidate_offset")
        write_column(folder, "candidate_offset", np.concatenate([offset, offset[-1] + added[1:]]))
        self._write_rows("requests", "user", "users", self.before.requests.user)
        self._write_rows("candidates", "item", "items", self.before.candidates.item)
        self._write_events(recipe)

    # The log's own ids.

    def _write_keys(self, looked_up: Sequence[str]) -> None:
        self._number("users", USER, [])
        self._number("items", ITEM, looked_up)
        self._write_key_file("requests", None)

    def _number(self, relation: Relation, id_name: str, looked_up: Sequence[str]) -> None:
        """Where each of the added users or items stands: where it did, or behind all others."""
        added = pq.read_table(keys_file(self.added.folder, relation))
        rows = rows_before(self.past, id_name, added[id_name])
        new = rows < 0
        if looked_up:
            self.past.check_looked_up(added, rows, looked_up, self.kept.unknown_items())
        known = self.before.manifest.users if relation == "users" else self.before.manifest.items
        rows[new] = known + 1 + np.arange(int(new.sum()))
        self._rows[relation] = rows
        self._write_key_file(relation, new)

    def _write_key_file(self, relation: Relation, chosen: NDArray[np.bool_] | None) -> None:
        file = keys_file(self.out, relation)
        file.parent.mkdir(parents=True, exist_ok=True)
        before = pq.ParquetFile(keys_file(self.before.folder, relation))
        with pq.ParquetWriter(file, before.schema_arrow) as writer:
            for batch in before.iter_batches(BLOCK):
                writer.write_batch(batch)
            added = pq.read_table(keys_file(self.added.folder, relation))
            rows = added if chosen is None else added.filter(pa.array(chosen))
            writer.write_table(rows.select(before.schema_arrow.names).cast(before.schema_arrow))

    # Columns whose rows are put behind those of the past.

    def _write_rows(self, relation: Relation, name: str, of: Relation, before: NDArray[Any]) -> None:
        """A column of users' or items' rows."""
        added = self._rows[of][self.added.column(relation, name)]
        with NewColumn(self.out / relation, name, (len(before) + len(added),), before.dtype) as column:
            column.append(np.asarray(before))
            column.append(added)

    def _write_behind(self, side: FieldSide, others: set[str]) -> None:
        """Every column of requests or candidates but these."""
        relation = RELATIONS[side]
        entries = {entry.name: entry for entry in self.planned if entry.side == side and entry.has_codes}
        for name in _columns(self.before.folder / relation):
            if name in others:
                continue
            before, added = mapped(self.before.folder / relation, name), self.added.column(relation, name)
            if name in self.known:
                added = self._scenarios(name, added)
            patch = self._patch(entries[name]) if name in entries else None
            with NewColumn(
                self.out / relation, name, (len(before) + len(added), *before.shape[1:]), before.dtype
            ) as to:
                for first, block in blocks(self.before.folder / relation, name):
                    to.append(block if patch is None else patch.of(block, first))
                to.append(added)
            if name in entries:
                size = len(before)
                self._keep(entries[name], patch, np.asarray, lambda rows, size=size: rows + size)

    def _scenarios(self, name: str, added: NDArray[Any]) -> NDArray[Any]:
        """Codes of predefined or true scenarios by their names: known ones keep theirs, new ones follow."""
        own = self.added.predefined_scenarios if name == "predefined_scenario" else self.added.true_scenarios
        known = self.known[name]
        known += [label for label in own if label not in known]
        codes = np.array([*(known.index(label) for label in own), -1])
        return np.asarray(codes[added])

    # Values of the past that had no code.

    def _patch(self, entry: PlannedField) -> "Patch | None":
        found = read_uncoded(self.kept.uncoded / RELATIONS[entry.side], entry.name)
        return None if found is None else Patch(found, entry, self.vocabularies)

    def _keep(self, entry: PlannedField, patch: "Patch | None", of_past: Any, of_added: Any) -> None:
        """Write the values of both that still have no code, by the rows that they have now."""
        relation = RELATIONS[entry.side]
        parts = []
        if patch is not None and patch.rest.num_rows:
            parts.append((of_past(patch.rest[ROW].to_numpy()), patch.rest[VALUE]))
        added = read_uncoded(self.added.kept.uncoded / relation, entry.name)
        if added is not None:
            parts.append((of_added(added[ROW].to_numpy()), added[VALUE]))
        with NewUncoded(Kept(self.out).uncoded / relation, entry, self.vocabularies[entry.vocabulary]) as file:
            for rows, values in parts:
                table = pa.table({ROW: rows, VALUE: values}).filter(pa.array(rows >= 0))
                if table.num_rows:
                    file.write(table)

    # Users and items.

    def _write_entities(self, side: FieldSide, fixed: set[str]) -> None:
        relation = RELATIONS[side]
        rows, size = self._rows[relation], self._size(relation)
        shown = self.before.requests.user if side == "user" else self.before.candidates.item
        was_shown = np.isin(rows, np.asarray(shown)) if fixed else np.zeros(len(rows), dtype=bool)
        for entry in (entry for entry in self.planned if entry.side == side):
            told, patch = self._told(entry), None
            new = rows > (self.before.manifest.users if side == "user" else self.before.manifest.items)
            chosen = told | new
            chosen[0] = False
            for name in self._files(entry):
                before, added = mapped(self.before.folder / relation, name), self.added.column(relation, name)
                column = np.zeros((size, *before.shape[1:]), dtype=before.dtype)
                column[: len(before)] = before
                if entry.has_codes and (patch := self._patch(entry)) is not None:
                    column[: len(before)] = patch.of(column[: len(before)], 0)
                if entry.source in fixed:
                    again = told & was_shown
                    self._refuse_changes(entry, column[rows[again]], added[again])
                column[rows[chosen]] = added[chosen]
                write_column(self.out / relation, name, column)
            if entry.has_codes:
                anew = np.zeros(size, dtype=bool)
                anew[rows[told]] = True
                self._keep(
                    entry,
                    patch,
                    lambda old, anew=anew: np.where(anew[old], -1, old),
                    lambda own, chosen=chosen: np.where(chosen[own], rows[own], -1),
                )

    def _refuse_changes(self, entry: PlannedField, before: NDArray[Any], added: NDArray[Any]) -> None:
        """What impressions tell of a user or item that earlier ones told otherwise, or not at all."""
        changed = int((before != added).reshape(len(before), -1).any(axis=1).sum())
        if changed:
            raise DataError(
                f"column '{entry.source}' of the impressions has changed for {changed} {entry.side}s, or was missing "
                "before, so it is no attribute of theirs: list it under "
                f"features.{'context' if entry.side == 'user' else 'candidate'}, or {REMEDY}"
            )

    def _told(self, entry: PlannedField) -> NDArray[np.bool_]:
        """(added users or items) of which of them the added tables tell a value."""
        relation = RELATIONS[entry.side]
        if entry.has_codes:
            codes = self.added.column(relation, entry.name)
            return np.asarray((codes if codes.ndim == 1 else codes[:, 0]) != MISSING)
        raw = mapped(self.added.passing / relation, entry.name)
        return np.asarray(np.isfinite(raw.reshape(len(raw), -1)).all(axis=1))

    def _files(self, entry: PlannedField) -> Iterator[str]:
        """The columns that an entry became."""
        relation = RELATIONS[entry.side]
        for name in (entry.name, f"{entry.name}.rank", f"{entry.name}.missing"):
            if column_file(self.before.folder / relation, name).is_file():
                yield name

    def _size(self, relation: Relation) -> int:
        known = self.before.manifest.users if relation == "users" else self.before.manifest.items
        return max(known, int(self._rows[relation].max())) + 1

    # Events, and what came before each request.

    def _write_events(self, recipe: Recipe) -> None:
        users = self._size("users")
        stored = self._runs(self.before.events.offset, self.added.column("events", "offset"), users)
        folder = relation_folder(self.out, "history")
        entries = {entry.name: entry for entry in self.planned if entry.side == "history" and entry.has_codes}
        for name in _columns(relation_folder(self.before.folder, "history")):
            if name == "offset":
                continue
            before, added = (
                mapped(relation_folder(self.before.folder, "history"), name),
                self.added.column("events", name),
            )
            patch = self._patch(entries[name]) if name in entries else None
            if patch is not None:
                before = patch.of(np.array(before), 0)
            self._write_joined(folder, name, stored, before, added)
            if name in entries:
                self._keep(entries[name], patch, stored.rows_before, lambda rows: stored.rows_added[rows])
        write_column(folder, "offset", stored.offset)
        requests, delay = relation_folder(self.out, "context"), recipe.history.delay
        user, time = self._rows["users"][self.added.column("requests", "user")], self.added.column("requests", "time")
        moved = self.before.requests.history_end + stored.shift[self.before.requests.user]
        runs = EventRuns(mapped(folder, "time"), stored.offset)
        ends = runs.span_of(user, np.asarray(time), Before.of(delay))[1]
        write_column(requests, "history_end", np.concatenate([moved, ends]))
        if recipe.repeat is not None:
            self._write_counted(users, user, np.asarray(time), Before.of(delay, recipe.repeat.window))

    def _write_counted(self, users: int, user: Integers, time: Integers, span: Before) -> None:
        kept = Kept(self.out)
        before, added = self.kept.counted, self.added.kept.counted
        runs = self._runs(mapped(before, "offset"), mapped(added, "offset"), users)
        for name in ("time", "again"):
            self._write_joined(kept.counted, name, runs, mapped(before, name), mapped(added, name))
        write_column(kept.counted, "offset", runs.offset)
        again = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(mapped(kept.counted, "again"), dtype=np.int64)])
        counted = EventRuns(mapped(kept.counted, "time"), runs.offset, again)
        fractions = counted.repeat_fraction(user, time, span)
        known = self.before.requests.repeat_fraction
        assert known is not None
        write_column(relation_folder(self.out, "context"), "repeat_fraction", np.concatenate([known, fractions]))
        own = pq.ParquetFile(self.kept.keys)
        with pq.ParquetWriter(kept.keys, own.schema_arrow) as writer:
            for batch in own.iter_batches(BLOCK):
                writer.write_batch(batch)
            more = pq.read_table(self.added.kept.keys)
            rows = self._rows["users"][more[USER_ROW].to_numpy()]
            more = more.set_column(more.column_names.index(USER_ROW), USER_ROW, pa.array(rows))
            writer.write_table(more.select(own.schema_arrow.names).cast(own.schema_arrow))

    def _runs(self, before: Integers, added: Integers, users: int) -> JoinedRuns:
        of_added = np.repeat(self._rows["users"], np.diff(added))
        return JoinedRuns(np.asarray(before), of_added, users)

    @staticmethod
    def _write_joined(folder: Path, name: str, runs: JoinedRuns, before: NDArray[Any], added: NDArray[Any]) -> None:
        with NewColumn(folder, name, (int(runs.offset[-1]), *before.shape[1:]), before.dtype) as column:
            for block in runs.joined(before, added.astype(before.dtype)):
                column.append(block)


class Patch:
    """Values of the past that had no code, encoded by vocabularies that have grown.

    Args:
        found: `row` and `value`.
        entry: the field.
        vocabularies: by name.
    """

    def __init__(self, found: pa.Table, entry: PlannedField, vocabularies: Mapping[str, Vocabulary]) -> None:
        found = found.sort_by(ROW)
        self._rows = found[ROW].to_numpy()
        self._codes = encoded(found[VALUE], entry, vocabularies)
        self.rest = found.filter(pa.array(lacks_codes(found[VALUE].combine_chunks(), self._codes)))

    def of(self, block: NDArray[Any], first: int) -> NDArray[Any]:
        """A block of the column with the codes that its values have now; the first of its rows has this number."""
        low, high = np.searchsorted(self._rows, [first, first + len(block)])
        block[self._rows[low:high] - first] = self._codes[low:high]
        return block


def _columns(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.npy"))
