"""The prepared dataset on disk: plain `.npy` columns and a manifest.

    manifest.json                 schema, vocabularies' sizes, counts, checksums, format version
    users/<field>.npy             (U,) one row per user; row 0 is the unseen user
    items/<field>.npy             (I,) one row per item; row 0 is the unseen item
    events/<field>.npy            (E,) sorted by user, time, then every encoded column; events/time.npy
    events/offset.npy             (U + 1,) where each user's events begin
    requests/<field>.npy          (R,) in order of split and time; user, time, history_end, candidate_offset (R + 1,),
                                  repeat_fraction, maybe predefined_scenario, true_scenario
    candidates/<field>.npy        (N,) item, label, maybe weight, true_probability,
                                  repeat_indicator, repeat_count, repeat_recency (seconds; NaN if never or not known)
    keys/{users,items,requests}.parquet   the log's own ids, row by row; with the items what events and repeat keys
                                  look up of them
    vocabularies/<name>.parquet   value of each code from 3 on, as text, with its count in training

Codes of categorical fields: 0 padding, 1 unseen, 2 missing, 3 and up the values by count, then value. A multi-valued
field is (rows, width), padded with 0. Dense fields are float32, standardised on the training period, 0 where missing.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from musenet.dataset.manifest import Field, FieldSide, _read_manifest, embedding_offsets
from musenet.errors import DatasetError
from musenet.files import checksum


class Dataset:
    """An opened dataset; columns are memory-mapped when first used.

    Args:
        folder: where `prepare` wrote it.

    Raises:
        DatasetError: if the folder is missing, damaged, or of another format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = _read_manifest(folder)
        self._columns: dict[str, np.ndarray] = {}

    def column(self, path: str) -> np.ndarray:
        """A column by its path without ending, such as `candidates/label`."""
        if path not in self._columns:
            file = self.folder / f"{path}.npy"
            try:
                self._columns[path] = np.load(file, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise DatasetError(f"{file} cannot be read ({error}): prepare the dataset again") from error
        return self._columns[path]

    def has(self, path: str) -> bool:
        """Whether the dataset holds this column."""
        return f"{path}.npy" in self.manifest.checksums

    def fields(self, *sides: FieldSide) -> Iterator[Field]:
        """The fields of these sides, in the manifest's order."""
        return (field for field in self.manifest.fields if field.side in sides)

    @cached_property
    def embedding_offset(self) -> Mapping[str, int]:
        """Row of the one embedding table before each vocabulary's first code; row 0 is padding."""
        return embedding_offsets(self.manifest.vocabularies)

    @property
    def embedding_rows(self) -> int:
        """Rows of the one embedding table, padding included."""
        return 1 + sum(self.manifest.vocabularies.values())

    def verify(self) -> None:
        """Compare every file with its checksum; raises `DatasetError` at the first that differs."""
        for name, expected in self.manifest.checksums.items():
            file = self.folder / name
            if not file.is_file() or checksum(file) != expected:
                raise DatasetError(f"{file} is missing or was changed after preparation: prepare the dataset again")
