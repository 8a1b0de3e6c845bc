"""The second half of preparation: from ordered relations to the files of a dataset, a block of rows at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel

from musenet.dataset.column_files import NewColumn, blocks, mapped
from musenet.dataset.layout import Relation, keys_file, relation_folder
from musenet.dataset.manifest import Field, FieldSide
from musenet.dataset.numeric import NumericTransform, VectorScale
from musenet.dataset.roles import ITEM, LABEL, MICROSECONDS, REQUEST, TIME, USER, WEIGHT
from musenet.engines.engine import Engine, join
from musenet.files import write_text
from musenet.preparation.encoding.coding import Coding, FieldCoding, PlainColumn
from musenet.preparation.encoding.encode import (
    Folders,
    InOrder,
    bucketed_field,
    category_field,
    combination_codes,
    encode_relation,
    rewrite,
)
from musenet.preparation.encoding.events import count_events, counted_runs, encode_events, stored_runs
from musenet.preparation.encoding.fields import PlannedField
from musenet.preparation.encoding.numbers import Impressions, write_buckets
from musenet.preparation.encoding.scales import Scales, finish_number, finish_vector
from musenet.preparation.encoding.vocabulary import Vocabulary
from musenet.preparation.relations.relations import REPEAT_COUNT, REPEAT_LAST, Relations
from musenet.preparation.relations.requests import IMPRESSIONS, ITEM_ROW, REQUEST_ROW, USER_ROW
from musenet.preparation.relations.split import count_periods
from musenet.recipe.history import Before
from musenet.recipe.recipe import Recipe


class Written(BaseModel):
    """What the steps so far tell those that follow."""

    fields: dict[str, list[Field]] = {}
    """By side and name, `item/price`."""
    sizes: dict[str, int] = {}
    """Number of codes of each vocabulary."""
    transforms: dict[str, NumericTransform] = {}
    vectors: dict[str, VectorScale] = {}
    missing: dict[str, float] = {}
    """Share of the impressions that lack a numeric feature or a vector, by side and name of the field."""
    predefined_scenarios: list[str] | None = None
    true_scenarios: int | None = None
    true_labels: list[str] = []
    """Names of the true scenarios, by code."""


class DatasetWriter:
    """Encodes what was fitted on the training period.

    A step that an interrupted preparation finished is not taken again: `notes` holds what became of each.

    Args:
        engine: where the relations lie.
        relations: what is encoded.
        planned: the fields.
        vocabularies: by name.
        folder: the new dataset's.
        notes: a folder of this preparation's own, for notes and for columns that are needed on the way alone.
        uncoded: where values without a code are kept; they are not if None.
        scales: those that numbers are measured by; fitted if None.
    """

    def __init__(
        self,
        engine: Engine,
        relations: Relations,
        planned: Sequence[PlannedField],
        vocabularies: Mapping[str, Vocabulary],
        folder: Path,
        notes: Path,
        uncoded: Path | None = None,
        scales: Scales | None = None,
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._notes = notes
        self._uncoded = uncoded
        self._scales = scales
        self._planned = planned
        self._relations = relations
        self._vocabularies = vocabularies
        self.written = Written(sizes={name: vocabulary.size for name, vocabulary in vocabularies.items()})
        # Counted once; the rows of users and items begin with the unseen one.
        self.users = engine.count(relations.users) + 1
        self.items = engine.count(relations.items) + 1
        self.event_counts = count_events(engine, relations.events)
        self.requests = engine.count(relations.requests)
        self.candidates = engine.count(relations.candidates)
        self.splits = count_periods(engine, relations.candidates, relations.requests)
        self.has_repeats = REPEAT_COUNT in relations.candidates.columns
        notes.mkdir(exist_ok=True)
        for vocabulary in vocabularies.values():
            vocabulary.write(folder)

    @property
    def fields(self) -> list[Field]:
        """All fields written so far, in the planned order."""
        return [field for entry in self._planned for field in self.written.fields.get(_name(entry), [])]

    def checked_fields(self) -> Iterator[tuple[PlannedField, Field]]:
        """The first field of every column: its codes or buckets where it has them."""
        return ((entry, self.written.fields[_name(entry)][0]) for entry in self._planned)

    def encode(self, recipe: Recipe, predefined: Sequence[str], told: Callable[[str], None]) -> None:
        """Write every column of the five relations, and the log's own ids.

        Args:
            recipe: what is told of histories, repeats and truth.
            predefined: columns of requests or users whose combination is a known scenario.
            told: is told of each step.
        """
        steps: list[tuple[str, Callable[[], None]]] = [
            ("encoding requests", self._encode_requests),
            ("encoding candidates", lambda: self._encode_candidates(recipe.true_probability)),
            ("encoding users and items", self._encode_entities),
            ("encoding events", self._encode_events),
            ("looking up what came before each request", lambda: self._write_past(recipe)),
            ("writing scenarios and keys", lambda: self._write_rest(predefined, recipe.true_scenario)),
        ]
        for place, (text, step) in enumerate(steps):
            told(text)
            note = self._notes / f"{place}.json"
            if note.is_file():
                self.written = Written.model_validate_json(note.read_text(encoding="utf-8"))
                continue
            step()
            write_text(note, self.written.model_dump_json())

    def _write_rest(self, predefined: Sequence[str], true_scenario: str | None) -> None:
        self._write_truth(predefined, true_scenario)
        self._write_keys()

    def _write_truth(self, predefined: Sequence[str], true_scenario: str | None) -> None:
        """Write predefined and true scenarios, given as columns of requests or users."""
        requests = self._relations.requests
        if predefined:
            known = [name for name in predefined if name not in requests.columns]
            table = requests if not known else self._with_columns_of_users(known)
            labels, _ = self._write_combinations(table, predefined, "predefined_scenario")
            self.written.predefined_scenarios = labels
        if true_scenario:
            labels, unknown = self._write_combinations(requests, [true_scenario], "true_scenario")
            self.written.true_labels = [label for code, label in enumerate(labels) if code != unknown]
            self.written.true_scenarios = len(self.written.true_labels)

    def _with_columns_of_users(self, names: Sequence[str]) -> ir.Table:
        users = self._relations.users.select(USER_ROW, *names)
        joined = join(self._relations.requests, users, [USER_ROW])
        return self._engine.store("requests_with_users", joined, [REQUEST_ROW])

    def _write_combinations(self, table: ir.Table, names: Sequence[str], file: str) -> tuple[list[str], int]:
        """Write the code of each request's combination of values; of the truth, NULL has the code -1."""
        folders = self._of_relation("context")
        mixed = folders.passing, file
        found, labels, unknown = combination_codes(self._engine, InOrder(table, [REQUEST_ROW]), names, *mixed)
        nothing = unknown if file == "true_scenario" else -1
        with NewColumn(folders.kept, file, (self.requests,), np.int32) as column:
            for _, block in blocks(*mixed):
                codes = np.searchsorted(found, block)
                column.append(np.where(codes == nothing, -1, codes))
        return labels, unknown

    def _write_keys(self) -> None:
        """Write the log's own ids, row by row, and the items' attributes that events and repeat keys look up."""
        relations = self._relations
        looked_up = [name for name in relations.columns.looked_up if name != ITEM]
        keyed: tuple[tuple[Relation, ir.Table, str, list[str]], ...] = (
            ("users", relations.users, USER_ROW, [USER]),
            ("items", relations.items, ITEM_ROW, [ITEM, *looked_up]),
            ("requests", relations.requests, REQUEST_ROW, [REQUEST, USER, TIME]),
        )
        for name, table, row, columns in keyed:
            file = keys_file(self._folder, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            kept = table.select(*(column for column in columns if column in table.columns))
            # Engines differ in what they know never to be NULL.
            schema = pa.schema([field.with_nullable(True) for field in kept.schema().to_pyarrow()])
            with pq.ParquetWriter(file, schema) as writer:
                if name != "requests":
                    writer.write_table(schema.empty_table().from_pylist([dict.fromkeys(kept.columns)], schema=schema))
                for chunk in InOrder(table, [row]).chunks(self._engine, kept.columns):
                    writer.write_table(chunk.select(kept.columns).cast(schema))

    def _of(self, side: FieldSide) -> list[PlannedField]:
        return [entry for entry in self._planned if entry.side == side]

    def _of_relation(self, side: FieldSide) -> Folders:
        kept, passing = relation_folder(self._folder, side), relation_folder(self._notes, side)
        return Folders(kept, passing, None if self._uncoded is None else relation_folder(self._uncoded, side))

    def _encode(
        self, side: FieldSide, relation: InOrder, rows: int, plain: dict[str, PlainColumn], first: int = 0
    ) -> None:
        """Write the side's fields of codes, plain columns and raw numbers."""
        coding = Coding(self._coding(side, {}), plain)
        encode_relation(self._engine, relation, rows, self._of_relation(side), coding, first)
        for entry in self._of(side):
            if entry.has_codes:
                self.written.fields[_name(entry)] = [category_field(entry)]

    def _coding(self, side: FieldSide, transforms: Mapping[str, NumericTransform]) -> FieldCoding:
        return FieldCoding(self._of(side), self._vocabularies, transforms, self._uncoded is not None)

    def _finish(self, side: FieldSide, shown: Impressions) -> None:
        """Fit and write the side's numeric fields and vectors."""
        folders = self._of_relation(side)
        for entry in self._of(side):
            if entry.vector:
                scale, fields, missing = finish_vector(folders, entry, shown, self._scales)
                self.written.vectors[entry.name] = scale
            elif entry.numeric:
                transform, fields, missing = finish_number(folders, entry, shown, self._scales)
                self.written.transforms[entry.name] = transform
                if transform.numeric == "quantiles":
                    self.written.sizes[entry.vocabulary] = write_buckets(self._folder, entry, transform, shown)
            else:
                continue
            self.written.fields[_name(entry)], self.written.missing[_name(entry)] = fields, missing

    def _encode_requests(self) -> None:
        plain = {
            "user": PlainColumn(USER_ROW, np.int32),
            "time": PlainColumn(TIME, np.int64),
            "_impressions": PlainColumn(IMPRESSIONS, np.int64),
        }
        self._encode("context", InOrder(self._relations.requests, [REQUEST_ROW]), self.requests, plain)
        folders = self._of_relation("context")
        sizes, end = mapped(folders.passing, "_impressions"), self.splits["train"].end
        shown = Impressions(
            lambda first, last: sizes[first:last],
            lambda first, last: sizes[first:last] * (np.arange(first, last) < end),
        )
        self._finish("context", shown)
        with NewColumn(folders.kept, "candidate_offset", (self.requests + 1,), np.int64) as offset:
            offset.append(np.zeros(1, dtype=np.int64))
            before = 0
            for _, block in blocks(folders.passing, "_impressions"):
                offset.append(before + np.cumsum(block))
                before += int(block.sum())

    def _encode_candidates(self, true_probability: str | None) -> None:
        relation, folders = self._relations.candidates, self._of_relation("candidate")
        plain = {"item": PlainColumn(ITEM_ROW, np.int32), "label": PlainColumn(LABEL, np.int8)}
        if WEIGHT in relation.columns:
            plain["weight"] = PlainColumn(WEIGHT, np.float32)
        if true_probability:
            plain["true_probability"] = PlainColumn(true_probability, np.float32, np.nan)
        if self.has_repeats:
            relation = relation.mutate(_ago=relation[TIME] - relation[REPEAT_LAST])
            plain["repeat_count"] = PlainColumn(REPEAT_COUNT, np.int32)
            plain["_ago"] = PlainColumn("_ago", np.float64, np.nan)
        self._encode("candidate", InOrder(relation, [REQUEST_ROW, ITEM_ROW]), self.candidates, plain)
        end = self.splits["train"].impressions
        self._finish(
            "candidate",
            Impressions(
                lambda first, last: np.ones(last - first),
                lambda first, last: (np.arange(first, last) < end).astype(np.float64),
            ),
        )
        if self.has_repeats:
            rewrite(folders, "repeat_count", "repeat_indicator", np.int8, lambda block: block > 0)
            rewrite(folders, "_ago", "repeat_recency", np.float32, lambda block: block / MICROSECONDS)

    def _encode_entities(self) -> None:
        """Users and items; each counts as often as it was shown."""
        relations, training = self._relations, self.splits["train"]
        requests, candidates = self._of_relation("context").kept, self._of_relation("candidate").kept
        offset = mapped(requests, "candidate_offset")
        entities: tuple[tuple[FieldSide, ir.Table, str, int, tuple[Path, str]], ...] = (
            ("user", relations.users, USER_ROW, self.users, (requests, "user")),
            ("item", relations.items, ITEM_ROW, self.items, (candidates, "item")),
        )
        for side, table, row, rows, shown in entities:
            counts = {name: np.zeros(rows) for name in ("all", "training")}
            end = training.end if side == "user" else training.impressions
            for first, block in blocks(*shown):
                weight = np.diff(offset[first : first + len(block) + 1]) if side == "user" else np.ones(len(block))
                counts["all"] += np.bincount(block, weights=weight, minlength=rows)
                seen = max(0, min(len(block), end - first))
                counts["training"] += np.bincount(block[:seen], weights=weight[:seen], minlength=rows)
            self._encode(side, InOrder(table, [row]), rows, {}, first=1)
            self._finish(side, _sliced(counts["all"], counts["training"]))

    def _encode_events(self) -> None:
        planned = self._of("history")
        transforms = {
            entry.vocabulary: next(
                self.written.transforms[other.name]
                for other in self._planned
                if other.vocabulary == entry.vocabulary and other.numeric
            )
            for entry in planned
            if entry.numeric
        }
        coding, folders = self._coding("history", transforms), self._of_relation("history")
        encode_events(self._engine, self._relations.events, self.event_counts, self.users, folders, coding)
        for entry in planned:
            field = bucketed_field(entry) if entry.numeric else category_field(entry)
            self.written.fields[_name(entry)] = [field]

    def _write_past(self, recipe: Recipe) -> None:
        """Where each request's history ends, and the share of the user's events before it that were repeats."""
        folders, kept = self._of_relation("history"), self._of_relation("context").kept
        stored, delay = stored_runs(folders), recipe.history.delay
        with NewColumn(kept, "history_end", (self.requests,), np.int64) as ends:
            for user, time, back in self._requests_by_user():
                ends.append(stored.span_of(user, time, Before.of(delay))[1][back])
        if recipe.repeat:
            counted, span = counted_runs(folders), Before.of(delay, recipe.repeat.window)
            with NewColumn(kept, "repeat_fraction", (self.requests,), np.float32) as fractions:
                for user, time, back in self._requests_by_user():
                    fractions.append(counted.repeat_fraction(user, time, span)[back])

    def _requests_by_user(self) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
        """User and time of a block of requests in order of users, as their events lie, and the way back."""
        requests = self._of_relation("context").kept
        users, times = (blocks(requests, name) for name in ("user", "time"))
        for (_, user), (_, time) in zip(users, times, strict=True):
            order = np.argsort(user, kind="stable")
            back = np.empty_like(order)
            back[order] = np.arange(len(order))
            yield user[order], time[order], back


def _name(entry: PlannedField) -> str:
    return f"{entry.side}/{entry.name}"


def _sliced(every: NDArray[Any], training: NDArray[Any]) -> Impressions:
    return Impressions(lambda first, last: every[first:last], lambda first, last: training[first:last])
