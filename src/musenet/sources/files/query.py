"""Tables of a log that are what a query gives, of a DuckDB file or of files that the query names itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from musenet.engines.engine import ROWS_PER_CHUNK, Engine
from musenet.errors import DataError, one_line
from musenet.sources.files.opening import LogFile
from musenet.sources.files.options import TableSource
from musenet.sources.files.places import whole


class Query:
    """The rows of a query.

    Args:
        key: where the configuration has it, such as `data.impressions`.
        part: the query and the database that it reads.
        base: the folder that relative paths start from, in the query too.
    """

    def __init__(self, key: str, part: TableSource, base: Path) -> None:
        self._key = key
        self._sql = (part.sql or "").strip().removesuffix(";")
        self._base = base
        self._database = None if part.database is None else Path(whole(part.database, base))
        self._known: tuple[int, str] | None = None

    def open(self, engine: Engine) -> LogFile:
        """Its rows, kept by the engine.

        Raises:
            DataError: if the query fails, or gives no rows.
        """
        with self._asked() as asked:
            reader = asked.to_arrow_reader(ROWS_PER_CHUNK)
            rows = (pa.Table.from_batches([batch]) for batch in reader)
            table = engine.store_rows(self._key.rpartition(".")[2] + "_query", lambda: rows, reader.schema)
        if not engine.count(table.limit(1)):
            raise DataError(f"{self._key}.sql gives no rows: check the query")
        return LogFile(self._key, f"the query of {self._key}", [], table, is_parquet=True)

    def rows(self) -> int:
        """How many."""
        return self._look()[0]

    def fingerprint(self) -> str:
        """Changes with the rows, whatever their order, and with the names and types of their columns."""
        return self._look()[1]

    def _look(self) -> tuple[int, str]:
        if self._known is None:
            with self._asked() as asked:
                columns = [f"{name} {kind}" for name, kind in zip(asked.columns, asked.types, strict=True)]
                (count, together), *_ = asked.set_alias("asked").aggregate("count(*), sum(hash(asked))").fetchall()
            self._known = int(count), f"{', '.join(columns)} {count} {together}"
        return self._known

    @contextmanager
    def _asked(self) -> Iterator[duckdb.DuckDBPyRelation]:
        if self._database is not None and not self._database.is_file():
            raise DataError(f"{self._key}.database: there is no file {self._database}: name a DuckDB file")
        try:
            settings: dict[str, str | bool | int | float | list[str]] = {"file_search_path": str(self._base.absolute())}
            database = ":memory:" if self._database is None else str(self._database)
            with duckdb.connect(database, read_only=self._database is not None, config=settings) as connection:
                statements = duckdb.extract_statements(self._sql)
                if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                    raise DataError(f"{self._key}.sql: give one query, such as `SELECT * FROM impressions`")
                yield connection.sql(self._sql)
        except duckdb.Error as error:
            raise DataError(f"{self._key}.sql: {one_line(error)}") from error
