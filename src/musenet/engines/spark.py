"""Preparation's relations on Spark: on this machine, or on a cluster that sees the same folders.

Which cluster is Spark's own setting: a session that is running already is used, else one is begun as
`spark-defaults.conf` (in `SPARK_CONF_DIR`) or `PYSPARK_SUBMIT_ARGS` say, on this machine if they say nothing.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path, PurePath
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from musenet import errors
from musenet.dataset.texts import NO_VALUE
from musenet.engines.engine import ROWS_PER_CHUNK, Become, Engine, said_by_folder
from musenet.errors import DataError, UserError
from musenet.frames import even_tables

DONE = "_SUCCESS"
"""The file that Spark writes last."""
_BITS_IN_PART = 33
"""Of the numbers that Spark gives to rows, the lower ones, which count those of one part."""


class SparkEngine(Engine):
    """An engine whose tables are folders of Parquet files.

    Args:
        connection: Ibis on a Spark session.
        folder: where the tables lie; every worker has to see it.
    """

    def __init__(self, connection: ibis.BaseBackend, folder: Path) -> None:
        self._tables = folder / "tables"
        self.session: Any = connection._session
        super().__init__(connection, folder / "rows")

    def _earlier(self) -> set[str]:
        return {path.parent.name for path in self._tables.glob(f"*/{DONE}")}

    def _write(self, place: str, table: ir.Table) -> None:
        self._compute(self.frame(table), self._tables / place)

    def _compute(self, frame: Any, folder: Path) -> None:
        with quiet(self.session), errors_of_executors():
            frame.write.mode("overwrite").parquet(str(folder))

    def _open(self, place: str) -> ir.Table:
        return self.read_parquet([self._tables / place])

    def read_parquet(self, paths: Sequence[Path], folders: Sequence[str] = ()) -> ir.Table:
        """The rows of Parquet files, which are read whenever they are asked for."""
        return self._view(_with_folders(self.session.read.parquet(*self._literals(paths)), folders))

    def store_through(
        self, name: str, table: ir.Table, order: Sequence[str], become: Become, schema: pa.Schema
    ) -> ir.Table:
        """Keep what the executors make of a table's rows, put in this order."""
        return self.store(name, self._made(table, order, become, schema, ROWS_PER_CHUNK))

    def store_numbered(self, name: str, table: ir.Table, number: str, order: Sequence[str], first: int = 0) -> ir.Table:
        """Keep a table with a column that numbers its rows; a window over all rows would bring them to one executor."""
        from pyspark.sql import functions

        sorted_parts = self.frame(table).repartitionByRange(*order).sortWithinPartitions(*order)
        placed = sorted_parts.select("*", functions.monotonically_increasing_id().alias(number))
        stored = self.frame(self.store(name, self._view(placed)))
        part_of = functions.shiftright(number, _BITS_IN_PART)
        sizes = dict(sorted(stored.groupBy(part_of).count().collect()))
        # Of each part: its number stands in the upper bits, and the rows of those before it lie before its own.
        before = accumulate([first, *sizes.values()][:-1])
        shifts = {part: rows - (part << _BITS_IN_PART) for part, rows in zip(sizes, before, strict=True)}
        by_part = functions.create_map(*(functions.lit(value) for pair in shifts.items() for value in pair))
        moved = functions.col(number) + by_part[part_of]
        return self._view(stored.withColumn(number, moved) if sizes else stored)

    def through(
        self,
        table: ir.Table,
        stored_in: Sequence[str],
        become: Become,
        schema: pa.Schema,
        at_once: int = ROWS_PER_CHUNK,
    ) -> Iterator[pa.Table]:
        """What the executors make of a table's rows, each of a range of them, in their order."""
        return (rows.cast(schema) for rows in self.chunks(self._made(table, stored_in, become, schema, at_once)))

    def _made(self, table: ir.Table, order: Sequence[str], become: Become, schema: pa.Schema, at_once: int) -> ir.Table:
        from pyspark.sql.pandas.types import from_arrow_schema

        parts = self.frame(table).repartitionByRange(order[0]).sortWithinPartitions(*order)
        made = pa.schema([field.with_type(_without_width(field.type)) for field in schema])
        task = partial(_on_executor, become, table.schema().to_pyarrow(), made, at_once)
        return self._view(parts.mapInArrow(task, from_arrow_schema(made)))

    def _in_order(self, table: ir.Table, order: Sequence[str]) -> ir.Table:
        # Spark reads the files of a folder in any order: what has to be in order is sorted when it is read.
        return table.order_by(list(order)) if order else table

    def _to_store(self, table: ir.Table, order: Sequence[str]) -> ir.Table:
        return table

    def read(self, table: ir.Table) -> pa.Table:
        """The rows of a small table; through Arrow, since pandas would turn whole numbers with gaps into floats."""
        return self.frame(table).toArrow().cast(table.schema().to_pyarrow())

    def count(self, table: ir.Table) -> int:
        """Number of rows."""
        return int(self.frame(table).count())

    def microseconds(self, time: ir.Value) -> ir.Value:
        """Of a timestamp, since 1970."""

        @ibis.udf.scalar.builtin(signature=(("timestamp",), "int64"))  # type: ignore[untyped-decorator]
        def unix_micros(_: object) -> int:  # type: ignore[empty-body]
            """Spark's own function."""

        return unix_micros(time.cast("timestamp"))

    def split(self, text: ir.Value, separator: str) -> ir.Value:
        """Text as the list of its parts; Spark takes the separator for a pattern."""
        return text.split(re.escape(separator))

    def read_text(
        self, paths: Sequence[Path], columns: Sequence[str], delimiter: str, folders: Sequence[str] = ()
    ) -> ir.Table:
        """The rows of CSV files below their headers, every column as text and empty ones as NULL."""
        # Broken rows come as they do from DuckDB: as an error that names the file.
        reader = self.session.read.options(
            header=True, sep=delimiter, quote='"', escape='"', nullValue="", mode="FAILFAST", multiLine=True
        )
        schema = ", ".join(f"`{name}` STRING" for name in columns)
        return self._view(_with_folders(reader.schema(schema).csv(self._literals(paths)), folders))

    def json_columns(self, path: Path) -> dict[str, str]:
        """The columns of a file of JSON lines, told from all of them: text, lists of texts, or what else they are."""
        reader = self.session.read.options(primitivesAsString=True, mode="FAILFAST")
        return dict(reader.json(self._literals([path])).dtypes)

    def read_json(self, paths: Sequence[Path], columns: Mapping[str, str], folders: Sequence[str] = ()) -> ir.Table:
        """The rows of files of JSON lines that all have these columns, as `json_columns` tells them."""
        schema = ", ".join(f"`{name}` {kind}" for name, kind in columns.items())
        reader = self.session.read.options(mode="FAILFAST").schema(schema)
        return self._view(_with_folders(reader.json(self._literals(paths)), folders))

    def _literals(self, paths: Sequence[Path]) -> list[str]:
        """Paths that Spark takes as they stand rather than as patterns."""
        for path in paths:
            if not isinstance(path, PurePath):
                raise UserError(f"{path}: Spark reads files that its workers see in folders: leave out --engine spark")
        return [re.sub(r"([\[\]{}*?\\])", r"\\\1", str(path)) for path in paths]

    def _view(self, frame: Any) -> ir.Table:
        name = ibis.util.gen_name("files")
        frame.createOrReplaceTempView(name)
        return self.connection.table(name)

    def _batches(self, table: ir.Table, at_once: int) -> Iterator[pa.RecordBatch]:
        """The rows of a query that has ended: they lie in files, which are removed behind the reader."""
        folder = self._tables / "passing"
        self._compute(self.frame(table), folder)
        return _read_and_remove(folder, table.schema().to_pyarrow(), at_once)

    def frame(self, table: ir.Table) -> Any:
        """As Spark's own."""
        self.connection._run_pre_execute_hooks(table)
        return self.session.sql(self.connection.compile(table))


def _read_and_remove(folder: Path, fields: pa.Schema, at_once: int) -> Iterator[pa.RecordBatch]:
    schema = pa.schema([field.with_nullable(True) for field in fields])
    for path in sorted(folder.glob("part-*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(at_once):
                yield from pa.Table.from_batches([batch]).cast(schema).to_batches()
    shutil.rmtree(folder)


def _on_executor(
    become: Become, given: pa.Schema, made: pa.Schema, at_once: int, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """What becomes of one part of a table's rows."""
    fields = pa.schema([field.with_nullable(True) for field in given])
    for rows in become(chunk.cast(fields) for chunk in even_tables(batches, at_once)):
        yield from rows.cast(made).to_batches()


def _without_width(kind: pa.DataType) -> pa.DataType:
    """Spark's lists have no fixed size."""
    return pa.list_(kind.value_type) if pa.types.is_fixed_size_list(kind) else kind


@contextmanager
def quiet(session: Any) -> Iterator[None]:
    """What goes wrong is told once, in a sentence; Java's log tells it of each try."""
    session.sparkContext.setLogLevel("OFF")
    try:
        yield
    finally:
        session.sparkContext.setLogLevel("ERROR")


@contextmanager
def errors_of_executors() -> Iterator[None]:
    """Raise as itself an error of ours that an executor met.

    Raises:
        DataError: with the executor's sentence.
        UserError: if an executor's Python lacks musenet, or what it needs.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        told = told_by_executors(error)
        ours = [text for name, text in told if hasattr(errors, name)]
        lacking = [text for name, text in told if name == "ModuleNotFoundError"]
        if lacking and not ours:
            raise UserError(
                f"--engine spark: Spark's executors run a Python that lacks something ({lacking[-1]}): install "
                "'musenet[spark]' for it on every machine, or name another Python in PYSPARK_PYTHON"
            ) from error
        if not ours:
            raise
        raise DataError(ours[-1]) from error


def told_by_executors(error: Exception) -> list[tuple[str, str]]:
    """Names and sentences of the errors that Spark tells of, the last one being what went wrong first."""
    return re.findall(r"^(?:\w+\.)*(\w+(?:Error|Exception)): (.+)$", str(error), re.MULTILINE)


def _with_folders(frame: Any, folders: Sequence[str]) -> Any:
    """A frame of files with the columns that the names of their folders hold."""
    from pyspark.sql import functions

    def decoded(text: Any) -> Any:  # to Spark a plus is a blank, and the name of the file is quoted once more
        return functions.url_decode(functions.replace(text, functions.lit("+"), functions.lit("%2B")))

    for name in folders:
        said = decoded(functions.regexp_extract(decoded(functions.input_file_name()), said_by_folder(name), 1))
        frame = frame.withColumn(name, functions.nullif(said, functions.lit(NO_VALUE)))
    return frame


def open_spark(folder: Path, memory: int | None) -> Engine:
    """An engine on Spark.

    Args:
        folder: where its tables lie.
        memory: bytes for the driver of a session that is begun here; Spark's own choice, if None.

    Raises:
        UserError: if pyspark or a Java runtime is missing.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise UserError("--engine spark needs pyspark: pip install 'musenet[spark]'") from error
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        raise UserError("--engine spark needs a Java runtime, 17 or newer: install one (Debian: default-jre-headless)")
    builder = SparkSession.builder.appName("musenet prepare").config("spark.ui.showConsoleProgress", "false")
    if memory is not None:
        builder = builder.config("spark.driver.memory", f"{memory >> 20}m")
    session = builder.getOrCreate()
    context = session.sparkContext
    context.setLogLevel("ERROR")
    if str(context.master).startswith("local"):
        context.pythonExec = sys.executable  # else it is the one that `python3` means
    return SparkEngine(ibis.pyspark.connect(session), folder.resolve())
