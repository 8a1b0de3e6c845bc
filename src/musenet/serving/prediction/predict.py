"""Scores for whole files and folders, in bounded memory."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from musenet.errors import DataError, LogWarning
from musenet.files import full_disk_explained
from musenet.frames import Frame, rows_of, with_columns
from musenet.serving.prediction.histories import EventHistories, Histories
from musenet.serving.prediction.layout import HISTORY
from musenet.serving.prediction.scoring import score_rows
from musenet.serving.prediction.tables import TableFiles, check_ending, writing
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.values import Value
from musenet.sources.files.paths import folder_values

if TYPE_CHECKING:
    from musenet.sources.log import AnyPath

Progress = Callable[[int, int], None]


def predict_files(
    scorer: Scorer,
    requests: "AnyPath",
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
        requests: a file, see `score_rows` for the columns; a folder or a pattern of files, or a URL. A request lies in
            one file.
        out: the file to write; of several files the folder, whose files get the names that those read have, and
            columns from the names of their folders only where these are left out.
        histories: as of `score_rows`.
        now: as of `score_rows`.
        explain: as of `score_rows`.
        progress: told of the rows done and in all, where the files say how many they have.

    Raises:
        DataError: naming file, row and column, if a file cannot be read or a value cannot be used.
    """
    files = files_of(scorer, "requests", requests)
    targets = files.targets(out)
    for target in targets:
        check_ending(target)
    done, begun = 0, set[tuple[Value, ...]]()
    with full_disk_explained(out.parent):
        for file, target in zip(files.paths, targets, strict=True):
            opened = files.open(file)
            scored = score_rows(
                scorer, opened.reader, histories=histories, now=now, explain=explain, name=str(file), begun=begun
            )
            before = done
            repeated = {name for name, _ in opened.said.items() & folder_values(target).items()}
            kept = [name for name in scored.schema.names if name not in repeated]
            with writing(target, pa.schema([scored.schema.field(name) for name in kept])) as write:
                for batch in scored:
                    write(batch.select(kept))
                    done += batch.num_rows
                    if progress is not None and opened.rows is not None:
                        progress(done, before + opened.rows)
                if not done and file == files.paths[-1]:
                    raise DataError(f"{requests} holds no rows: give a row for every candidate")
    return done


def files_of(scorer: Scorer, name: str, written: "AnyPath") -> TableFiles:
    """The files of a table; warns of columns that the model reads and some of them lack."""
    files = TableFiles(name, written)
    read = {*scorer.context_columns, *scorer.candidate_columns, *scorer.manifest.event_columns, HISTORY}
    for column in sorted(read & files.lacking.keys()):
        said = f"{files.lacking[column]} lacks the column '{column}' of other files: it is missing there"
        warnings.warn(said, LogWarning, stacklevel=2)
    return files


def events_of(scorer: Scorer, events: "AnyPath | Frame") -> EventHistories:
    """The events of a frame or of files, under the log's own names; raises `DataError` as these do."""
    if isinstance(events, Frame):
        return EventHistories(scorer, rows_of(events, "the events"), "the events")
    files = files_of(scorer, "events", events)
    return EventHistories(scorer, ((str(path), files.open(path).reader) for path in files.paths))


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


def lacks_histories(scorer: Scorer, requests: "AnyPath | Frame") -> str | None:
    """What to say before requests are scored as of users without a past; None if that makes no difference."""
    if not scorer.sees_histories:
        return None
    if isinstance(requests, Frame):
        names = set(rows_of(requests, "the frame").schema.names)
    else:
        files = TableFiles("requests", requests)
        names = files.fields.keys() - files.lacking.keys()
    if HISTORY in names:
        return None
    return (
        f"no histories are given, but {scorer.version} was trained with them: every user is scored as one without a "
        "past; give the log's `events` or a history `store`"
    )
