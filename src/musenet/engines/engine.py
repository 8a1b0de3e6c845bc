"""What prepares a log: a backend with its stored tables, and how they are read back."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from musenet.ahead import ahead
from musenet.errors import DataError, UserError, one_line
from musenet.files import full_disk, full_disk_explained, replacing
from musenet.frames import even_tables
from musenet.workspace import SPILLED

ROWS_PER_CHUNK = 1 << 17
MEMORY_SHARE = 0.5
_UNREADABLE = (duckdb.Error, duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException)
"""What DuckDB says of pages that hold anything else than they should, each time another."""
_NO_SPACE = re.compile(r"no space left|disk full|max_temp_directory_size", re.IGNORECASE)


class Engine:
    """A backend with its stored tables; every expression is plain Ibis, so that other backends can stand in.

    What an interrupted preparation stored in the same place is found again rather than computed again: a preparation
    is the same sequence of calls each time. This class works on DuckDB; others override what differs.

    Args:
        connection: the backend that tables are stored in.
        folder: for the files of `store_rows`; without one, its rows are kept by the backend.
    """

    def __init__(self, connection: ibis.BaseBackend, folder: Path | None = None) -> None:
        self.connection = connection
        self._folder = folder
        self._stored = self._earlier()
        self._uses: Counter[str] = Counter()
        self._reading = Lock()
        self._unread: list[pa.RecordBatchReader] = []

    def store(self, name: str, table: ir.Table, order: Sequence[str] = ()) -> ir.Table:
        """Compute a table once and keep it, its rows in this order if one is given."""
        place = self._place(name)
        if place not in self._stored:
            self._write(place, self._to_store(table, order))
            self._stored.add(place)
        return self._open(place)

    def store_rows(self, name: str, rows: Callable[[], Iterable[pa.Table]], schema: pa.Schema) -> ir.Table:
        """Keep rows that were made here, a table at a time, in the order in which they come.

        Args:
            name: of the table.
            rows: asked for them unless they were kept by an earlier attempt.
            schema: of the rows.
        """
        if self._folder is None:
            return self.store(name, ibis.memtable(pa.concat_tables([schema.empty_table(), *rows()])))
        path = self._folder / f"{self._place(name)}.parquet"
        if not path.exists():
            unpacked = {"compression": "none", "use_dictionary": False, "write_statistics": False}  # soon removed
            with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, **unpacked) as writer:
                for table in ahead(iter(rows())):
                    writer.write_table(table.cast(schema))
        return self.read_parquet([path])

    def _place(self, name: str) -> str:
        """A name not used before, the same one in every preparation of the same log."""
        self._uses[name] += 1
        return f"{name}_{self._uses[name]}"

    def _to_store(self, table: ir.Table, order: Sequence[str]) -> ir.Table:
        return table.order_by(list(order)) if order else table

    def _in_order(self, table: ir.Table, order: Sequence[str]) -> ir.Table:
        """A table as it was stored in this order, for its rows to be read in it."""
        return table  # DuckDB keeps the order of insertion

    def _earlier(self) -> set[str]:
        """Names of what an interrupted preparation stored."""
        found = self._native.execute("SELECT table_name FROM duckdb_tables() WHERE NOT temporary").fetchall()
        return {str(name) for (name,) in found}

    @property
    def _native(self) -> duckdb.DuckDBPyConnection:
        native = self.connection.con
        assert isinstance(native, duckdb.DuckDBPyConnection)
        return native

    def _write(self, place: str, table: ir.Table) -> None:
        # Ibis creates the table first and fills it then: half of it must never be found by a later attempt.
        self._native.begin()
        try:
            self.connection.create_table(place, table)
        except BaseException:
            with suppress(duckdb.Error):
                self._native.rollback()
            raise
        self._native.commit()

    def _open(self, place: str) -> ir.Table:
        return self.connection.table(place)

    def read(self, table: ir.Table) -> pa.Table:
        """The rows of a small table."""
        return self.connection.to_pyarrow(table)

    def row(self, table: ir.Table) -> dict[str, Any]:
        """The only row of a table."""
        return dict(self.read(table).to_pylist()[0])

    def count(self, table: ir.Table) -> int:
        """Number of rows."""
        return int(self.connection.to_pyarrow(table.count()).as_py())

    def chunks(self, table: ir.Table, stored_in: Sequence[str] = ()) -> Iterator[pa.Table]:
        """The rows of a table, `ROWS_PER_CHUNK` at a time; ask the engine for nothing else on the way.

        Args:
            table: in an order of its own, or one whose rows were stored in an order.
            stored_in: that order.
        """
        # The query begins here and not in the thread that reads its rows: there Ctrl-C would not reach it.
        return ahead(even_tables(self._batches(self._in_order(table, stored_in)), ROWS_PER_CHUNK))

    def _batches(self, table: ir.Table) -> Iterator[pa.RecordBatch]:
        """The rows of a query that has begun."""
        # DuckDB 2 renamed the reader that Ibis 12 still calls by its old name.
        relation = self._native.sql(str(ibis.to_sql(table, dialect="duckdb")))
        reader = relation.to_arrow_reader if hasattr(relation, "to_arrow_reader") else relation.fetch_record_batch
        batches = reader(ROWS_PER_CHUNK)
        self._unread.append(batches)
        return self._read(batches)

    def _read(self, batches: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        while True:
            with self._reading:
                batch = next(batches, None)
            if batch is None:
                self._unread.remove(batches)
                return
            yield batch

    def microseconds(self, time: ir.Value) -> ir.Value:
        """Of a timestamp, since 1970."""

        @ibis.udf.scalar.builtin(signature=(("timestamp",), "int64"))  # type: ignore[untyped-decorator]
        def epoch_us(_: object) -> int:  # type: ignore[empty-body]
            """DuckDB's own function."""

        return epoch_us(time)

    def split(self, text: ir.Value, separator: str) -> ir.Value:
        """Text as the list of its parts."""
        return text.split(separator)

    def read_parquet(self, paths: Sequence[Path]) -> ir.Table:
        """The rows of Parquet files of one schema, which are read whenever they are asked for."""
        return self.connection.read_parquet([_literal(path) for path in paths], hive_partitioning=False)

    def read_text(self, paths: Sequence[Path], columns: Sequence[str], delimiter: str) -> ir.Table:
        """The rows of CSV files below their headers, every column as text and empty ones as NULL.

        The layout is told: a guess would take one broken row for the rule and skip what precedes it.
        """
        return self.connection.read_csv(
            [_literal(path) for path in paths],
            auto_detect=False,
            hive_partitioning=False,
            columns=dict.fromkeys(columns, "VARCHAR"),
            delim=delimiter,
            header=True,
            quote='"',
            escape='"',
            nullstr="",
        )

    def close(self) -> None:
        """Let go of the backend; what is stored stays. Waits for rows that a thread is reading."""
        with self._reading:
            for batches in self._unread:  # whoever still holds them would hold the database
                batches.close()
            self.connection.disconnect()


def _literal(path: Path) -> str:
    """A path that DuckDB takes as it stands rather than as a pattern."""
    return re.sub(r"([\[*?])", r"[\1]", str(path))


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


def open_duckdb(folder: Path, memory: int | None = None) -> Engine:
    """An engine on DuckDB whose tables lie in `folder`, and what it spills too.

    Args:
        folder: where an earlier engine's tables are found again; a file that cannot be opened is begun anew.
        memory: bytes that it may use; half of what is free, if None.
    """
    limit = int(available_memory() * MEMORY_SHARE) if memory is None else memory
    settings: Mapping[str, str] = {"temp_directory": str(folder / SPILLED), "memory_limit": f"{limit >> 20}MiB"}
    file = folder / "prepare.duckdb"
    try:
        return Engine(ibis.duckdb.connect(file, **settings), folder / "rows")
    except duckdb.Error:
        for path in folder.glob("prepare.duckdb*"):
            path.unlink()
        return Engine(ibis.duckdb.connect(file, **settings), folder / "rows")


@contextmanager
def failures_explained(folder: Path) -> Iterator[None]:
    """Turn a full disk or exhausted memory into one sentence, and an interrupted query into Ctrl-C.

    Raises:
        UserError: saying which folder's disk is full, or that memory did not suffice.
        DataError: if a file that is read as it is asked for turns out to be damaged.
        KeyboardInterrupt: where the database caught it first.
    """
    try:
        with full_disk_explained(folder):
            yield
    except (duckdb.Error, RuntimeError) as error:
        if isinstance(error, duckdb.InterruptException) or str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        if _NO_SPACE.search(str(error)):
            raise full_disk(folder) from error
        if isinstance(error, duckdb.OutOfMemoryException):
            raise UserError(
                "the memory that preparation may use does not suffice for this log: "
                "free some, or allow more with --memory-limit"
            ) from error
        if type(error) in _UNREADABLE:
            raise DataError(
                f"one of the log's files cannot be read to its end ({one_line(error)}): is it damaged or cut short?"
            ) from error
        raise
