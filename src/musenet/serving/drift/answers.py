"""Reading a log of answered impressions through an export: what the model says of them, and what their columns hold."""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from musenet.errors import DataError
from musenet.models.musenet.adaptation import believed
from musenet.serving.drift.moves import Answered
from musenet.serving.drift.stability import Column
from musenet.serving.prediction.columns import listed, listed_values, plain, spread
from musenet.serving.prediction.histories import Histories, NoHistories
from musenet.serving.prediction.layout import Layout
from musenet.serving.prediction.predict import files_of
from musenet.serving.prediction.scoring import Scoring, shares
from musenet.serving.scorer.encoder import Distinct
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.values import text_of_value

if TYPE_CHECKING:
    from musenet.sources.log import AnyPath

LABEL = "label"
"""What the column of labels is called where the export does not say."""


@dataclass(frozen=True, eq=False)
class LogAnswers:
    """A log by the model's own answers, in the order of its rows."""

    answered: Answered
    time: NDArray[np.int64]
    """(R,) microseconds."""
    logit: NDArray[np.float64]
    """(N,) recalibrated, as validation's."""
    bins: list[NDArray[np.int64]]
    """How many rows lie in each bin, by column."""
    unseen: list[tuple[int, int]]
    """How many values are unseen ones, of how many, by column."""


def answers_of(scorer: Scorer, log: "AnyPath", columns: list[Column], histories: Histories | None) -> LogAnswers:
    """What an export's model says of every impression of a log, see `predict_files` for its files.

    Raises:
        DataError: naming file, row and column, if one is missing or a value cannot be used.
    """
    label = scorer.manifest.log.shown_label or LABEL
    tally, tables = Tally(columns), []
    files = files_of(scorer, "log", log)
    for file in files.paths:
        opened = files.open(file)
        if label not in opened.reader.schema.names:
            raise DataError(
                f"{file} lacks the column '{label}', which says what was clicked; it has "
                f"{listed(opened.reader.schema.names)}"
            )
        layout = Layout(scorer, opened.reader.schema, None, str(file))
        reading = _Reading(scorer, layout, histories or NoHistories(scorer), True, set())
        reading.label, reading.tally = label, tally
        for batch in reading.scored(opened.reader):
            tables.append(pa.Table.from_batches([batch]))
    if not sum(map(len, tables)):
        raise DataError(f"{log} holds no rows: give a log of impressions with labels")
    return _together(pa.concat_tables(tables), tally)


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
    tally: Tally

    def answer(self, table: pa.Table, first: int) -> pa.Table:
        """A row per candidate: its user, request, time, label, logit, and by scenario its logit and share."""
        requests, inputs, found = self.found(table, first)
        raw = found["logit"].astype(np.float64)
        calibration = self.scorer.manifest.calibration
        logit = raw if calibration is None else calibration(raw)
        of = requests.asked.of
        scenario_logit, share = logit[:, None], np.ones((len(requests.sizes), 1))
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
        users = requests.asked.users
        answers = {
            "user": spread(Distinct(users.values, users.places[of]), pa.string()),
            "begins": pa.array(np.diff(of, prepend=-1) > 0),
            "time": pa.array(requests.asked.when[of]),
            "label": pa.array(self._labels(table, first)),
            "logit": pa.array(logit),
        }
        for k in range(scenario_logit.shape[1]):
            answers |= {f"logit_{k}": pa.array(scenario_logit[:, k]), f"share_{k}": pa.array(share[of, k])}
        return pa.table(answers)

    def _labels(self, table: pa.Table, first: int) -> NDArray[np.float64]:
        """(N,) 0 or 1, as preparation reads them; raises `DataError` for none."""
        told = Distinct.of(plain(table[self.label]))
        positives = self.scorer.manifest.log.positives
        texts = [text_of_value(value) for value in listed_values(told)]
        known = ("1", "true") if positives is None else positives
        wrong = [text is None or (positives is None and text not in ("0", "1", "true", "false")) for text in texts]
        wrong_rows = np.array(wrong, dtype=bool)[told.places]
        if wrong_rows.any():
            place = int(wrong_rows.argmax())
            held = texts[told.places[place]]
            raise DataError(
                f"{self.layout.name}: row {first + place + 1}: column '{self.label}' "
                f"{'is empty' if held is None else f'holds {held}'}; a label is 0 or 1"
            )
        return np.array([float(text in known) for text in texts])[told.places]


def _together(table: pa.Table, tally: Tally) -> LogAnswers:
    begin = np.flatnonzero(table["begins"].to_numpy())
    names = [name for name in table.column_names if name.startswith("share_")]
    share = np.stack([table[name].to_numpy()[begin] for name in names], axis=1)
    users = table["user"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    scenario_logit = np.stack([table[name.replace("share", "logit")].to_numpy() for name in names], axis=1)
    return LogAnswers(
        answered=Answered(
            log_assignment=believed(share),
            scenario_logit=scenario_logit,
            label=table["label"].to_numpy(),
            sizes=np.diff(begin, append=len(table)),
            user=users[begin].astype(np.int64),
        ),
        time=table["time"].to_numpy()[begin],
        logit=table["logit"].to_numpy(),
        bins=tally.bins,
        unseen=tally.unseen,
    )
