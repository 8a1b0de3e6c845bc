"""The users and items of an export by the log's own ids, and the items that were added since."""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from musenet.errors import RequestError
from musenet.serving.manifest import ExportManifest
from musenet.serving.scorer.encoder import Encoded, Encoder
from musenet.serving.scorer.repeats import may_be_among
from musenet.serving.store.history import ItemStore, RepeatKey
from musenet.serving.text_index import TextIndex, map_column
from musenet.serving.values import Value

Rows = NDArray[np.int64]
LOGGER = logging.getLogger("musenet.serving")


class Entities:
    """Encoded users or items, memory-mapped; row 0 is the unseen one.

    Args:
        folder: `users` or `items` of an export.
    """

    def __init__(self, folder: Path) -> None:
        self._ids = TextIndex(folder, "ids")
        self._codes, self._dense = map_column(folder, "codes"), map_column(folder, "dense")

    def find(self, ids: Sequence[str | None] | pa.Array) -> Rows:
        """(rows) where each id stands; 0 if it is unseen."""
        return np.maximum(self._ids.find(ids), 0)

    def codes(self, rows: Rows) -> NDArray[np.int64]:
        """(rows, sum of widths) rows of the embedding table."""
        return self._codes.take(rows, axis=0, mode="clip").astype(np.int64)

    def dense(self, rows: Rows) -> NDArray[np.float32]:
        """(rows, dense fields, then what each vector is projected to)."""
        found: NDArray[np.float32] = self._dense.take(rows, axis=0, mode="clip")
        return found


@dataclass(frozen=True)
class _Added:
    """Items that were added, each at its place; replaced whole, so that a reader never sees half of it."""

    places: Mapping[str, int] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Value]] = ()
    codes: NDArray[np.int64] | None = None
    dense: NDArray[np.float32] | None = None


class Items(Entities):
    """Items, to which more can be added; threads may share them.

    Args:
        manifest: of the export.
        folder: of the export.
        encoder: of the export.
    """

    store: ItemStore | None = None
    """Keeps what is added, by whichever server; in memory alone, if None."""

    def __init__(self, manifest: ExportManifest, folder: Path, encoder: Encoder) -> None:
        super().__init__(folder / "items")
        self._encoder, self._id_column, self._forms = encoder, manifest.item_column, manifest.forms
        self._attributes, self._keys = (
            map_batch(folder / "items" / f"{name}.arrow") for name in ("attributes", "keys")
        )
        self._key_checksums = map_column(folder / "items", "keys")
        self.key_columns: list[str] = self._keys.schema.names
        """The columns of the repeat key that are looked up."""
        self._looked_up = {*self._attributes.schema.names, *self._keys.schema.names}
        self.columns = {*encoder.columns("item"), *self._looked_up} - {manifest.item_column}
        """The attributes that an item may have."""
        self._added, self._version, self._lock = _Added(), 0, threading.Lock()

    def find(self, ids: Sequence[str | None] | pa.Array) -> Rows:
        """(rows) where each id stands, from the end of the export's items on for those added; 0 if it is unseen."""
        rows, added = super().find(ids), self._added.places
        if added:
            for place, one in enumerate(ids.to_pylist() if isinstance(ids, pa.Array) else ids):
                if one is not None and one in added:
                    rows[place] = len(self._codes) + added[one]
        return rows

    def codes(self, rows: Rows) -> NDArray[np.int64]:
        """(rows, sum of widths) rows of the embedding table."""
        known, added = rows < len(self._codes), self._added.codes
        if added is None or known.all():
            return super().codes(rows)
        codes = super().codes(np.where(known, rows, 0))
        codes[~known] = added[rows[~known] - len(self._codes)]
        return codes

    def dense(self, rows: Rows) -> NDArray[np.float32]:
        """(rows, dense fields, then what each vector is projected to)."""
        known, added = rows < len(self._codes), self._added.dense
        if added is None or known.all():
            return super().dense(rows)
        dense = super().dense(np.where(known, rows, 0))
        dense[~known] = added[rows[~known] - len(self._codes)]
        return dense

    def attribute(self, column: str, rows: Rows) -> list[Value]:
        """A column that events look up; None where missing, as of unseen items."""
        known = rows < len(self._codes)
        column_of = self._attributes[column]
        values: list[Value] = column_of.take(pa.array(np.where(known, rows, 0))).to_pylist()
        for place in np.flatnonzero(~known):
            values[place] = self._added.rows[rows[place] - len(self._codes)].get(column)
        return values

    def key(self, column: str, rows: Rows) -> list[str | None]:
        """Text of a column of the repeat key that is looked up; None where missing, as of unseen items."""
        known = rows < len(self._codes)
        texts: list[str | None] = self._keys[column].take(pa.array(np.where(known, rows, 0))).to_pylist()
        for place in np.flatnonzero(~known):
            texts[place] = self._forms.text(column, self._added.rows[rows[place] - len(self._codes)].get(column))
        return texts

    def may_have(self, rows: Rows, keys: Iterable[RepeatKey]) -> NDArray[np.bool_]:
        """(rows) false only where an item's own part of the repeat key is complete, and none of these."""
        return may_be_among(self._key_checksums.take(rows, mode="clip"), keys) | (rows >= len(self._codes))

    def add(self, items: Mapping[str, Mapping[str, Value]]) -> None:
        """Learn the attributes of these items, by id: all or none, and kept in the store first.

        Raises:
            RequestError: for a value that its column does not take.
            StoreError: if they cannot be kept.
        """
        encoded = self._encoded(items)
        if self.store is None:
            with self._lock:
                self._added = _with(self._added, self._kept(items), encoded)
        else:
            self.store.put_items(items)
            self.refresh()

    def refresh(self) -> None:
        """Learn what was kept in the store since, by whichever server; raises `StoreError` if it does not answer."""
        if self.store is None:
            return
        known = self._version
        version, changed = self.store.items_since(known)
        if version == known:
            return
        if another := version < known:  # another store is in its place
            version, changed = self.store.items_since(0)
        usable = self._usable(changed)
        encoded = self._encoded(usable)
        with self._lock:
            if another or version > self._version:  # another thread may know more by now
                self._added, self._version = _with(self._added, self._kept(usable), encoded), version

    def _kept(self, items: Mapping[str, Mapping[str, Value]]) -> dict[str, Mapping[str, Value]]:
        """What of their columns is asked for again once they are encoded, which vectors never are."""
        return {
            item: {name: value for name, value in columns.items() if name in self._looked_up}
            for item, columns in items.items()
        }

    def _usable(self, items: Mapping[str, Mapping[str, Value]]) -> dict[str, Mapping[str, Value]]:
        """What this export knows of their columns; without items whose values it does not take."""
        usable: dict[str, Mapping[str, Value]] = {
            item: {name: value for name, value in columns.items() if name in self.columns}
            for item, columns in items.items()
        }
        try:
            self._encoded(usable)
        except RequestError:
            for item in list(usable):
                try:
                    self._encoded({item: usable[item]})
                except RequestError as error:
                    LOGGER.warning("an added item is left out: %s", error.field.rpartition(".")[2])
                    del usable[item]
        return usable

    def _encoded(self, items: Mapping[str, Mapping[str, Value]]) -> Encoded:
        return self._encoder.encode(
            "item",
            [{**columns, self._id_column: name} for name, columns in items.items()],
            lambda place, column: f"items.{place}.{column}",
        )


def _with(old: _Added, items: Mapping[str, Mapping[str, Value]], encoded: Encoded) -> _Added:
    """What was added before and now; a place once given stays."""
    places = dict(old.places)
    at = [places.setdefault(name, len(places)) for name in items]
    rows = [*old.rows, *({} for _ in range(len(places) - len(old.rows)))]
    for place, columns in zip(at, items.values(), strict=True):
        rows[place] = columns
    return _Added(places, rows, _put(old.codes, encoded.codes, at), _put(old.dense, encoded.dense, at))


def map_batch(file: Path) -> pa.RecordBatch:
    """An Arrow file of one chunk, mapped into memory."""
    with pa.memory_map(str(file)) as mapped:
        return pa.ipc.open_file(mapped).get_batch(0)


def _put(old: NDArray[Any] | None, new: NDArray[Any], at: Sequence[int]) -> NDArray[Any]:
    """The old rows with the new ones at these places."""
    old = new[:0] if old is None else old
    whole = np.zeros((max([len(old), *(place + 1 for place in at)]), new.shape[1]), dtype=new.dtype)
    whole[: len(old)] = old
    whole[list(at)] = new
    return whole
