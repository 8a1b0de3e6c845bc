"""Scores of tables of any length: a row is a candidate, consecutive rows of one request are scored together.

Shapes: R requests, N candidates, K scenarios.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from musenet.dataset.codes import distinct_rows
from musenet.errors import DataError
from musenet.serving.prediction.columns import Places
from musenet.serving.prediction.histories import Histories, NoHistories, OwnHistories
from musenet.serving.prediction.layout import HISTORY, Layout, Requests
from musenet.serving.prediction.tables import ROWS_AT_ONCE
from musenet.serving.scorer.runtime import Arrays
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.values import Value

SCORE = "score"


def score_rows(
    scorer: Scorer,
    rows: pa.RecordBatchReader | pa.Table,
    *,
    histories: Histories | None = None,
    now: float | None = None,
    explain: bool = False,
    name: str = "the rows",
    begun: set[tuple[Value, ...]] | None = None,
    threads: int | None = None,
) -> pa.RecordBatchReader:
    """The same rows in the same order with all their columns, and `score`, P(click), beside them.

    Rows are read, scored on all cores and handed on a few thousand at once. Columns bear the log's own names:
    `scorer.manifest.log` says which is the time and which the request. A column `history` (lists of structs with item,
    kind, time in seconds, and the columns of events) holds what a request brings of its past.

    Args:
        scorer: an opened export.
        rows: a row per candidate.
        histories: what is known of the users' past, such as `EventHistories` or `StoredHistories`.
        now: seconds since 1970: when all rows are shown, where they have no times.
        explain: also the request's likeliest scenario and its name, how sure that is, and the probability of each, in
            columns that are called as those of `musenet scenarios`.
        name: of the rows, for messages.
        begun: the requests of other rows, where these are the next file of many; those of these rows are added, if the
            model compares a request's candidates with each other.
        threads: that score at once; as many as there are cores, if None.

    Raises:
        DataError: naming row and column, if the columns or a value cannot be used; of a value, while rows are read.
    """
    reader = rows.to_reader() if isinstance(rows, pa.Table) else rows
    layout = Layout(scorer, reader.schema, now, name)
    scoring = Scoring(
        scorer, layout, histories or NoHistories(scorer), explain, set() if begun is None else begun, threads
    )
    return pa.RecordBatchReader.from_batches(layout.written(scoring.columns), scoring.scored(reader))


class Scoring:
    """Goes through rows, whole requests at once, on all cores; arguments as of `score_rows`."""

    def __init__(
        self,
        scorer: Scorer,
        layout: Layout,
        histories: Histories,
        explain: bool,
        begun: set[tuple[Value, ...]],
        threads: int | None = None,
    ) -> None:
        self._threads = threads or (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )
        self.scorer, self.layout, self._histories, self._begun = scorer, layout, histories, begun
        if HISTORY in layout.schema.names:
            with layout.explained():
                self._histories = OwnHistories(scorer, layout.schema.field(HISTORY).type, histories)
        self._graph = scorer.runtime.many
        scenarios = scorer.manifest.scenarios if explain else None
        self.columns = {SCORE: pa.float64()}
        """What is added to the rows."""
        if scenarios is not None:
            names: Sequence[str | None] = scorer.manifest.scenario_names or [None] * scenarios
            self._scenario_names = pa.array(names, pa.string())
            self.columns |= {"scenario": pa.int32(), "scenario_name": pa.string(), "confidence": pa.float64()}
            self.columns |= {f"probability_{k}": pa.float64() for k in range(scenarios)}

    def scored(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        """The rows with what is added; each thread scores a piece, and one waits."""
        with ThreadPoolExecutor(self._threads, thread_name_prefix="scoring") as pool:
            pending: deque[Future[pa.Table]] = deque()
            first = 0
            try:
                for table in self._whole_requests(reader):
                    self.layout.check_together(table, first, self._begun)
                    pending.append(pool.submit(self.answer, table, first))
                    first += table.num_rows
                    if len(pending) > self._threads:
                        yield from pending.popleft().result().to_batches()
                while pending:
                    yield from pending.popleft().result().to_batches()
            finally:
                for waiting in pending:
                    waiting.cancel()

    def _whole_requests(self, reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
        """Pieces of about `ROWS_AT_ONCE` rows, no request of which is cut."""
        waiting: list[pa.Table] = []
        first = 0
        for batch in reader:
            waiting.append(pa.Table.from_batches([batch]))
            while sum(map(len, waiting)) > ROWS_AT_ONCE:
                table = pa.concat_tables(waiting).combine_chunks()
                head = table.slice(0, ROWS_AT_ONCE + 1)
                cut = self.layout.last_begin(head, first)
                while not cut and len(head) < len(table):  # one request so far
                    head = table.slice(0, 2 * len(head))
                    cut = self.layout.last_begin(head, first)
                if not cut:
                    waiting = [table]
                    break
                yield table.slice(0, cut)
                first += cut
                waiting = [table.slice(cut)]
        if sum(map(len, waiting)):
            yield pa.concat_tables(waiting).combine_chunks()

    def found(self, table: pa.Table, first: int) -> tuple[Requests, Arrays, dict[str, NDArray[Any]]]:
        """The requests of a piece, what the graph was given, and what it gave; `first` is how many rows came before."""
        layout = self.layout
        with layout.explained():
            requests = layout.requests(table, first)
            inputs = self._inputs(requests)
            found = self._graph(inputs)
        finite = np.isfinite(found["logit"])
        if not finite.all():
            raise DataError(
                f"{layout.name}: row {first + int(np.argmin(finite)) + 1} has no score: a number of it is too large"
            )
        return requests, inputs, found

    def answer(self, table: pa.Table, first: int) -> pa.Table:
        """A piece with what is added."""
        requests, _, found = self.found(table, first)
        added = {SCORE: 1 / (1 + np.exp(-self.scorer.corrected(found["logit"].astype(np.float64))))}
        if len(self.columns) > 1:
            share = shares(found["log_assignment"], requests.asked.of, len(requests.sizes))[requests.asked.of]
            likeliest = share.argmax(1)
            added |= {"scenario": likeliest.astype(np.int32), "confidence": share.max(1)}
            added["scenario_name"] = self._scenario_names.take(pa.array(likeliest))
            added |= {f"probability_{k}": column for k, column in enumerate(share.T)}
        columns = [*table.columns, *(pa.array(added[name], kind) for name, kind in self.columns.items())]
        return pa.Table.from_arrays(columns, schema=self.layout.written(self.columns))

    def _inputs(self, requests: Requests) -> Arrays:
        """Of the graph, by name; see `many_requests.INPUTS_OF_MANY`."""
        past = self._histories.of(requests.asked)
        numbers, offset = self.scorer.numbers, np.concatenate([[0], np.cumsum(requests.sizes)])
        rows, codes = distinct_rows([requests.request.codes, requests.candidate.codes, past.codes])
        return {
            "values": self.scorer.embeddings.take(rows, axis=0, mode="clip"),
            "request_codes": codes[0],
            "candidate_codes": codes[1],
            "history_codes": codes[2],
            "history_lengths": past.lengths,
            "request_dense": numbers.of_requests(requests.request.dense),
            "candidate_dense": numbers.of_candidates(requests.candidate.dense, past.repeats, offset),
            "repeat_features": past.repeats,
            "predefined_scenario": requests.predefined,
            "request": requests.asked.of,
        }


def shares(log_assignment: NDArray[np.float32], of: Places, requests: int) -> NDArray[np.float64]:
    """(R, K) each scenario's share in a request; the mean over its candidates, where these have shares of their own."""
    share = np.exp(log_assignment.astype(np.float64))
    if len(share) == requests:
        return share
    begins = np.searchsorted(of, np.arange(requests))
    sums: NDArray[np.float64] = np.add.reduceat(share, begins)
    return sums / np.diff(begins, append=len(of))[:, None]
