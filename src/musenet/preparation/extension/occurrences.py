"""How often training has each value of a vocabulary, counted in a dataset's columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from musenet.dataset.column_files import blocks
from musenet.dataset.dataset import Views
from musenet.dataset.layout import RELATIONS, relation_folder
from musenet.dataset.manifest import FIRST_VALUE, Field, FieldSide, Period, Split
from musenet.dataset.writer import write_vocabulary
from musenet.preparation.encoding.fields import PlannedField
from musenet.preparation.encoding.uncoded import ROW, VALUE, read_uncoded
from musenet.preparation.encoding.vocabulary import Vocabulary
from musenet.preparation.extension.kept import Kept

Counts = NDArray[np.float64]


class Occurrences:
    """The values that training has, by what its impressions and the events before its end see.

    Args:
        folder: of the dataset, all columns written.
        splits: its periods.
        valid_from: where training ends, in microseconds.
        rows: of users and items, the unseen ones included.
    """

    def __init__(self, folder: Path, splits: Mapping[Split, Period], valid_from: int, rows: tuple[int, int]) -> None:
        self._folder = folder
        self._valid_from = valid_from
        self._views = Views(folder)
        offset, end = self._views.requests.candidate_offset, splits["train"].end
        self._sizes = np.where(np.arange(len(offset) - 1) < end, np.diff(offset), 0)
        self._shown = splits["train"].impressions
        users = np.bincount(self._views.requests.user[:end], weights=self._sizes[:end], minlength=rows[0])
        items = np.bincount(self._views.candidates.item[: self._shown], minlength=rows[1]).astype(np.float64)
        self._entities = {"user": users, "item": items}

    def write(
        self,
        fields: Sequence[Field],
        planned: Sequence[PlannedField],
        vocabularies: Mapping[str, Vocabulary],
        texts: Mapping[str, Sequence[str]],
    ) -> None:
        """Write the texts of every vocabulary with their counts."""
        entries = {(entry.side, entry.name): entry for entry in planned}
        counts = {name: np.zeros(len(of)) for name, of in texts.items()}
        for field in fields:
            if field.has_codes and not (field.is_bucketed and field.side == "history"):
                counts[field.vocabulary_name] += self._of_field(field, len(counts[field.vocabulary_name]))
                if field.kind == "multi_valued":
                    entry = entries[field.side, field.name]
                    counts[field.vocabulary_name] += self._of_long_lists(entry, vocabularies[entry.vocabulary])
        for name, of in texts.items():
            write_vocabulary(self._folder, name, of, counts[name].astype(np.int64))

    def _weight(self, side: FieldSide, rows: NDArray[np.int64]) -> Counts:
        if side in self._entities:
            return np.asarray(self._entities[side][rows])
        if side == "context":
            return np.asarray(self._sizes[rows], dtype=np.float64)
        if side == "candidate":
            return (rows < self._shown).astype(np.float64)
        time = self._views.events.time
        assert time is not None
        return np.asarray(time[rows] < self._valid_from).astype(np.float64)

    def _of_field(self, field: Field, size: int) -> Counts:
        counts, left_out = np.zeros(size), np.zeros(0, dtype=np.int64)
        if field.kind == "multi_valued":
            found = read_uncoded(Kept(self._folder).uncoded / RELATIONS[field.side], field.name)
            left_out = left_out if found is None else np.sort(found[ROW].to_numpy())
        for first, block in blocks(relation_folder(self._folder, field.side), field.name):
            weight = self._weight(field.side, np.arange(first, first + len(block)))
            low, high = np.searchsorted(left_out, [first, first + len(block)])
            weight[left_out[low:high] - first] = 0.0
            codes = block.reshape(len(block), -1)
            known = codes >= FIRST_VALUE
            of_row = np.broadcast_to(weight[:, None], codes.shape)[known]
            counts += np.bincount(codes[known] - FIRST_VALUE, weights=of_row, minlength=size)
        return counts

    def _of_long_lists(self, entry: PlannedField, vocabulary: Vocabulary) -> Counts:
        """Of rows whose lists hold more than their codes tell, each value counts once."""
        size = len(vocabulary.values)
        found = read_uncoded(Kept(self._folder).uncoded / RELATIONS[entry.side], entry.name)
        if found is None:
            return np.zeros(size)
        weight = pl.Series("weight", self._weight(entry.side, found[ROW].to_numpy()))
        rows = pl.DataFrame(found).select(pl.col(VALUE).list.unique(), weight).explode(VALUE)
        rows = rows.filter(pl.col(VALUE).is_not_null())
        codes = vocabulary.encode(rows[VALUE].to_arrow().cast(vocabulary.values.type))
        known = codes >= FIRST_VALUE
        counts = np.bincount(codes[known] - FIRST_VALUE, weights=rows["weight"].to_numpy()[known], minlength=size)
        return counts.astype(np.float64)
