"""What prepares a log: a backend with its stored tables, and how they are read back."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from threading import Lock
from typing import Any, Literal

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from musenet.ahead import ahead
from musenet.dataset.texts import NO_VALUE
from musenet.errors import DataError, UserError, one_line
from musenet.files import full_disk, full_disk_explained, replacing
from musenet.frames import even_tables

ROWS_PER_CHUNK = 1 << 17
Become = Callable[[Iterator[pa.Table]], Iterator[pa.Table]]
"""Makes rows of rows that come in order, a table at a time. Other processes get a copy of it, one for each part."""
_UNREADABLE = (duckdb.Error, duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException)
"""What DuckDB says of pages that hold anything else than they should, each time another."""
_FILE = "__file"
"""The column in which a row's file stands while it is read."""
NO_SPACE = re.compile(r"no space left|disk full|max_temp_directory_size", re.IGNORECASE)
"""What is said of a full disk, in whatever words."""


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

    def store_through(
        self, name: str, table: ir.Table, order: Sequence[str], become: Become, schema: pa.Schema
    ) -> ir.Table:
        """Keep what `become` makes of a table's rows, put in this order, as `through` makes it."""
        rows = table.order_by(list(order))
        return self.store_rows(name, lambda: become(self.chunks(rows)), schema)

    def store_numbered(self, name: str, table: ir.Table, number: str, order: Sequence[str], first: int = 0) -> ir.Table:
        """Keep a table in an order that leaves no two rows equal, with a column that numbers them from `first` on."""
        place = ibis.row_number().over(ibis.window(order_by=list(order)))
        return self.store(name, table.mutate(**{number: place + first}), [number])

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

    def chunks(
        self, table: ir.Table, stored_in: Sequence[str] = (), at_once: int = ROWS_PER_CHUNK
    ) -> Iterator[pa.Table]:
        """The rows of a table, so many at a time; ask the engine for nothing else on the way.

        Args:
            table: in an order of its own, or one whose rows were stored in an order.
            stored_in: that order.
            at_once: fewer where rows are large.
        """
        # The query begins here and not in the thread that reads its rows: there Ctrl-C would not reach it.
        return ahead(even_tables(self._batches(self._in_order(table, stored_in), at_once), at_once))

    def through(
        self,
        table: ir.Table,
        stored_in: Sequence[str],
        become: Become,
        schema: pa.Schema,
        at_once: int = ROWS_PER_CHUNK,
    ) -> Iterator[pa.Table]:
        """What `become` makes of a table's rows, in their order; ask the engine for nothing else on the way.

        Args:
            table: its rows were stored in an order.
            stored_in: that order; rows that are equal in its first column are all met by the same call.
            become: runs wherever the engine likes, on parts of the rows.
            schema: of what it makes.
            at_once: how many rows it gets at a time.
        """
        return become(self.chunks(table, stored_in, at_once))

    def _batches(self, table: ir.Table, at_once: int) -> Iterator[pa.RecordBatch]:
        """The rows of a query that has begun."""
        # DuckDB 2 renamed the reader that Ibis 12 still calls by its old name.
        relation = self._native.sql(str(ibis.to_sql(table, dialect="duckdb")))
        reader = relation.to_arrow_reader if hasattr(relation, "to_arrow_reader") else relation.fetch_record_batch
        batches = reader(at_once)
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

    def read_parquet(self, paths: Sequence[Path], folders: Sequence[str] = ()) -> ir.Table:
        """The rows of Parquet files of one schema, which are read whenever they are asked for.

        Args:
            paths: of the files.
            folders: columns that the names of the files' folders hold, as text: `day` of `day=2024-03-04/1.parquet`.
        """
        # Arrow's statistics leave NaN out, and from them DuckDB would conclude that there is none.
        table = self.connection.read_parquet(
            self._literals(paths), hive_partitioning=False, filename=_FILE, can_have_nan=True
        )
        return self._with_folders(table, folders)

    def read_text(
        self, paths: Sequence[Path], columns: Sequence[str], delimiter: str, folders: Sequence[str] = ()
    ) -> ir.Table:
        """The rows of CSV files below their headers, every column as text and empty ones as NULL.

        The layout is told: a guess would take one broken row for the rule and skip what precedes it.
        """
        table = self.connection.read_csv(
            self._literals(paths),
            auto_detect=False,
            hive_partitioning=False,
            columns=dict.fromkeys(columns, "VARCHAR"),
            delim=delimiter,
            header=True,
            quote='"',
            escape='"',
            nullstr="",
            filename=_FILE,
        )
        return self._with_folders(table, folders)

    def json_columns(self, path: Path) -> dict[str, str]:
        """The columns of a file of JSON lines, told from all of them: text, lists of texts, or what else they are."""
        (literal,) = self._literals([path])
        source = (
            f"read_json({_quoted(literal)}, format = 'newline_delimited', sample_size = -1, hive_partitioning = false)"
        )
        found = {name: kind for name, kind, *_ in self._native.execute(f"DESCRIBE FROM {source}").fetchall()}
        mixed = [name for name, kind in found.items() if kind == "JSON"]
        if mixed:  # numbers and texts, which are texts, or values and lists, which are neither
            asked = [f"max(json_type({_quoted(name, chr(34))}) IN ('ARRAY', 'OBJECT'))" for name in mixed]
            row = self._native.execute(f"SELECT {', '.join(asked)} FROM {source}").fetchone() or ()
            found |= {name: "JSON" if nested else "VARCHAR" for name, nested in zip(mixed, row, strict=True)}
        nested = re.compile(r"^(STRUCT|MAP|JSON$)|\]\[\]$|\)\[\]$")
        return {
            name: kind if nested.search(kind) else "VARCHAR[]" if kind.endswith("[]") else "VARCHAR"
            for name, kind in found.items()
        }

    def read_json(self, paths: Sequence[Path], columns: Mapping[str, str], folders: Sequence[str] = ()) -> ir.Table:
        """The rows of files of JSON lines that all have these columns, as `json_columns` tells them."""
        table = self.connection.read_json(
            self._literals(paths),
            columns=dict(columns),
            format="newline_delimited",
            auto_detect=False,
            hive_partitioning=False,
            filename=_FILE,
        )
        return self._with_folders(table, folders)

    def _literals(self, paths: Sequence[Path]) -> list[str]:
        """Paths that DuckDB takes as they stand rather than as patterns."""
        if all(isinstance(path, PurePath) for path in paths):
            return [re.sub(r"([\[*?])", r"[\1]", str(path)) for path in paths]
        from musenet.engines.remote import PREFIX, RemoteFiles

        if not self._native.filesystem_is_registered(RemoteFiles.protocol):
            self._native.register_filesystem(RemoteFiles())
        return [f"{PREFIX}{path}" for path in paths]

    def _with_folders(self, table: ir.Table, folders: Sequence[str]) -> ir.Table:
        """A table of files with the columns that the names of their folders hold, and without the file's own name."""
        said = {name: self._said(table[_FILE], name) for name in folders}
        return table.mutate(
            **{name: (value == NO_VALUE).ifelse(ibis.null("string"), value) for name, value in said.items()}
        ).drop(_FILE)

    def _said(self, file: ir.StringValue, name: str) -> ir.StringValue:
        """What the innermost folder of this name in a file's path says."""

        @ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]
        def url_decode(_: str) -> str:  # type: ignore[empty-body]
            """DuckDB's own function."""

        return url_decode(file.re_extract(said_by_folder(name), 1))

    def close(self) -> None:
        """Let go of the backend; what is stored stays. Waits for rows that a thread is reading."""
        with self._reading:
            for batches in self._unread:  # whoever still holds them would hold the database
                batches.close()
            self.connection.disconnect()


def said_by_folder(name: str) -> str:
    """The pattern whose group is what the innermost folder of this name says in a path."""
    return rf"(?s)^(?:.*/)?{re.escape(name)}=([^/]*)/"


def _quoted(text: str, sign: str = "'") -> str:
    return sign + text.replace(sign, sign * 2) + sign


def join(left: ir.Table, right: ir.Table, on: Sequence[str], how: Literal["inner", "left"] = "inner") -> ir.Table:
    """A join on equal columns that keeps the left ones alone."""
    joined = left.join(right, list(on), how=how, lname="", rname="_right_{name}")
    return joined.drop(*(name for name in joined.columns if name.startswith("_right_")))


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
        if NO_SPACE.search(str(error)):
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
