"""Scores for a whole file: Parquet in, Parquet out, in the order of the rows and in bounded memory.

A row is a candidate. Consecutive rows of one request (the same `request` if there is such a column, else the same user
and time) are scored together; columns bear the log's own names.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from musenet.errors import DataError, RequestError
from musenet.files import replacing
from musenet.serving.scorer.messages import MOST_CANDIDATES
from musenet.serving.scorer.scorer import Scorer

TIME, REQUEST, HISTORY, SCORE = "time", "request", "history", "score"
ROWS_AT_ONCE = 16_384

Rows = list[dict[str, Any]]
Progress = Callable[[int, int], None]


def predict_file(scorer: Scorer, requests: Path, out: Path, progress: Progress | None = None) -> int:
    """Score every row of a Parquet file; the number of rows.

    Args:
        scorer: whose store, if it has one, gives the histories of requests that bring none.
        requests: columns of the user and item id, of all context and candidate features, and if there are any `time`
            (a timestamp, or seconds since 1970), `request`, and `history` (a list of structs with item, kind, time and
            the columns of events), of which a request's first row counts. Others are left out.
        out: the file to write: the ids, `time` and `request` as they were, and `score`, P(click).
        progress: told of the rows done and in all.

    Raises:
        DataError: naming file, row and column, if the file cannot be read or a value cannot be used.
    """
    layout = _Layout(scorer, requests)
    done = 0
    with replacing(out) as temporary, pq.ParquetWriter(temporary, layout.written) as writer:
        for rows, kept in layout.chunks():
            scores = layout.scores(rows, done)
            writer.write_table(kept.append_column(SCORE, pa.array(scores, pa.float64())).cast(layout.written))
            done += len(rows)
            if progress is not None:
                progress(done, layout.rows)
    return done


@dataclass(frozen=True)
class _Shown:
    """Where a request's rows lie in the file."""

    first: int
    rows: Rows


class _Layout:
    """What the columns of a file are to a scorer.

    Raises:
        DataError: if the file cannot be read, is empty, or lacks a column.
    """

    def __init__(self, scorer: Scorer, path: Path) -> None:
        self._scorer, self._path = scorer, path
        self._file = _open(path)
        self.rows = self._file.metadata.num_rows
        if not self.rows:
            raise DataError(f"{path} holds no rows: give a row for every candidate")
        schema = self._file.schema_arrow
        manifest = scorer.manifest
        self._user, self._item = manifest.user_column, manifest.item_column
        self._context, self._candidate = sorted(scorer.context_columns), sorted(scorer.candidate_columns)
        wanted = [self._user, self._item, *scorer.required_columns]
        missing = [name for name in wanted if name not in schema.names]
        if missing:
            raise DataError(
                f"{path} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
                f"it has {', '.join(schema.names[:30])}"
            )
        for name in scorer.numeric_columns:
            if name in schema.names and not _is_number(schema.field(name).type):
                raise DataError(f"{path}: column '{name}' takes numbers, but holds {schema.field(name).type}")
        known = [*wanted, *self._context, *self._candidate, TIME, REQUEST, HISTORY]
        self._read = [name for name in schema.names if name in known]
        self._kept = [name for name in (REQUEST, TIME, self._user, self._item) if name in schema.names]
        self.written = pa.schema([*(schema.field(name) for name in self._kept), pa.field(SCORE, pa.float64())])

    def chunks(self) -> Iterator[tuple[Rows, pa.Table]]:
        """Rows of whole requests, as values and as the columns that are written again."""
        waiting: pa.Table | None = None
        for batch in self._file.iter_batches(ROWS_AT_ONCE, columns=self._read):
            table = pa.Table.from_batches([batch])
            table = table if waiting is None else pa.concat_tables([waiting, table]).combine_chunks()
            whole = self._whole(table)
            if whole:
                yield self._values(table.slice(0, whole)), table.slice(0, whole).select(self._kept)
            waiting = table.slice(whole)
        if waiting is not None and waiting.num_rows:
            yield self._values(waiting), waiting.select(self._kept)

    def scores(self, rows: Rows, first: int) -> list[float]:
        """The rows' scores; `first` is how many rows of the file came before."""
        scores: list[float] = []
        for _, group in groupby(rows, self._key):
            shown = _Shown(first + len(scores), list(group))
            scores += self._score(shown)
        return scores

    def _key(self, row: dict[str, Any]) -> tuple[Any, ...]:
        return (row[REQUEST], row[self._user]) if REQUEST in row else (row[self._user], row.get(TIME))

    def _whole(self, table: pa.Table) -> int:
        """How many rows are followed by another request's; all are kept back if it is one request so far."""
        names = [REQUEST, self._user] if REQUEST in table.column_names else [self._user, TIME]
        keys = [table[name].to_pylist() for name in names if name in table.column_names]
        last = int(table.num_rows) - 1
        place = last
        while place > 0 and all(key[place - 1] == key[last] for key in keys):
            place -= 1
        if table.num_rows - place > MOST_CANDIDATES:
            what = ", ".join(f"{name} {key[last]}" for name, key in zip(names, keys, strict=False))
            raise DataError(f"{self._path}: a request has more than {MOST_CANDIDATES:,} rows ({what})")
        return place

    def _values(self, table: pa.Table) -> Rows:
        columns = {name: _plain(table[name], name, self._scorer.manifest.timezone) for name in table.column_names}
        rows: Rows = pa.table(columns).to_pylist()
        return rows

    def _score(self, shown: _Shown) -> Sequence[float]:
        first = shown.rows[0]
        for name in (self._user, *self._context, TIME):
            for place, row in enumerate(shown.rows):
                if row.get(name) != first.get(name):
                    both = f"rows {shown.first + 1} and {shown.first + place + 1}"
                    raise DataError(
                        f"{self._path}: {both} belong to one request, but differ in '{name}': give every request a "
                        f"`{REQUEST}` of its own"
                    )
        content = {
            "user": first[self._user],
            "time": first.get(TIME),
            "context": {name: first[name] for name in self._context if name in first},
            "candidates": [
                {"item": row[self._item]} | {name: row[name] for name in self._candidate if name in row}
                for row in shown.rows
            ],
            "history": first.get(HISTORY),
        }
        try:
            answer: Sequence[float] = self._scorer.score(content)["scores"]
        except RequestError as error:
            raise self._in_the_file(error, shown) from error
        return answer

    def _in_the_file(self, error: RequestError, shown: _Shown) -> DataError:
        """The mistake by row and column of the file."""
        part, *rest = error.field.split(".", 2)
        row = shown.first + (int(rest[0]) if part == "candidates" and rest and rest[0].isdigit() else 0)
        names = {"user": self._user, "item": self._item}
        column = rest[-1] if rest and part in ("candidates", "context") else error.field
        return DataError(f"{self._path}: row {row + 1}: column '{names.get(column, column)}' {error.reason}")


def _open(path: Path) -> pq.ParquetFile:
    if not path.is_file():
        raise DataError(f"there is no file {path}: give a Parquet file with a row for every candidate")
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is no Parquet file that can be read ({' '.join(str(error).split())[:200]})") from error


def _is_number(kind: pa.DataType) -> bool:
    is_of = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    return any(test(kind) for test in is_of)


def _plain(column: pa.ChunkedArray, name: str, timezone: str) -> pa.ChunkedArray:
    """A column as requests hold it: times as seconds, numbers without fixed digits, other temporal values as text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type), name, timezone)
    if name == TIME and pa.types.is_timestamp(kind):
        aware = column if kind.tz else pc.assume_timezone(column, timezone, ambiguous="earliest", nonexistent="latest")
        micros = aware.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())
        return pc.divide(micros.cast(pa.float64()), 1e6)
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
    if pa.types.is_temporal(kind):
        return column.cast(pa.string())
    return column
