"""The prepared dataset on disk, opened: its columns as requests and candidates see them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from musenet.dataset.column_files import column_file, mapped
from musenet.dataset.layout import (
    RELATIONS,
    VALUE,
    Array,
    Candidates,
    Events,
    Relation,
    Requests,
    keys_file,
    vocabulary_file,
)
from musenet.dataset.manifest import (
    Field,
    FieldSide,
    changed_since_checked,
    embedding_offsets,
    mark_as_checked,
    read_manifest,
)
from musenet.errors import DatasetError
from musenet.files import checksum

Rows = NDArray[np.int64]


class Views:
    """The columns in a dataset's folder, memory-mapped when first used; its manifest may yet have to be written.

    Args:
        folder: of the dataset.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._columns: dict[tuple[Relation, str], Array] = {}
        self.events = Events(partial(self._read, "events"), partial(self._has, "events"))
        self.requests = Requests(partial(self._read, "requests"), partial(self._has, "requests"))
        self.candidates = Candidates(partial(self._read, "candidates"), partial(self._has, "candidates"))

    def column(self, field: Field) -> Array:
        """(rows,) or (rows, width) the whole column of a field."""
        return self._read(RELATIONS[field.side], field.name)

    def values(self, field: Field, rows: Array | int | slice) -> Array:
        """The field's values in some rows of its side's relation, see `rows_of`."""
        return self._read(RELATIONS[field.side], field.name)[rows]

    def rows_of(self, side: FieldSide, requests: Array, candidates: Array | None = None) -> Array:
        """The rows that a side's fields have for requests (R), or for candidates (N) if the side describes those."""
        if side == "user":
            return np.asarray(self.requests.user[requests])
        if side == "context":
            return requests
        if side == "history" or candidates is None:
            raise ValueError(f"requests alone have no rows of the side '{side}'")
        return np.asarray(self.candidates.item[candidates]) if side == "item" else candidates

    def sizes_of(self, requests: Array) -> Rows:
        """(R,) how many candidates each request has."""
        offset = self.requests.candidate_offset
        return np.asarray(offset[requests + 1] - offset[requests])

    def candidates_of(self, requests: Array) -> tuple[Rows, Rows]:
        """Rows of the candidates of these requests, and (R + 1,) where each request's begin among them."""
        offset = self.requests.candidate_offset
        return _ranges(offset[requests], offset[requests + 1])

    def candidates_between(self, begin: int, end: int) -> slice:
        """Rows of the candidates of the requests from `begin` to before `end`."""
        offset = self.requests.candidate_offset
        return slice(int(offset[begin]), int(offset[end]))

    def history_length(self, requests: Array) -> Rows:
        """(R,) how many events of the user lie before each request, however many of them a history holds."""
        end = self.requests.history_end[requests].astype(np.int64)
        return np.asarray(end - self.events.offset[self.requests.user[requests]])

    def _read(self, relation: Relation, name: str) -> Array:
        column = self._columns.get((relation, name))
        if column is None:
            file = column_file(self.folder / relation, name)
            try:
                column = self._columns[relation, name] = mapped(self.folder / relation, name)
            except (OSError, ValueError, EOFError) as error:
                raise DatasetError(f"{file} cannot be read ({error}): prepare the dataset again") from error
        return column

    def _has(self, relation: Relation, name: str) -> bool:
        return column_file(self.folder / relation, name).is_file()


class Dataset(Views):
    """An opened dataset.

    Args:
        folder: where `prepare` or `write_dataset` wrote it.

    Raises:
        DatasetError: if the folder is missing, damaged, or of another format.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.manifest = read_manifest(folder)
        self.verify(changed_since_checked(folder, self.manifest.checksums))

    def _has(self, relation: Relation, name: str) -> bool:
        return column_file(Path(relation), name).as_posix() in self.manifest.checksums

    def fields(self, *sides: FieldSide) -> Iterator[Field]:
        """The fields of these sides, in the manifest's order."""
        return (field for field in self.manifest.fields if field.side in sides)

    def field(self, side: FieldSide, name: str) -> Field:
        """The side's field of this name; raises `DatasetError` if it has none."""
        for field in self.fields(side):
            if field.name == name:
                return field
        raise DatasetError(f"{self.folder} has no {side} field '{name}'")

    def history_of(self, requests: Array) -> tuple[Rows, Rows]:
        """Rows of the events in the histories of these requests, oldest first, and (R + 1,) where each one begins."""
        end = self.requests.history_end[requests].astype(np.int64)
        begin = self.events.offset[self.requests.user[requests]]
        return _ranges(np.maximum(begin, end - self.manifest.history_length), end)

    def keys(self, relation: Relation, columns: Sequence[str] | None = None) -> pa.Table:
        """The log's own ids, row by row, under the names of their roles.

        Args:
            relation: whose.
            columns: only these.

        Raises:
            DatasetError: if they cannot be read.
        """
        return _read_table(keys_file(self.folder, relation), columns)

    def texts(self, vocabulary: str) -> pa.Array:
        """The values of a vocabulary as text, those of the codes from `FIRST_VALUE` on.

        Raises:
            DatasetError: if they cannot be read.
        """
        return _read_table(vocabulary_file(self.folder, vocabulary), [VALUE])[VALUE].combine_chunks()

    @cached_property
    def embedding_offset(self) -> Mapping[str, int]:
        """Row of the one embedding table before each vocabulary's first code; row 0 is padding."""
        return embedding_offsets(self.manifest.vocabularies)

    @property
    def embedding_rows(self) -> int:
        """Rows of the one embedding table, padding included."""
        return 1 + sum(self.manifest.vocabularies.values())

    def verify(self, files: Iterable[str] | None = None) -> None:
        """Compare files with their checksums: all, or these, as opening does with those that changed in time.

        Raises:
            DatasetError: at the first that differs.
        """
        for name in self.manifest.checksums if files is None else files:
            file = self.folder / name
            if not file.is_file() or checksum(file) != self.manifest.checksums[name]:
                raise DatasetError(f"{file} is missing or was changed after preparation: prepare the dataset again")
        if files:
            mark_as_checked(self.folder, self.manifest.checksums)


def _ranges(begin: Array, end: Array) -> tuple[Rows, Rows]:
    """Concatenated ranges [begin_i, end_i) and the offset at which each begins in the result."""
    lengths = end - begin
    offset = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offset[1:])
    return np.arange(offset[-1]) + np.repeat(begin - offset[:-1], lengths), offset


def _read_table(file: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        table = pq.read_table(file, partitioning=None)
        return table if columns is None else table.select(columns)
    except (OSError, pa.ArrowException, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(f"{file} cannot be read ({reason}): prepare the dataset again") from error
