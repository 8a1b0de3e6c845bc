"""The second half of preparation: from ordered relations to the files of a dataset."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from musenet.data.dataset import Field, Period, Split
from musenet.data.encoding import (
    PlainColumn,
    bucketed_field,
    category_field,
    combination_codes,
    encode_relation,
    finish_numeric,
    sort_ties,
    write_buckets,
    write_column,
)
from musenet.data.engine import Engine, join
from musenet.data.features import FloatArray, NumericTransform, fit_numeric
from musenet.data.fields import FOLDERS, PlannedField
from musenet.data.relations import (
    HISTORY_COUNT,
    REPEAT_COUNT,
    REPEAT_LAST,
    REPEATS_BEFORE,
    Relations,
)
from musenet.data.repeats import AGAIN
from musenet.data.requests import IMPRESSIONS, ITEM_ROW, PERIOD, REQUEST_ROW, USER_ROW
from musenet.data.split import PERIOD_NAMES
from musenet.data.tables import ITEM, LABEL, MICROSECONDS, REQUEST, TIME, USER, WEIGHT
from musenet.data.vocabulary import Vocabulary


class DatasetWriter:
    """Encodes what was fitted on the training period; the methods are called in the order in which they stand.

    Args:
        engine: where the relations lie.
        relations: what is encoded.
        planned: the fields.
        vocabularies: by name.
        folder: the new dataset's.
    """

    def __init__(
        self,
        engine: Engine,
        relations: Relations,
        planned: Sequence[PlannedField],
        vocabularies: Mapping[str, Vocabulary],
        folder: Path,
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._planned = planned
        self._relations = relations
        self._vocabularies = vocabularies
        self._fields: dict[tuple[str, str], list[Field]] = {}
        self.sizes = {name: vocabulary.size for name, vocabulary in vocabularies.items()}
        """Number of codes of each vocabulary."""
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
        self.has_repeats = REPEAT_COUNT in relations.candidates.columns
        (folder / "vocabularies").mkdir()
        for vocabulary in vocabularies.values():
            vocabulary.write(folder / "vocabularies")

    @property
    def fields(self) -> list[Field]:
        """All fields written so far, in the planned order."""
        return [field for entry in self._planned for field in self._fields.get((entry.side, entry.name), [])]

    def checked_fields(self) -> Iterator[tuple[PlannedField, Field]]:
        """The first field of every column: its codes or buckets where it has them."""
        return ((entry, self._fields[entry.side, entry.name][0]) for entry in self._planned)

    def encode(self, true_probability: str | None) -> None:
        """Write every column of the five relations."""
        self._encode_requests()
        self._encode_candidates(true_probability)
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

    def write_truth(self, predefined: Sequence[str], true_scenario: str | None) -> None:
        """Write predefined and true scenarios, given as columns of requests or users."""
        requests, folder = self._relations.requests, self._folder / "requests"
        if predefined:
            known = [name for name in predefined if name not in requests.columns]
            table = join(requests, self._relations.users.select(USER_ROW, *known), [USER_ROW]) if known else requests
            codes, labels, _ = combination_codes(self._engine, table.order_by(REQUEST_ROW), predefined)
            write_column(folder, "predefined_scenario", codes)
            self.predefined_scenarios = labels
        if true_scenario:
            ordered = requests.order_by(REQUEST_ROW)
            codes, labels, unknown = combination_codes(self._engine, ordered, [true_scenario])
            if unknown >= 0:
                codes[codes == unknown] = -1  # NULL sorts last
            write_column(folder, "true_scenario", codes)
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
        if self.has_repeats:
            plain["repeat_fraction"] = PlainColumn(AGAIN, np.float32)
            plain["repeat_events"] = PlainColumn(REPEATS_BEFORE, np.int64)
        ordered = self._relations.requests.order_by(REQUEST_ROW)
        numeric = list(self._encode("context", ordered, self.requests, plain))
        sizes = self._column("requests/candidate_offset")
        offset = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
        write_column(folder, "candidate_offset", offset)
        shown = np.diff(offset).astype(np.float64)
        self._finish(numeric, shown, np.where(np.arange(self.requests) < self.splits["train"].end, shown, 0.0))
        if self.has_repeats:
            events = self._column("requests/repeat_events")
            again = self._column("requests/repeat_fraction")
            fraction = np.where(events > 0, again / np.maximum(events, 1), np.nan).astype(np.float32)
            write_column(folder, "repeat_fraction", fraction)
            (folder / "repeat_events.npy").unlink()

    def _encode_candidates(self, true_probability: str | None) -> None:
        relation, folder = self._relations.candidates, self._folder / "candidates"
        plain = {"item": PlainColumn(ITEM_ROW, np.int32), "label": PlainColumn(LABEL, np.int8)}
        if WEIGHT in relation.columns:
            plain["weight"] = PlainColumn(WEIGHT, np.float32)
        if true_probability:
            plain["true_probability"] = PlainColumn(true_probability, np.float32, np.nan)
        if self.has_repeats:
            relation = relation.mutate(_ago=relation[TIME] - relation[REPEAT_LAST])
            plain["repeat_count"] = PlainColumn(REPEAT_COUNT, np.int32)
            plain["repeat_recency"] = PlainColumn("_ago", np.float64, np.nan)
        ordered = relation.order_by([REQUEST_ROW, ITEM_ROW])
        numeric = self._encode("candidate", ordered, self.candidates, plain)
        training = np.arange(self.candidates) < self.splits["train"].impressions
        self._finish(numeric, np.ones(self.candidates), training.astype(np.float64))
        if self.has_repeats:
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
