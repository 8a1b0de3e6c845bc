"""The embedded database that prepares a log: where tables are kept and how they are read back."""

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa

from musenet.errors import UserError

ROWS_PER_CHUNK = 1 << 20
MEMORY_SHARE = 0.5
_NO_SPACE = re.compile(r"no space left|disk full|max_temp_directory_size", re.IGNORECASE)


class Engine:
    """A backend with its stored tables; every expression is plain Ibis, so that other backends can stand in.

    Args:
        connection: the backend that tables are stored in.
    """

    def __init__(self, connection: ibis.BaseBackend) -> None:
        self.connection = connection

    def store(self, name: str, table: ir.Table) -> ir.Table:
        """Compute a table once and keep it under a name not used before."""
        return self.connection.create_table(name, table)

    def read(self, table: ir.Table) -> pa.Table:
        """The rows of a small table."""
        return self.connection.to_pyarrow(table)

    def row(self, table: ir.Table) -> dict[str, object]:
        """The only row of a table."""
        return dict(self.read(table).to_pylist()[0])

    def count(self, table: ir.Table) -> int:
        """Number of rows."""
        return int(self.connection.to_pyarrow(table.count()).as_py())

    def chunks(self, table: ir.Table) -> Iterator[pa.Table]:
        """The rows of a table in its order, about a million at a time."""
        waiting: list[pa.RecordBatch] = []
        rows = 0
        for batch in self._batches(table):
            waiting.append(batch)
            rows += batch.num_rows
            if rows >= ROWS_PER_CHUNK:
                yield pa.Table.from_batches(waiting).combine_chunks()
                waiting, rows = [], 0
        if waiting:
            yield pa.Table.from_batches(waiting).combine_chunks()

    def _batches(self, table: ir.Table) -> Iterator[pa.RecordBatch]:
        native = getattr(self.connection, "con", None)
        if not isinstance(native, duckdb.DuckDBPyConnection):
            yield from self.connection.to_pyarrow_batches(table)
            return
        # DuckDB 2 renamed the reader that Ibis 12 still calls by its old name.
        relation = native.sql(str(ibis.to_sql(table, dialect="duckdb")))
        reader = relation.to_arrow_reader if hasattr(relation, "to_arrow_reader") else relation.fetch_record_batch
        yield from reader(ROWS_PER_CHUNK)


def join(left: ir.Table, right: ir.Table, on: Sequence[str], how: Literal["inner", "left"] = "inner") -> ir.Table:
    """A join on equal columns that keeps the left ones alone."""
    joined = left.join(right, list(on), how=how, lname="", rname="_right_{name}")
    return joined.drop(*(name for name in joined.columns if name.startswith("_right_")))


def available_memory() -> int:
    """Bytes of memory that can be had, within a container's limit; 4 GiB where the system does not say."""
    free = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(int(line.split()[1]) * 1024)
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        if limit != "max":
            free.append(max(int(limit) - int(used), 1 << 28))
    except OSError:
        pass
    return min(free, default=4 << 30)


@contextmanager
def open_engine(folder: Path) -> Iterator[Engine]:
    """An engine on DuckDB whose file and spilled data lie in `folder`, using at most half of the free memory."""
    connection = ibis.duckdb.connect(
        folder / "prepare.duckdb",
        temp_directory=str(folder / "spilled"),
        memory_limit=f"{int(available_memory() * MEMORY_SHARE) >> 20}MiB",
    )
    try:
        yield Engine(connection)
    finally:
        connection.disconnect()


@contextmanager
def failures_explained(folder: Path) -> Iterator[None]:
    """Turn a full disk or exhausted memory into one sentence, and an interrupted query into Ctrl-C.

    Raises:
        UserError: saying which folder's disk is full, or that memory did not suffice.
        KeyboardInterrupt: where the database caught it first.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"the disk that holds {folder} is full: free some space and prepare again") from error
    except (duckdb.Error, RuntimeError) as error:
        if isinstance(error, duckdb.InterruptException) or str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        if _NO_SPACE.search(str(error)):
            raise UserError(f"the disk that holds {folder} is full: free some space and prepare again") from error
        if isinstance(error, duckdb.OutOfMemoryException):
            raise UserError("the memory of this machine does not suffice to prepare this log: free some") from error
        raise
