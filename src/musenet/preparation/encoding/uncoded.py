"""The values that have no code of their own, kept row by row: a later period may bring enough of them for one."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from musenet.dataset.manifest import UNSEEN
from musenet.preparation.encoding.fields import PlannedField
from musenet.preparation.encoding.vocabulary import Vocabulary

ROW, VALUE = "row", "value"


def uncoded_file(folder: Path, name: str) -> Path:
    """Where those of a relation's field are kept; there is no such file if every value has a code."""
    return folder / f"{name}.parquet"


def lacks_codes(column: pa.Array, codes: NDArray[Any]) -> NDArray[np.bool_]:
    """(rows) which of them hold a value that its codes do not tell; of lists also those longer than what is kept."""
    if codes.ndim == 1:
        return np.asarray(codes == UNSEEN)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return np.asarray((codes == UNSEEN).any(axis=1) | (lengths > codes.shape[1]))


class NewUncoded:
    """The file of a field's values without a code, written from its beginning; use it as a context manager.

    Args:
        folder: of the relation's.
        entry: the field.
        vocabulary: its own.
    """

    def __init__(self, folder: Path, entry: PlannedField, vocabulary: Vocabulary) -> None:
        kind = vocabulary.values.type
        self._kind = kind if entry.list_length is None else pa.list_(kind)
        self._file = uncoded_file(folder, entry.name)
        self._file.unlink(missing_ok=True)
        self._stack = ExitStack()
        self._writer: pq.ParquetWriter | None = None

    def add(self, column: pa.ChunkedArray, first: int) -> None:
        """Keep what these rows, of which the first has this number, hold beyond their codes: all but NULL."""
        rows = np.flatnonzero(column.is_valid().to_numpy())
        if len(rows):
            values = column.combine_chunks().take(pa.array(rows))
            self.write(pa.table({ROW: rows + first, VALUE: values.cast(self._kind)}))

    def write(self, rows: pa.Table) -> None:
        """Keep rows of `row` and `value`."""
        if self._writer is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._stack.enter_context(pq.ParquetWriter(self._file, rows.schema))
        self._writer.write_table(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()


def new_uncoded(
    stack: ExitStack, folder: Path | None, planned: Sequence[PlannedField], vocabularies: Mapping[str, Vocabulary]
) -> dict[PlannedField, NewUncoded]:
    """A file for each of these fields, closed with the stack; none without a folder."""
    if folder is None:
        return {}
    return {entry: stack.enter_context(NewUncoded(folder, entry, vocabularies[entry.vocabulary])) for entry in planned}


def read_uncoded(folder: Path, name: str) -> pa.Table | None:
    """`row` and `value` of a field, in order of the rows; None if every value has a code."""
    file = uncoded_file(folder, name)
    return pq.read_table(file, partitioning=None) if file.is_file() else None
