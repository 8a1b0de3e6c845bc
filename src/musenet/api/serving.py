"""Calls on an export and on history stores."""

import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from musenet.errors import ConfigError, DataError, NoHistoriesWarning, UserError
from musenet.frames import Frame, as_kind, kind_of
from musenet.storage.addresses import here, is_url, url_of
from musenet.storage.copies import fetched, result_at

if TYPE_CHECKING:
    from musenet.config.adaptation import AdaptOptions
    from musenet.serving.drift.drift import Drift
    from musenet.serving.export.filling import Filling
    from musenet.serving.prediction.histories import Histories
    from musenet.serving.scorer.scorer import Scorer
    from musenet.serving.store.history import BulkHistoryStore
    from musenet.sources.log import AnyPath

_NOT_BOTH = "histories come from --events or from --store, not from both: leave one out"


def predict(  # noqa: PLR0913 - one per option
    folder: "AnyPath",
    requests: "AnyPath",
    out: "AnyPath",
    *,
    events: "AnyPath | Frame | None" = None,
    store: "BulkHistoryStore | str | None" = None,
    now: str | float | None = None,
    explain: bool = False,
    engine: Literal["spark"] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Score every row of files by an export, on all cores and in bounded memory; the number of rows.

    Args:
        folder: what `export` wrote, or its address in a bucket.
        requests: files as `prepare` reads them (a file, a folder, a pattern, a URL; Parquet, CSV or JSON lines): a row
            per candidate under the log's own names, see docs/serving.md.
        out: the file to write (Parquet or CSV), or of several files the folder: the same rows with all their columns,
            and `score`.
        events: what users did before, as the log has it: a frame, or such files.
        store: keeps users' histories: an open one, a file's path, or an URL of Valkey or Redis.
        now: when all rows are shown, where they have no times: seconds since 1970, ISO 8601 with an offset, or `now`.
        explain: also each request's likeliest scenario, how sure that is, and the probability of each.
        engine: `spark` scores on its executors, which read histories themselves: from files of events, or from a store
            by its address. `out` is a new folder of Parquet files then, whose rows are in no order.
        progress: told of the rows done and in all, where the files say how many they have.

    Warns, before anything is scored, if histories would make a difference and none are given.
    """
    from musenet.serving.prediction.predict import predict_files
    from musenet.serving.prediction.tables import TableFiles
    from musenet.serving.scorer.scorer import Scorer

    export, when = fetched(folder), _moment(now)
    for name, read in (("requests", requests), ("events", events)):
        if read is not None and not isinstance(read, Frame):
            _refuse_in_bucket(name, read, out)
    with result_at(out) as target:
        if events is not None and not isinstance(events, Frame):
            TableFiles("events", events).targets(target)  # refuses to write scores over them
        if engine == "spark":
            return _predict_on_spark(export, requests, target, events, store, when, explain)
        scorer = Scorer(export)
        with histories_of(scorer, requests, events, store) as histories:
            return predict_files(
                scorer, requests, target, histories=histories, now=when, explain=explain, progress=progress
            )


def _refuse_in_bucket(name: str, read: "AnyPath", out: "AnyPath") -> None:
    """Raise `DataError` if scores would go where rows are read in a bucket."""
    there, target = url_of(read), url_of(out)
    if there is None or target is None:
        return
    folder = re.split(r"/[^/]*[*?\[]", there)[0].rstrip("/")
    if f"{target}/".startswith(f"{folder}/") or f"{folder}/".startswith(f"{target.rstrip('/')}/"):
        raise DataError(f"--out {target} is where the {name} are read ({folder}): name another path")


def _predict_on_spark(
    folder: Path,
    requests: "AnyPath",
    out: Path,
    events: "AnyPath | Frame | None",
    store: "BulkHistoryStore | str | None",
    now: float | None,
    explain: bool,
) -> int:
    from musenet.serving.prediction.on_spark import predict_on_spark
    from musenet.serving.scorer.scorer import Scorer

    if isinstance(events, Frame) or not isinstance(store, str | None):
        raise UserError("Spark's executors read histories themselves: name files of events, or a store's address")
    if events is not None and store is not None:
        raise UserError(_NOT_BOTH)
    if events is None and store is None:
        _warn_of_none(Scorer(folder), requests)
    said = None if events is None else str(events) if is_url(str(events)) else str(Path(events).absolute())
    return predict_on_spark(folder, requests, out, events=said, store=store, now=now, explain=explain)


def predict_frame(
    scorer: "Scorer",
    requests: Frame,
    *,
    events: "AnyPath | Frame | None" = None,
    store: "BulkHistoryStore | str | None" = None,
    now: str | float | None = None,
    explain: bool = False,
) -> Any:
    """A frame with the rows of `requests` and `score`, of the same kind; all else as of `predict`."""
    from musenet.serving.prediction.predict import score_frame

    kind = kind_of(requests)
    # What Arrow and DuckDB hold may be rows that come but once, or in another order the next time.
    held: Frame = pa.table(requests) if kind in ("arrow", "duckdb") else requests
    with histories_of(scorer, held, events, store) as histories:
        found = score_frame(scorer, held, histories=histories, now=_moment(now), explain=explain)
    return as_kind(found, kind) if kind == "duckdb" else found


def drift(
    folder: "AnyPath",
    log: "AnyPath",
    *,
    events: "AnyPath | Frame | None" = None,
    store: "BulkHistoryStore | str | None" = None,
    out: "AnyPath | None" = None,
    overrides: Sequence[str] = (),
) -> "Drift":
    """Whether a log still is what an export's model was trained on, and which of columns, mix and taste moved.

    Args:
        folder: what `export` wrote.
        log: impressions with labels under the log's own names, in files as of `predict`.
        events: as of `predict`, and so is `store`.
        store: see there.
        out: a page to write, `.html`; needs the extra `report`.
        overrides: thresholds, as `drift.stability=0.1`; those of the export's configuration if left out.

    Warns, before anything is scored, if histories would make a difference and none are given.

    Raises:
        ExportError: if the export says nothing of the periods that it comes from.
        DataError: naming file, row and column, if the log cannot be read.
    """
    from musenet.serving.drift.drift import drift as compare
    from musenet.serving.drift.page import check_page, write_page
    from musenet.serving.drift.thresholds import thresholds
    from musenet.serving.scorer.scorer import Scorer

    page = None if out is None else here(out)
    if page is not None:
        check_page(page)
    scorer = Scorer(fetched(folder))
    options = thresholds(scorer, overrides)
    with histories_of(scorer, log, events, store) as histories:
        found = compare(scorer, log, histories, options)
    if page is not None:
        write_page(found, page)
    return found


def _moment(now: str | float | None) -> float | None:
    from musenet.serving.scorer.messages import seconds_of

    if isinstance(now, str):
        return time.time() if now == "now" else seconds_of(now, "--now")
    return now


@contextmanager
def histories_of(
    scorer: "Scorer",
    requests: "AnyPath | Frame",
    events: "AnyPath | Frame | None",
    store: "BulkHistoryStore | str | None",
) -> Iterator["Histories | None"]:
    """What is known of the users' past, of events or in a store; warns if nothing is and it would make a difference."""
    from musenet.serving.prediction.predict import events_of
    from musenet.serving.prediction.stored import StoredHistories
    from musenet.serving.store.opening import open_existing

    if events is not None and store is not None:
        raise UserError(_NOT_BOTH)
    with ExitStack() as opened:
        if isinstance(store, str | os.PathLike):
            store = opened.enter_context(open_existing(os.fspath(store), scorer.rules))
        if store is not None:
            scorer.use(store)
            yield StoredHistories(scorer, store)
        elif events is not None:
            yield events_of(scorer, events)
        else:
            _warn_of_none(scorer, requests)
            yield None


def _warn_of_none(scorer: "Scorer", requests: "AnyPath | Frame") -> None:
    from musenet.serving.prediction.predict import lacks_histories

    if said := lacks_histories(scorer, requests):
        warnings.warn(said, NoHistoriesWarning, stacklevel=5)


def load_history(
    run: "AnyPath",
    store: str,
    *,
    until: str | None = None,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> "Filling":
    """Load a history store with the events of the log that a run was trained on; what it brought.

    Args:
        run: a trained run; its log must be where it was.
        store: a file's path, or an URL of Valkey or Redis; it goes on where an earlier filling ended.
        until: ISO 8601 with an offset; events from this time on are left out.
        progress: told how many events of how many are in.
    """
    from musenet.runs.run import Run
    from musenet.serving.export.filling import fill_store
    from musenet.serving.scorer.messages import seconds_of
    from musenet.serving.store.history import microseconds
    from musenet.serving.store.opening import open_store
    from musenet.serving.store.rules import HistoryRules
    from musenet.sources.registry import open_source

    experiment = Run.open(fetched(run)).experiment
    end = None if until is None else microseconds(seconds_of(until, "--until"))
    with open_store(store, HistoryRules(experiment.history, experiment.repeat)) as opened:
        source = open_source(experiment.data, experiment.recipe)
        return fill_store(opened, source, experiment.recipe, end, progress)


fill = load_history
"""The old name of `load_history`."""


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


def serve(
    folder: "AnyPath",
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    store: str = "history.sqlite",
    token_file: "AnyPath | None" = None,
    retention: float | None = None,
    adapt: "AdaptOptions | Mapping[str, Any] | bool" = False,
) -> None:
    """Score, keep histories and show why, over HTTP, until told to stop (docs/serving.md).

    Args:
        folder: what `export` wrote.
        host: where to listen; elsewhere than here, a token is needed.
        port: where to listen; any free one if 0.
        store: a file's path, or an URL of Valkey or Redis.
        token_file: holds the bearer token; `$MUSENET_TOKEN` if None.
        retention: forget what a user did not do again for so many seconds; never if None.
        adapt: follow the mix of scenarios by the answers to what was shown: true, or how.

    Raises:
        UserError: if the export, the store, the token or the port cannot be used, or the extra `serve` is missing.
        ConfigError: if `adapt` is no way to follow the mix.
    """
    from musenet.config.adaptation import adapt_options
    from musenet.serving.http.server import serve as run_server

    options = adapt_options(adapt)
    if options is not None and (options.finetune is not None or options.intercept):
        raise ConfigError("adapt: a service follows the mix of scenarios alone: leave finetune and intercept out")
    token = None if token_file is None else Path(token_file)
    run_server(fetched(folder), host, port, store, token, retention, options)


def backup(store: str, out: "AnyPath") -> None:
    """Copy a history store while it is in use; the copy is a store itself.

    Args:
        store: a file's path; Valkey and Redis write copies of their own.
        out: the file to write.
    """
    from musenet.serving.store.opening import open_store

    with open_store(store, None) as opened:
        opened.backup(here(out))
