"""Scores for whole files and folders, in bounded memory."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from musenet.errors import DataError
from musenet.files import full_disk_explained
from musenet.frames import Frame, rows_of, with_columns
from musenet.serving.prediction.histories import EventHistories, Histories
from musenet.serving.prediction.layout import HISTORY
from musenet.serving.prediction.scoring import score_rows
from musenet.serving.prediction.tables import check_ending, files_of, open_table, writing
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.values import Value

Progress = Callable[[int, int], None]


def predict_files(
    scorer: Scorer,
    requests: Path,
    out: Path,
    *,
    histories: Histories | None = None,
    now: float | None = None,
    explain: bool = False,
    progress: Progress | None = None,
) -> int:
    """Score every row of a file, or of all files of a folder; the number of rows.

    Args:
        scorer: an opened export.
        requests: a Parquet or CSV file, see `score_rows` for the columns, or a folder of them. A request lies in one
            file.
        out: the file to write; of a folder the folder, whose files get the names that those read have.
        histories: as of `score_rows`.
        now: as of `score_rows`.
        explain: as of `score_rows`.
        progress: told of the rows done and in all, where the files say how many they have.

    Raises:
        DataError: naming file, row and column, if a file cannot be read or a value cannot be used.
    """
    files = files_of(requests)
    targets = [out] if requests.is_file() else [out / file.relative_to(requests) for file in files]
    for target in targets:
        check_ending(target)
    done, begun = 0, set[tuple[Value, ...]]()
    with full_disk_explained(out.parent):
        for file, target in zip(files, targets, strict=True):
            opened = open_table(file, scorer.numeric_columns, scorer.manifest.missing_texts)
            scored = score_rows(
                scorer, opened.reader, histories=histories, now=now, explain=explain, name=str(file), begun=begun
            )
            before = done
            with writing(target, scored.schema) as write:
                for batch in scored:
                    write(batch)
                    done += batch.num_rows
                    if progress is not None and opened.rows is not None:
                        progress(done, before + opened.rows)
                if done == before:
                    raise DataError(f"{file} holds no rows: give a row for every candidate")
    return done


def events_of(scorer: Scorer, path: Path | Frame) -> EventHistories:
    """The events of a frame, a file, or a folder's files, under the log's own names; raises `DataError` as these do."""
    if not isinstance(path, Path):
        return EventHistories(scorer, rows_of(path, "the events"), "the events")
    opened = [open_table(file).reader for file in files_of(path)]
    first = opened[0].schema

    def batches() -> Iterator[pa.RecordBatch]:
        for reader in opened:
            if set(first.names) - set(reader.schema.names):
                raise DataError(f"{path}: its files have other columns than the first: give each the same ones")
            yield from (batch.select(first.names).cast(first) for batch in reader)

    return EventHistories(scorer, pa.RecordBatchReader.from_batches(first, batches()), str(path))


def score_frame(
    scorer: Scorer,
    frame: Frame,
    *,
    histories: Histories | None = None,
    now: float | None = None,
    explain: bool = False,
) -> Any:
    """A frame of the same kind: its rows in their order with all their columns, and what `score_rows` adds.

    Args:
        scorer: as of `score_rows`.
        frame: a row per candidate; its rows can be read again, in the same order.
        histories: as of `score_rows`.
        now: as of `score_rows`.
        explain: as of `score_rows`.

    Raises:
        DataError: naming row and column, if it has no rows, or a column or a value cannot be used.
    """
    name = "the frame"
    rows = rows_of(frame, name)
    own = len(rows.schema)
    scored = score_rows(scorer, rows, histories=histories, now=now, explain=explain, name=name).read_all()
    if not scored.num_rows:
        raise DataError(f"{name} holds no rows: give a row for every candidate")
    return with_columns(frame, {column: scored[column] for column in scored.column_names[own:]})


def lacks_histories(scorer: Scorer, requests: Path | Frame) -> str | None:
    """What to say before requests are scored as of users without a past; None if that makes no difference."""
    if not scorer.sees_histories:
        return None
    if isinstance(requests, Path):
        readers = [open_table(file).reader for file in files_of(requests)]
    else:
        readers = [rows_of(requests, "the frame")]
    if all(HISTORY in reader.schema.names for reader in readers):
        return None
    return (
        f"no histories are given, but {scorer.version} was trained with them: every user is scored as one without a "
        "past; give the log's events (--events FILE) or a history store (--store)"
    )
