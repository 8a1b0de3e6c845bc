"""Calls on an export and on history stores."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from musenet.runs.run import Run
from musenet.serving.scorer.predict import predict_file
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.store.history import HistoryStore
from musenet.sources.log import AnyPath
from musenet.sources.registry import open_source

if TYPE_CHECKING:
    from musenet.serving.export.filling import Filling


def predict(
    folder: AnyPath,
    requests: AnyPath,
    out: AnyPath,
    *,
    store: HistoryStore | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Score every row of a Parquet file by an export, Parquet to Parquet in bounded memory; the number of rows.

    Args:
        folder: what `export` wrote.
        requests: a row per candidate, see docs/serving.md for the columns.
        out: the file to write: the rows' ids and `score`, in the order of the rows.
        store: keeps users' histories; without one, the file brings them.
        progress: told of the rows done and in all.
    """
    return predict_file(Scorer(Path(folder), store=store), Path(requests), Path(out), progress)


def fill(
    run: AnyPath,
    store: str,
    *,
    until: str | None = None,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> "Filling":
    """Fill a history store with the events of the log that a run was trained on; what it brought.

    Args:
        run: a trained run; its log must be where it was.
        store: a file's path, or an URL of Valkey or Redis; it goes on where an earlier filling ended.
        until: ISO 8601 with an offset; events from this time on are left out.
        progress: told how many events of how many are in.
    """
    from musenet.serving.export.filling import fill_store
    from musenet.serving.export.log_marks import log_marks
    from musenet.serving.scorer.messages import seconds_of
    from musenet.serving.store.history import microseconds
    from musenet.serving.store.opening import open_store
    from musenet.serving.store.rules import HistoryRules

    opened_run = Run.open(Path(run))
    experiment = opened_run.experiment
    end = None if until is None else microseconds(seconds_of(until, "--until"))
    rules = HistoryRules(experiment.history, experiment.repeat, frozenset(log_marks(opened_run.dataset)))
    with open_store(store, rules) as opened:
        source = open_source(experiment.data, experiment.recipe)
        return fill_store(opened, source, experiment.recipe, end, progress)


def forget(store: str, user: str) -> bool:
    """Remove all that a history store knows of a user; whether there was anything.

    Args:
        store: a file's path, or an URL of Valkey or Redis.
        user: the user's id, as the log has it; a number that the store does not know as it is written, such as `12.0`,
            is known in its one form, `12`.
    """
    from musenet.dataset.texts import SPACES, TRUTHS, number_text
    from musenet.serving.store.opening import open_store

    plain = user.strip(SPACES)
    spellings = [user, plain, *([] if plain.lower() in TRUTHS else [number_text(plain, "whole")])]
    with open_store(store, None) as opened:
        return any(opened.forget(spelling) for spelling in dict.fromkeys(spellings))


def backup(store: str, out: AnyPath) -> None:
    """Copy a history store while it is in use; the copy is a store itself.

    Args:
        store: a file's path; Valkey and Redis write copies of their own.
        out: the file to write.
    """
    from musenet.serving.store.opening import open_store

    with open_store(store, None) as opened:
        opened.backup(Path(out))
