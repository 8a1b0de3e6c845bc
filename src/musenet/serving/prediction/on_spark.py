"""Scores on the executors of Spark, where the rows of each request are brought together wherever they lie.

Every executor has to see the export, the files and the folder that is written, as for preparation on Spark.
"""

import re
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from musenet.errors import DataError, UserError, one_line
from musenet.serving.prediction.histories import Histories
from musenet.serving.prediction.predict import events_of, files_of
from musenet.serving.prediction.scoring import score_rows
from musenet.serving.prediction.stored import StoredHistories
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.store.opening import open_existing
from musenet.storage.addresses import address
from musenet.storage.copies import fetched

if TYPE_CHECKING:
    from musenet.sources.log import AnyPath

_NAME = "the requests"
_AT_HAND = 64
"""Batches of an executor whose rows messages can still name."""


@dataclass(frozen=True)
class Task:
    """What each executor does."""

    export: str
    run: str
    """Tells this run from others: the processes of executors outlive it, the files may change."""
    unsigned: tuple[str, ...]
    """Columns of whole numbers up to 2⁶⁴, which Spark has as decimal ones."""
    events: str | None
    store: str | None
    now: float | None
    explain: bool


def predict_on_spark(
    folder: Path,
    requests: "AnyPath",
    out: Path,
    *,
    events: str | None = None,
    store: str | None = None,
    now: float | None = None,
    explain: bool = False,
) -> int:
    """As `predict_files`, on Spark; the rows of a request may lie anywhere, and come out in any order.

    Args:
        folder: the export.
        requests: files that all executors see.
        out: the folder of Parquet files to make.
        events: files of events, which every executor holds whole; absolute or a URL.
        store: the address of a history store.
        now: as of `score_rows`.
        explain: as of `score_rows`.

    Raises:
        DataError: naming the row by its user, request and item, and the column, if a value cannot be used.
        UserError: if Spark is missing, the folder is there already, or the executors cannot share a store.
    """
    from musenet.engines.spark import quiet

    if out.exists():
        raise UserError(f"--out {out} exists already: name a new folder, which Spark fills with Parquet files")
    scorer = Scorer(folder)
    temporary = out.with_name(f".{out.name}.{token_hex(4)}")
    try:
        with _explained(requests):
            session, frame, unsigned = _frame(scorer, requests, temporary, out)
            context = session.sparkContext
            if not context.master.startswith("local") and store is not None and "://" not in store:
                raise UserError(f"--store {store}: the machines of a cluster cannot share a file: give a store's URL")
            task = Task(address(folder.resolve()), token_hex(8), unsigned, events, store, now, explain)
            scored = _plan(scorer, frame, task)
            with quiet(session):
                scored.write.parquet(str(temporary / "scored"))
        rows: int = sum(pq.read_metadata(file).num_rows for file in (temporary / "scored").glob("*.parquet"))
        if not rows:
            raise DataError(f"{requests} holds no rows: give a row for every candidate")
        (temporary / "scored").rename(out)
        return rows
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _frame(scorer: Scorer, requests: "AnyPath", folder: Path, out: Path) -> tuple[Any, Any, tuple[str, ...]]:
    """Spark's session, the rows of the files, and the columns of whole numbers that Spark makes decimal ones."""
    from musenet.engines.spark import SparkEngine, open_spark
    from musenet.sources.files.opening import open_files

    files = files_of(scorer, "requests", requests)
    files.targets(out)
    engine = open_spark(folder, None)
    assert isinstance(engine, SparkEngine)
    paths = [path.absolute() for path in files.paths]
    opened = open_files(engine, "requests", paths, named=list(files.fields), stored=False)
    unsigned = [name for name, field in files.fields.items() if pa.types.is_uint64(field.type)]
    return engine.session, engine.frame(opened.table), tuple(unsigned)


def _plan(scorer: Scorer, frame: Any, task: Task) -> Any:
    """The rows with what is added, as Spark will compute them.

    Raises:
        DataError: if a column is missing, or of a type that it cannot be.
    """
    from pyspark.sql.pandas.types import from_arrow_type, to_arrow_schema
    from pyspark.sql.types import StructField, StructType

    schema = _restored(to_arrow_schema(frame.schema), task.unsigned)
    nothing = pa.RecordBatchReader.from_batches(schema, iter(()))
    written = score_rows(scorer, nothing, now=task.now, explain=task.explain, name=_NAME).schema
    added = [StructField(field.name, from_arrow_type(field.type)) for field in list(written)[len(schema) :]]
    log = scorer.manifest.log
    together = [name for name in (scorer.manifest.user_column, log.request) if name and name in schema.names]
    # Without ids of requests, all rows of a user are looked through: spellings of one time may be unlike.
    order = [name for name in dict.fromkeys([*together, log.time.column]) if name in schema.names]
    whole = frame.repartition(*map(_column, together)).sortWithinPartitions(*map(_column, order))
    named = tuple(name for name in dict.fromkeys([*order, scorer.manifest.item_column]) if name in schema.names)
    return whole.mapInArrow(partial(_scored, task, named), StructType([*frame.schema.fields, *added]))


def _column(name: str) -> Any:
    from pyspark.sql import functions

    return functions.col("`" + name.replace("`", "``") + "`")


def _scored(task: Task, named: Sequence[str], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows of a partition, which holds whole requests, with what is added; messages name rows by some columns."""
    first = next(batches, None)
    if first is None:
        return
    seen = deque[tuple[int, pa.RecordBatch]](maxlen=_AT_HAND)
    schema = _restored(first.schema, task.unsigned)

    def read() -> Iterator[pa.RecordBatch]:
        begin = 0
        for batch in chain([first], batches):
            seen.append((begin, batch))
            begin += batch.num_rows
            yield from pa.Table.from_batches([batch]).cast(schema).to_batches()

    try:
        scorer, histories = _opened(task)
        rows = pa.RecordBatchReader.from_batches(schema, read())
        scored = score_rows(
            scorer, rows, histories=histories, now=task.now, explain=task.explain, name=_NAME, threads=1
        )
        kinds = pa.schema([*first.schema, *list(scored.schema)[len(schema) :]])
        for batch in scored:
            yield from pa.Table.from_batches([batch]).cast(kinds).to_batches()
    except UserError as error:
        raise DataError(_located(str(error), named, seen)) from error


@lru_cache(maxsize=1)
def _opened(task: Task) -> tuple[Scorer, Histories | None]:
    """The scorer and the histories of a process, which stay open until the next run's."""
    scorer = Scorer(fetched(task.export))
    if task.store is not None:
        store = open_existing(task.store, scorer.rules)
        scorer.use(store)
        return scorer, StoredHistories(scorer, store)
    return scorer, None if task.events is None else events_of(scorer, task.events)


def _restored(schema: pa.Schema, unsigned: tuple[str, ...]) -> pa.Schema:
    return pa.schema([field.with_type(pa.uint64()) if field.name in unsigned else field for field in schema])


def _located(sentence: str, named: Sequence[str], seen: Iterable[tuple[int, pa.RecordBatch]]) -> str:
    """The sentence with rows by what they hold: their places among those of an executor tell nobody anything."""

    def row(place: int) -> str:
        for begin, batch in seen:
            if begin <= place < begin + batch.num_rows:
                held = (f"{name} {batch[name][place - begin].as_py()}" for name in named)
                return f"the row of {', '.join(held)}"
        return "a row"

    def rows(found: re.Match[str]) -> str:
        return " and ".join(row(int(number) - 1) for number in re.findall(r"\d+", found[0]))

    return re.sub(r"\brows? \d+(?: and \d+)?", rows, sentence)


@contextmanager
def _explained(requests: "AnyPath") -> Iterator[None]:
    """Turn what Spark says into the sentence of the executor that failed, or into one."""
    from musenet.engines.spark import errors_of_executors, told_by_executors

    try:
        with errors_of_executors():
            yield
    except UserError:
        raise
    except Exception as error:
        if not type(error).__module__.startswith(("pyspark", "py4j")):
            raise
        told = told_by_executors(error)
        said = ": ".join(told[-1]) if told else one_line(error)
        raise DataError(
            f"Spark cannot score {requests} ({said}): its executors need musenet, and to see the same folders"
        ) from error
