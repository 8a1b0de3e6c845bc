"""The second half of preparation: from ordered relations to the files of a dataset."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from musenet.data.columns import role_name
from musenet.data.dataset import Field, Period, Split
from musenet.data.encoding import (
    PlainColumn,
    bucketed_field,
    category_field,
    check_numeric,
    combination_codes,
    encode_relation,
    finish_numeric,
    sort_ties,
    split_texts,
    write_buckets,
    write_column,
)
from musenet.data.engine import Engine
from musenet.data.features import FloatArray, NumericTransform, fit_numeric
from musenet.data.fields import FOLDERS, PlannedField, plan_fields
from musenet.data.recipe import Recipe
from musenet.data.relations import (
    HISTORY_COUNT,
    REPEAT_COUNT,
    REPEAT_LAST,
    REPEATS_BEFORE,
    SHOWN_WEIGHT,
    Relations,
    join,
)
from musenet.data.repeats import AGAIN
from musenet.data.requests import IMPRESSIONS, ITEM_ROW, PERIOD, REQUEST_ROW, USER_ROW
from musenet.data.split import PERIOD_NAMES
from musenet.data.tables import ITEM, LABEL, MICROSECONDS, REQUEST, TIME, USER, WEIGHT, Tables
from musenet.data.vocabulary import Occurrences, Vocabulary, fit_vocabulary, never_trained
from musenet.errors import DataError

UNREPEATABLE_SHARE, UNREPEATABLE_ROWS = 0.95, 20


class DatasetWriter:
    """Fits on the training period and encodes; the methods are called in the order in which they stand.

    Args:
        engine: where the relations lie.
        relations: what is encoded.
        tables: names of the ids.
        recipe: what is wanted.
        folder: the new dataset's.
    """

    def __init__(self, engine: Engine, relations: Relations, tables: Tables, recipe: Recipe, folder: Path) -> None:
        self._engine = engine
        self._tables = tables
        self._recipe = recipe
        self._folder = folder
        self._planned = plan_fields(recipe, tables)
        self._relations = relations = split_texts(relations, self._planned)
        self._vocabularies: dict[str, Vocabulary] = {}
        self._training: dict[str, list[Occurrences]] = {}
        self._fields: dict[tuple[str, str], list[Field]] = {}
        self.sizes: dict[str, int] = {}
        self.transforms: dict[str, NumericTransform] = {}
        self.missing: dict[tuple[str, str], float] = {}
        """Share of the impressions that lack a numeric feature, by side and name of the field."""
        self.predefined_scenarios: list[str] | None = None
        self.true_scenarios: int | None = None
        # Counted once; the rows of users and items begin with the unseen one.
        self.users = engine.count(relations.users) + 1
        self.items = engine.count(relations.items) + 1
        self.events = engine.count(relations.stored_events)
        self.requests = engine.count(relations.requests)
        self.candidates = engine.count(relations.candidates)
        self.splits = self._count_splits()
        for side, table in self._tables_by_side().items():
            check_numeric(table, [entry for entry in self._planned if entry.side == side])

    @property
    def fields(self) -> list[Field]:
        """All fields written so far, in the planned order."""
        return [field for entry in self._planned for field in self._fields.get((entry.side, entry.name), [])]

    def checked_fields(self) -> Iterator[tuple[PlannedField, Field]]:
        """The first field of every column: its codes or buckets where it has them."""
        return ((entry, self._fields[entry.side, entry.name][0]) for entry in self._planned)

    def fit_vocabularies(self) -> None:
        """Count every categorical value in training and write the vocabularies."""
        (self._folder / "vocabularies").mkdir()
        sources = self._weighted_tables("training", lambda period: period == 0)
        by_vocabulary: dict[str, list[PlannedField]] = {}
        for entry in self._planned:
            if not entry.numeric:
                by_vocabulary.setdefault(entry.vocabulary, []).append(entry)
        for name, entries in by_vocabulary.items():
            columns = [Occurrences(sources[entry.side][0], entry.column, sources[entry.side][1]) for entry in entries]
            self._training[name] = columns
            listed = [entry for entry in entries if entry.side != "history"] or entries
            min_count = min(getattr(entry.feature.options, "min_count", 2) for entry in listed)
            vocabulary = fit_vocabulary(self._engine, name, columns, min_count)
            vocabulary.write(self._folder / "vocabularies")
            self._vocabularies[name] = vocabulary
            self.sizes[name] = vocabulary.size

    def refuse_unrepeatable(self, unseen: Mapping[tuple[str, str], float]) -> None:
        """Refuse categories that cannot recur after training, such as a week number or a session id.

        A category is refused if at least 95 % of the validation and test impressions that have a value (at least 20)
        have one that training never had. The ids of users and items, positions and numbers are exempt: what is unseen
        of them is what serving meets, too.

        Args:
            unseen: share without a code of their own, by side and name of the field; only what is high is looked into.

        Raises:
            DataError: naming the column.
        """
        suspects = [
            entry
            for entry in self._planned
            if unseen.get((entry.side, entry.name), 0.0) >= UNREPEATABLE_SHARE
            and not (entry.is_id or entry.numeric or entry.side == "history" or entry.feature.type == "position")
        ]
        later = self._weighted_tables("later", lambda period: period > 0) if suspects else {}
        for entry in suspects:
            table, weight = later[entry.side]
            occurrences = Occurrences(table, entry.column, weight)
            fresh, total, trained = never_trained(self._engine, self._training[entry.vocabulary], occurrences)
            if total >= UNREPEATABLE_ROWS and trained and fresh >= UNREPEATABLE_SHARE * total:
                raise DataError(
                    f"features.{entry.side}: '{entry.source}' cannot be a category: {fresh / total:.0%} of its values "
                    f"in the validation and test periods never occur in training (it has {trained} there), as with a "
                    "week number or a session id; leave it out, make it numeric, or use what recurs (hour, weekday)"
                )

    def encode(self) -> None:
        """Write every column of the five relations."""
        self._encode_requests()
        self._encode_candidates()
        shown = self._column("candidates/item")
        sizes, users = np.diff(self._column("requests/candidate_offset")), self._column("requests/user")
        for side, rows, entity, weight in (("user", self.users, users, sizes), ("item", self.items, shown, None)):
            end = self.splits["train"].end if side == "user" else self.splits["train"].impressions
            counts = (
                _counts(entity, weight, rows),
                _counts(entity[:end], None if weight is None else weight[:end], rows),
            )
            self._encode_entities(side, rows, *counts)
        self._encode_events()

    def write_truth(self) -> None:
        """Write predefined and true scenarios."""
        requests, recipe = self._relations.requests, self._recipe
        if recipe.predefined_scenario:
            names = [role_name(self._tables, name) for name in recipe.predefined_scenario]
            known = [name for name in names if name not in requests.columns]
            table = join(requests, self._relations.users.select(USER_ROW, *known), [USER_ROW]) if known else requests
            codes, labels, _ = combination_codes(self._engine, table.order_by(REQUEST_ROW), names)
            write_column(self._folder / "requests", "predefined_scenario", codes)
            self.predefined_scenarios = labels
        if recipe.true_scenario:
            ordered = requests.order_by(REQUEST_ROW)
            codes, labels, unknown = combination_codes(self._engine, ordered, [recipe.true_scenario])
            if unknown >= 0:
                codes[codes == unknown] = -1  # NULL sorts last
            write_column(self._folder / "requests", "true_scenario", codes)
            self.true_scenarios = len(labels) - (unknown >= 0)

    def write_keys(self) -> None:
        """Write the log's own ids, row by row."""
        folder = self._folder / "keys"
        folder.mkdir()
        relations = self._relations
        for name, table, row, columns in (
            ("users", relations.users, USER_ROW, [USER]),
            ("items", relations.items, ITEM_ROW, [ITEM]),
            ("requests", relations.requests, REQUEST_ROW, [REQUEST, USER, TIME]),
        ):
            kept = table.order_by(row).select(*(column for column in columns if column in table.columns))
            schema = kept.schema().to_pyarrow()
            with pq.ParquetWriter(folder / f"{name}.parquet", schema) as writer:
                if name != "requests":
                    writer.write_table(schema.empty_table().from_pylist([dict.fromkeys(kept.columns)], schema=schema))
                for chunk in self._engine.chunks(kept):
                    writer.write_table(chunk.cast(schema))

    def _count_splits(self) -> dict[Split, Period]:
        candidates, requests = self._relations.candidates, self._relations.requests
        shown = candidates.group_by(PERIOD).aggregate(rows=candidates.count(), positives=candidates[LABEL].sum())
        shown_by = {row[PERIOD]: row for row in self._engine.read(shown).to_pylist()}
        asked = requests.group_by(PERIOD).aggregate(
            rows=requests.count(), first=requests[TIME].min(), last=requests[TIME].max()
        )
        splits: dict[Split, Period] = {}
        begin = 0
        for row in sorted(self._engine.read(asked).to_pylist(), key=lambda entry: int(entry[PERIOD])):
            end, period = begin + row["rows"], row[PERIOD]
            splits[PERIOD_NAMES[period]] = Period(
                begin=begin,
                end=end,
                impressions=shown_by[period]["rows"],
                positives=int(shown_by[period]["positives"]),
                first_time=row["first"],
                last_time=row["last"],
            )
            begin = end
        return splits

    def _tables_by_side(self) -> dict[str, ir.Table]:
        relations = self._relations
        return {
            "user": relations.users,
            "item": relations.items,
            "context": relations.requests,
            "candidate": relations.candidates,
            "history": relations.stored_events,
        }

    def _weighted_tables(
        self, name: str, chosen: Callable[[ir.Value], ir.BooleanValue]
    ) -> dict[str, tuple[ir.Table, str | None]]:
        """Each side's relation as the impressions of some periods see it, and the column that counts a row.

        Events are always those before the end of training.
        """
        relations = self._relations
        requests = relations.requests.filter(chosen(relations.requests[PERIOD]))
        candidates = relations.candidates.filter(chosen(relations.candidates[PERIOD]))
        of_users = requests.group_by(USER_ROW).aggregate(**{SHOWN_WEIGHT: requests[IMPRESSIONS].sum()})
        of_items = candidates.group_by(ITEM_ROW).aggregate(**{SHOWN_WEIGHT: candidates.count()})
        users = self._engine.store(f"{name}_users", join(relations.users, of_users, [USER_ROW]))
        items = self._engine.store(f"{name}_items", join(relations.items, of_items, [ITEM_ROW]))
        stored = relations.stored_events
        return {
            "user": (users, SHOWN_WEIGHT),
            "item": (items, SHOWN_WEIGHT),
            "context": (requests, IMPRESSIONS),
            "candidate": (candidates, None),
            "history": (stored.filter(stored[TIME] < relations.cuts.valid_from), None),
        }

    def _of(self, side: str) -> list[PlannedField]:
        return [entry for entry in self._planned if entry.side == side]

    def _column(self, path: str) -> NDArray[Any]:
        loaded: NDArray[Any] = np.load(self._folder / f"{path}.npy", mmap_mode="r")
        return loaded

    def _encode(
        self, side: str, table: ir.Table, rows: int, plain: dict[str, PlainColumn], first: int = 0
    ) -> Iterator[tuple[PlannedField, FloatArray]]:
        """Write the side's categorical fields and plain columns; yields its numeric fields with their raw values."""
        planned = self._of(side)
        folder = self._folder / FOLDERS[planned[0].side if planned else side]  # type: ignore[index]
        raw = encode_relation(self._engine, table, rows, folder, planned, self._vocabularies, plain, first)
        for entry in planned:
            if entry.numeric:
                yield entry, raw[entry.name]
            else:
                self._fields[entry.side, entry.name] = [category_field(entry)]

    def _finish(
        self, numeric: Iterable[tuple[PlannedField, FloatArray]], shown: FloatArray, weight: FloatArray
    ) -> None:
        """Fit and write numeric fields; `shown` counts each row's impressions, `weight` those of training."""
        for entry, values in numeric:
            assert entry.numeric is not None
            self.missing[entry.side, entry.name] = float(np.sum(shown[~np.isfinite(values)]) / np.sum(shown))
            transform = fit_numeric(values, weight, entry.numeric)
            self.transforms[entry.name] = transform
            folder = self._folder / FOLDERS[entry.side]
            self._fields[entry.side, entry.name] = finish_numeric(folder, entry, values, transform)
            if transform.numeric == "quantiles":
                vocabularies = self._folder / "vocabularies"
                self.sizes[entry.vocabulary] = write_buckets(vocabularies, entry.vocabulary, transform, values, weight)

    def _encode_requests(self) -> None:
        folder = self._folder / "requests"
        plain = {
            "user": PlainColumn(USER_ROW, np.int32),
            "time": PlainColumn(TIME, np.int64),
            "history_end": PlainColumn(HISTORY_COUNT, np.int64),
            "candidate_offset": PlainColumn(IMPRESSIONS, np.int64),
        }
        if self._recipe.repeat:
            plain["repeat_fraction"] = PlainColumn(AGAIN, np.float32)
            plain["repeat_events"] = PlainColumn(REPEATS_BEFORE, np.int64)
        ordered = self._relations.requests.order_by(REQUEST_ROW)
        numeric = list(self._encode("context", ordered, self.requests, plain))
        sizes = self._column("requests/candidate_offset")
        offset = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
        write_column(folder, "candidate_offset", offset)
        shown = np.diff(offset).astype(np.float64)
        self._finish(numeric, shown, np.where(np.arange(self.requests) < self.splits["train"].end, shown, 0.0))
        if self._recipe.repeat:
            events = self._column("requests/repeat_events")
            again = self._column("requests/repeat_fraction")
            fraction = np.where(events > 0, again / np.maximum(events, 1), np.nan).astype(np.float32)
            write_column(folder, "repeat_fraction", fraction)
            (folder / "repeat_events.npy").unlink()

    def _encode_candidates(self) -> None:
        relation, recipe, folder = self._relations.candidates, self._recipe, self._folder / "candidates"
        plain = {"item": PlainColumn(ITEM_ROW, np.int32), "label": PlainColumn(LABEL, np.int8)}
        if WEIGHT in relation.columns:
            plain["weight"] = PlainColumn(WEIGHT, np.float32)
        if recipe.true_probability:
            plain["true_probability"] = PlainColumn(recipe.true_probability, np.float32, np.nan)
        if recipe.repeat:
            relation = relation.mutate(_ago=relation[TIME] - relation[REPEAT_LAST])
            plain["repeat_count"] = PlainColumn(REPEAT_COUNT, np.int32)
            plain["repeat_recency"] = PlainColumn("_ago", np.float64, np.nan)
        ordered = relation.order_by([REQUEST_ROW, ITEM_ROW])
        numeric = self._encode("candidate", ordered, self.candidates, plain)
        training = np.arange(self.candidates) < self.splits["train"].impressions
        self._finish(numeric, np.ones(self.candidates), training.astype(np.float64))
        if recipe.repeat:
            write_column(folder, "repeat_indicator", (self._column("candidates/repeat_count") > 0).astype(np.int8))
            recency = self._column("candidates/repeat_recency") / MICROSECONDS
            write_column(folder, "repeat_recency", recency.astype(np.float32))

    def _encode_entities(self, side: str, rows: int, shown: FloatArray, weight: FloatArray) -> None:
        relations = self._relations
        table, row = (relations.users, USER_ROW) if side == "user" else (relations.items, ITEM_ROW)
        self._finish(self._encode(side, table.order_by(row), rows, {}, first=1), shown, weight)

    def _encode_events(self) -> None:
        folder = self._folder / "events"
        plain = {"time": PlainColumn(TIME, np.int64), "user": PlainColumn(USER_ROW, np.int32)}
        ordered = self._relations.stored_events.order_by([USER_ROW, TIME])
        for entry, values in self._encode("history", ordered, self.events, plain):
            # The buckets of the feature of that name, fitted on the training impressions.
            transform = next(
                self.transforms[e.name] for e in self._planned if e.vocabulary == entry.vocabulary and e.numeric
            )
            write_column(folder, entry.name, transform.bucket(values))
            self._fields[entry.side, entry.name] = [bucketed_field(entry)]
        user, time = self._column("events/user"), self._column("events/time")
        columns = [np.load(folder / f"{entry.name}.npy", mmap_mode="r+") for entry in self._of("history")]
        sort_ties(user, time, columns)
        for column in columns:
            column.flush()
        offset = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.bincount(user, minlength=self.users))])
        write_column(folder, "offset", offset)
        (folder / "user.npy").unlink()
        begin = offset[self._column("requests/user")]
        ends = begin + self._column("requests/history_end")
        write_column(self._folder / "requests", "history_end", ends)


def _counts(rows: NDArray[Any], weight: NDArray[Any] | None, size: int) -> FloatArray:
    return np.bincount(rows, weights=weight, minlength=size).astype(np.float64)
