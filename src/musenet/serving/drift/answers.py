"""Reading a log of answered impressions through an export: what the model says of them, and what their columns hold."""

import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from musenet.errors import DataError, LogWarning
from musenet.evaluation.predictions import Predictions
from musenet.models.musenet.adaptation import believed
from musenet.serving.drift.moves import Answered
from musenet.serving.drift.stability import Column
from musenet.serving.prediction.columns import first_rows, labels_of, listed, plain, spread, texts_of
from musenet.serving.prediction.histories import Histories, NoHistories
from musenet.serving.prediction.layout import Layout
from musenet.serving.prediction.predict import files_of
from musenet.serving.prediction.scoring import Scoring, shares
from musenet.serving.prediction.tables import ROWS_AT_ONCE, TableFiles
from musenet.serving.scorer.encoder import Distinct
from musenet.serving.scorer.entities import Entities
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.values import Value, numbers_of_texts

if TYPE_CHECKING:
    from musenet.sources.log import AnyPath

LABEL = "label"
"""What the column of labels is called where the export does not say."""


@dataclass(frozen=True, eq=False)
class LogAnswers:
    """A log by the model's own answers, a request's candidates after one another."""

    answered: Answered
    predictions: Predictions
    """The same as evaluations take it, recalibrated as validation's are. Users and items of the export have its rows'
    numbers, all others follow."""
    time: NDArray[np.int64]
    """(R,) microseconds."""
    bins: list[NDArray[np.int64]]
    """How many rows lie in each bin, by column."""
    unseen: list[tuple[int, int]]
    """How many values are unseen ones, of how many, by column."""


def answers_of(
    scorer: Scorer,
    log: "AnyPath",
    columns: list[Column],
    histories: Histories | None,
    *,
    weight: str | None = None,
    truth: str | None = None,
) -> LogAnswers:
    """What an export's model says of every impression of a log, see `predict_files` for its files.

    As in preparation, a request's rows may lie apart, and an item shown twice in one request counts once.

    Args:
        scorer: an opened export.
        log: impressions with their labels.
        columns: to be counted.
        histories: what is known of the users' past.
        weight: the column of the impressions' importance.
        truth: a generator's column of scenarios.

    Raises:
        DataError: naming file, row and column, if one is missing or a value cannot be used.
    """
    label = scorer.manifest.log.shown_label or LABEL
    tally, tables = Tally(columns), []
    files, begun = files_of(scorer, "log", log), set[tuple[Value, ...]]()
    names = {label: "which says what was clicked"} | ({weight: "which says how much each counts"} if weight else {})
    for name, what in names.items():
        if name not in files.fields:
            raise DataError(f"{log} lacks the column '{name}', {what}; it has {listed([*files.fields])}")
    for called, rows in _in_requests(
        scorer, files, str(log), label, [*names, *([truth] if truth in files.fields else [])]
    ):
        layout = Layout(scorer, rows.schema, None, called)
        reading = _Reading(scorer, layout, histories or NoHistories(scorer), True, begun)
        reading.label, reading.weight, reading.truth, reading.tally = label, weight, truth, tally
        for batch in reading.scored(rows):
            tables.append(pa.Table.from_batches([batch]))
    if not sum(map(len, tables)):
        raise DataError(f"{log} holds no rows: give a log of impressions with labels")
    return _together(scorer, pa.concat_tables(tables), tally)


def _in_requests(
    scorer: Scorer, files: TableFiles, log: str, label: str, more: list[str]
) -> Iterator[tuple[str, pa.RecordBatchReader]]:
    """The rows of all files, each part with its name: as they are, unless a request's lie apart or an item's twice.

    Args:
        scorer: an opened export.
        files: of the log.
        log: its name.
        label: its column of labels.
        more: further columns to be kept.
    """
    layout = Layout(scorer, pa.schema(list(files.fields.values())), None, log)
    manifest, looked_at = scorer.manifest, list(dict.fromkeys([*layout.read, label, *more]))
    item = manifest.item_column
    keys = {manifest.user_column, item, manifest.log.request, manifest.log.time.column, label}
    table = files.rows([name for name in looked_at if name in keys])
    request = np.zeros(len(table), dtype=np.int64)
    for key in layout.keys(table, 0) if len(table) else ():
        places = np.unique(key, return_inverse=True)[1]
        request = np.unique(request * (int(places.max()) + 1) + places, return_inverse=True)[1]
    items = Distinct.of(plain(table[item])).places
    order = np.lexsort((np.arange(len(table)), _labels(scorer, label, table) != 1, items, request))
    once = np.sort(order[first_rows([items[order], request[order]], len(table))])
    _, begin, places = np.unique(request[once], return_index=True, return_inverse=True)
    kept = once[np.argsort(begin[places], kind="stable")]
    if np.array_equal(kept, np.arange(len(table))):
        yield from ((str(path), files.open(path).reader) for path in files.paths)
        return
    if twice := len(table) - len(kept):
        warnings.warn(
            f"{log}: {twice:,} rows show an item again in one request; each counts once", LogWarning, stacklevel=2
        )
    rows = files.rows(looked_at).take(pa.array(kept))
    yield f"{log}, in order of its requests", rows.to_reader(max_chunksize=ROWS_AT_ONCE)


def _labels(scorer: Scorer, name: str, table: pa.Table) -> NDArray[np.float64]:
    return labels_of(scorer.forms, name, Distinct.of(plain(table[name])), scorer.manifest.log.positives)


class Tally:
    """Bins of all columns, filled by several threads."""

    def __init__(self, columns: list[Column]) -> None:
        self.columns, self._lock = columns, threading.Lock()
        self.bins = [np.zeros(len(one.counts), dtype=np.int64) for one in columns]
        self.unseen = [(0, 0) for _ in columns]

    def add(self, sides: dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]) -> None:
        """Count rows: by side, their codes (rows, ·) and numbers (rows, ·)."""
        for place, column in enumerate(self.columns):
            codes, numbers = sides[column.side]
            found = column.binned(codes, numbers) if column.counts else np.zeros(0, dtype=np.int64)
            unseen, values = column.unseen_in(codes) if column.edges is None else (0, 0)
            with self._lock:
                self.bins[place] += found
                before, of = self.unseen[place]
                self.unseen[place] = before + unseen, of + values


class _Reading(Scoring):
    """Gives the model's answers in place of the rows."""

    label: str
    weight: str | None
    truth: str | None
    tally: Tally

    def answer(self, table: pa.Table, first: int) -> pa.Table:
        """A row per candidate: user, item, whether a request begins, time, label, logits, and what scenarios say."""
        requests, inputs, found = self.found(table, first)
        raw = found["logit"].astype(np.float64)
        calibration = self.scorer.manifest.calibration
        logit = raw if calibration is None else calibration(raw)
        of = requests.asked.of
        scenario_logit, share = logit[:, None], np.ones((len(requests.sizes), 1))
        repeat = np.zeros((len(requests.sizes), 0))
        if "repeat_probability" in found:
            repeat = found["repeat_probability"].astype(np.float64)
        if "scenario_logit" in found and "log_assignment" in found:
            scenario_logit = found["scenario_logit"].astype(np.float64) + (logit - raw)[:, None]
            share = shares(found["log_assignment"], of, len(requests.sizes))
        manifest = self.scorer.manifest
        # Numbers of columns come first, before places in the list and what vectors are projected to.
        of_requests, of_candidates = (
            sum(field.kind == "dense" for field in manifest.fields_of(*sides))
            for sides in (("user", "context"), ("item", "candidate"))
        )
        own = [inputs["candidate_dense"][:, :of_candidates], inputs["repeat_features"][:, :1]]
        self.tally.add(
            {
                "request": (requests.request.codes, inputs["request_dense"][:, :of_requests]),
                "candidate": (requests.candidate.codes, np.concatenate(own, axis=1)),
            }
        )
        users, item = requests.asked.users, manifest.item_column
        answers = {
            "user": spread(Distinct(users.values, users.places[of]), pa.string()),
            "item": spread(texts_of(manifest.forms, item, Distinct.of(plain(table[item]))), pa.string()),
            "begins": pa.array(np.diff(of, prepend=-1) > 0),
            "time": pa.array(requests.asked.when[of]),
            "label": pa.array(self._labels(table, first)),
            "logit": pa.array(logit),
            "raw": pa.array(raw),
            "repeats": pa.array(inputs["repeat_features"][:, 0] > 0),
        }
        if self.weight is not None:
            answers["weight"] = pa.array(self._weights(table, first, self.weight))
        if self.truth is not None:
            answers["truth"] = spread(
                texts_of(manifest.forms, self.truth, Distinct.of(plain(table[self.truth]))), pa.string()
            )
        for k in range(scenario_logit.shape[1]):
            answers |= {f"logit_{k}": pa.array(scenario_logit[:, k]), f"share_{k}": pa.array(share[of, k])}
        for k in range(repeat.shape[1]):
            answers[f"repeat_{k}"] = pa.array(repeat[of, k])
        return pa.table(answers)

    def _labels(self, table: pa.Table, first: int) -> NDArray[np.float64]:
        """(N,) 0 or 1; raises `DataError` for what is no label."""
        labels = _labels(self.scorer, self.label, table)
        if (wrong := np.isnan(labels)).any():
            place = int(wrong.argmax())
            held = table[self.label][place].as_py()
            raise DataError(
                f"{self.layout.name}: row {first + place + 1}: column '{self.label}' "
                f"{'is empty' if held in (None, '') else f'holds {held}'}; a label is 0 or 1"
            )
        return labels

    def _weights(self, table: pa.Table, first: int, name: str) -> NDArray[np.float64]:
        """(N,) raises `DataError` for what is no number, or a negative one."""
        column = plain(table[name])
        if pa.types.is_string(column.type):
            column, _ = numbers_of_texts(column, self.scorer.manifest.missing_texts)
        weights = np.array(column.to_pylist(), dtype=np.float64)
        if (wrong := ~(weights >= 0)).any():
            row = first + int(wrong.argmax()) + 1
            raise DataError(f"{self.layout.name}: row {row}: column '{name}' is no number from 0 on")
        return weights


def _together(scorer: Scorer, table: pa.Table, tally: Tally) -> LogAnswers:
    begin = np.flatnonzero(table["begins"].to_numpy())
    columns = {name: table[name].to_numpy() for name in table.column_names if name not in ("user", "item", "truth")}
    share, scenario_logit, repeat = (
        np.stack([columns[name] for name in columns if name.startswith(kind)] or [np.zeros((len(table), 0))], axis=1)
        for kind in ("share_", "logit_", "repeat_")
    )
    assignment = share[begin]
    sizes = np.diff(begin, append=len(table))
    manifest = scorer.manifest
    user = _numbered(scorer.users, manifest.users + 1, table["user"])
    item = _numbered(scorer.items, manifest.items + 1, table["item"])
    truth = None
    if "truth" in table.column_names:
        told = table["truth"].combine_chunks().dictionary_encode()
        truth = told.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)[begin]
    return LogAnswers(
        answered=Answered(
            log_assignment=believed(assignment),
            scenario_logit=scenario_logit,
            label=columns["label"],
            sizes=sizes,
            user=user[begin],
        ),
        predictions=Predictions(
            request=np.repeat(np.arange(len(begin)), sizes),
            user=user,
            item=item,
            time=columns["time"],
            label=columns["label"].astype(np.int8),
            logit=columns["logit"],
            weight=columns.get("weight"),
            repeat_indicator=columns["repeats"],
            requests=np.arange(len(begin)),
            assignment=assignment if manifest.scenarios is not None else None,
            repeat_probability=repeat[begin] if repeat.shape[1] else None,
            true_scenario=truth,
            uncalibrated=columns["raw"] if manifest.calibration is not None else None,
        ),
        time=columns["time"][begin],
        bins=tally.bins,
        unseen=tally.unseen,
    )


def _numbered(known: Entities, end: int, ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """(N,) rows of the export, of ids that it does not know numbers from `end` on."""
    told = ids.combine_chunks().dictionary_encode()
    rows = known.find(told.dictionary)
    unknown = np.flatnonzero(rows == 0)
    rows[unknown] = end + np.arange(len(unknown))
    found: NDArray[np.int64] = rows[told.indices.to_numpy(zero_copy_only=False)]
    return found
