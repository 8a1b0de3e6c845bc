"""Vocabularies that grow at their end: which values without a code have become frequent enough for one."""

from collections.abc import Iterator, Mapping, Sequence

import ibis.expr.types as ir
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.dataset.layout import OCCURRENCES, RELATIONS, VALUE
from musenet.dataset.roles import ITEM, USER
from musenet.dataset.texts import ValueType
from musenet.engines.engine import Engine, join
from musenet.preparation.encoding.fields import PlannedField
from musenet.preparation.encoding.fitting import Training, value_types
from musenet.preparation.encoding.uncoded import ROW, read_uncoded
from musenet.preparation.encoding.vocabulary import Vocabulary
from musenet.preparation.extension.kept import Kept
from musenet.preparation.relations.columns import under_own_names
from musenet.preparation.relations.past import Past
from musenet.preparation.relations.relations import Relations
from musenet.preparation.relations.requests import IMPRESSIONS, ITEM_ROW, PERIOD, USER_ROW
from musenet.recipe.recipe import Recipe


class Growth:
    """The vocabularies of a dataset and of what is added to it.

    Args:
        engine: where the added relations lie.
        past: the dataset.
        kept: what it keeps.
        relations: what is added.
        planned: the fields.
        recipe: of both.
    """

    def __init__(
        self,
        engine: Engine,
        past: Past,
        kept: Kept,
        relations: Relations,
        planned: Sequence[PlannedField],
        recipe: Recipe,
    ) -> None:
        self._recipe = recipe
        self._engine = engine
        self._past = past
        self._kept = kept
        self._relations = relations
        self._planned = planned
        self._weights = {
            "user": self._weight_of_entities(USER_ROW, USER),
            "item": self._weight_of_entities(ITEM_ROW, ITEM),
        }

    def vocabularies(self) -> dict[str, Vocabulary]:
        """By name: the values that have codes in their order, then those that get one, by count and value.

        Raises:
            DataError: if a column holds values of another type than before.
        """
        before = {
            side: self._past.shown_rows(self._engine, table, row, self._relations.cuts)
            for side, table, row in (
                ("user", self._relations.users, USER_ROW),
                ("item", self._relations.items, ITEM_ROW),
            )
        }
        training = Training(self._engine, self._relations, self._planned, before)
        values = training.values()
        self._past.check_types(self._types(values))
        return {name: self._grown(name, added, training.min_count(name)) for name, added in values.items()}

    def _types(self, values: Mapping[str, Vocabulary]) -> dict[str, ValueType]:
        """By the log's own names."""
        found = value_types(self._relations, self._planned, values, self._recipe)
        return under_own_names(found, self._past.dataset.manifest)

    def _grown(self, name: str, added: Vocabulary, min_count: int) -> Vocabulary:
        kind = added.values.type
        known = self._past.dataset.texts(name).cast(kind)
        parts = [pl.DataFrame({VALUE: pl.Series(added.values), OCCURRENCES: pl.Series(added.counts)})]
        parts += [part for entry in self._planned if entry.vocabulary == name for part in self._uncoded(entry, kind)]
        counts = pl.concat(parts).group_by(VALUE).agg(pl.col(OCCURRENCES).sum())
        new = counts.filter(pl.col(OCCURRENCES) >= min_count).filter(~pl.col(VALUE).is_in(pl.Series(known).implode()))
        values = new.sort([OCCURRENCES, VALUE], descending=[True, False])[VALUE].to_arrow().cast(kind)
        together = pa.concat_arrays([known, values])
        return Vocabulary(name, together, np.zeros(len(together), dtype=np.int64))

    def _uncoded(self, entry: PlannedField, kind: pa.DataType) -> Iterator[pl.DataFrame]:
        """How often training has each of the values of a field of the past that have no code."""
        found = read_uncoded(self._kept.uncoded / RELATIONS[entry.side], entry.name)
        if found is None or not entry.has_codes:
            return
        frame = pl.DataFrame(found)
        rows = frame.select(pl.col(VALUE), pl.Series(OCCURRENCES, self._weight(entry, found[ROW].to_numpy())))
        if entry.list_length is not None:
            rows = rows.with_columns(pl.col(VALUE).list.unique()).explode(VALUE)
        rows = rows.filter((pl.col(OCCURRENCES) > 0) & pl.col(VALUE).is_not_null())
        column = rows[VALUE].to_arrow().cast(kind)
        yield pl.DataFrame({VALUE: pl.Series(column), OCCURRENCES: rows[OCCURRENCES].cast(pl.Int64)})

    def _weight(self, entry: PlannedField, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(rows) how often training counts them."""
        past, cuts = self._past, self._relations.cuts
        end = past.training(cuts)
        if entry.side == "context":
            return np.where(rows < end, past.sizes[rows], 0).astype(np.float64)
        if entry.side == "candidate":
            return np.asarray(rows < past.dataset.requests.candidate_offset[end]).astype(np.float64)
        if entry.side == "history":
            time = past.dataset.events.time
            assert time is not None
            return np.asarray(time[rows] < cuts.valid_from).astype(np.float64)
        weight: NDArray[np.float64] = self._weights[entry.side][rows]
        return np.asarray(np.where(self._is_told_anew(entry)[rows], 0.0, weight))

    def _weight_of_entities(self, row_name: str, id_name: str) -> NDArray[np.float64]:
        """(users or items before) in how many impressions of training each is, those added included."""
        relations, cuts = self._relations, self._relations.cuts
        shown = self._past.shown(row_name, cuts)
        if row_name == USER_ROW:
            rows = relations.requests.filter(relations.requests[PERIOD] == 0)
            counted = rows.group_by(row_name).aggregate(**{OCCURRENCES: rows[IMPRESSIONS].sum()})
        else:
            rows = relations.candidates.filter(relations.candidates[PERIOD] == 0)
            counted = rows.group_by(row_name).aggregate(**{OCCURRENCES: rows.count()})
        known = getattr(relations, "users" if row_name == USER_ROW else "items")
        added = self._engine.read(join(counted, known.select(id_name, row_name), [row_name]))
        place = rows_before(self._past, id_name, added[id_name])
        there = place >= 0
        np.add.at(shown, place[there], added[OCCURRENCES].to_numpy()[there])
        return shown

    def _is_told_anew(self, entry: PlannedField) -> NDArray[np.bool_]:
        """(users or items before) of which of them the added tables tell a value of the field."""
        id_name, size = (
            (USER, self._past.dataset.manifest.users)
            if entry.side == "user"
            else (ITEM, self._past.dataset.manifest.items)
        )
        table: ir.Table = getattr(self._relations, RELATIONS[entry.side])
        told = self._engine.read(table.filter(table[entry.column].notnull()).select(id_name))
        place = rows_before(self._past, id_name, told[id_name])
        anew = np.zeros(size + 1, dtype=bool)
        anew[place[place >= 0]] = True
        return anew


def rows_before(past: Past, id_name: str, ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """(ids) the rows that users or items had before; -1 for those that are new, 0 for NULL."""
    known = past.dataset.keys("users" if id_name == USER else "items", [id_name])[id_name].combine_chunks()
    found = pc.index_in(ids.cast(known.type), value_set=known)
    return np.asarray(pc.fill_null(found, -1).to_numpy(), dtype=np.int64)
