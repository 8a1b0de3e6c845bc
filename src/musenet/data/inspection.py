"""Measures a dataset that has just been encoded, for `checks.py` to judge and show."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
from numpy.typing import NDArray

from musenet.data.checks import OWN_EVENT_SECONDS, FeatureCheck, OwnEvents, PeriodCheck
from musenet.data.dataset import MISSING, UNSEEN, Field, Period, Split
from musenet.data.engine import Engine, join
from musenet.data.fields import FOLDERS
from musenet.data.histories import COUNT, Before, before
from musenet.data.requests import ITEM_ROW, REQUEST_ROW, USER_ROW
from musenet.data.tables import ITEM, LABEL, MICROSECONDS, TIME
from musenet.metrics import auc

FloatArray = NDArray[np.float64]
TRAINING_ROWS, VALIDATION_ROWS = 1_000_000, 200_000
BUCKETS = 64
PRIOR = 20.0
"""Click rates of rare values are drawn towards the overall one, as if it had been seen so often."""


class Inspector:
    """Columns of a dataset as its impressions see them.

    Args:
        folder: of the dataset, all columns written.
        splits: its periods.
        has_repeats: whether candidates have repeat statistics.
    """

    def __init__(self, folder: Path, splits: Mapping[Split, Period], has_repeats: bool) -> None:
        self._folder = folder
        self._splits = splits
        self._offset = self._load("requests/candidate_offset")
        self._label = self._load("candidates/label")
        self._request = np.repeat(np.arange(len(self._offset) - 1), np.diff(self._offset))
        self._repeats = self._load("candidates/repeat_indicator") if has_repeats else None
        self._later = np.arange(self._begin("valid"), len(self._label))
        random = np.random.default_rng(0)
        self._train = _sample(random, 0, self._begin("valid"), TRAINING_ROWS)
        self._valid = _sample(random, self._begin("valid"), self._begin("test"), VALIDATION_ROWS)

    def feature(self, field: Field, missing: float | None) -> FeatureCheck:
        """Missing and unseen shares of a field, and its AUC alone.

        Args:
            field: not of the history, see `history`.
            missing: share of impressions that lack a dense field's value, which the column does not tell.
        """
        values = self._load(f"{FOLDERS[field.side]}/{field.name}")
        name = field.column or field.name
        if field.kind == "dense":
            return FeatureCheck(feature=name, side=field.side, missing=missing or 0.0, auc=self._alone(field, values))
        first = values if values.ndim == 1 else values[:, 0]
        lacking = float(np.mean(first[self._rows(field, np.arange(len(self._label)))] == MISSING))
        later = values[self._rows(field, self._later)]
        known = later[(later != MISSING) & (later > 0)]
        unseen = float(np.mean(known == UNSEEN)) if known.size else None
        if field.is_bucketed:
            unseen = None
        return FeatureCheck(
            feature=name, side=field.side, missing=lacking, unseen=unseen, auc=self._alone(field, values)
        )

    def history(self, field: Field, valid_from: int) -> FeatureCheck:
        """Missing share of a history column in all events, unseen share of events after training."""
        values = self._load(f"events/{field.name}")
        first = values if values.ndim == 1 else values[:, 0]
        later = values[self._load("events/time") >= valid_from]
        known = later[(later != MISSING) & (later > 0)]
        return FeatureCheck(
            feature=field.column or field.name,
            side="history",
            missing=float(np.mean(first == MISSING)) if len(first) else 0.0,
            unseen=float(np.mean(known == UNSEEN)) if known.size else None,
        )

    def repeat_auc(self) -> float | None:
        """AUC of the repeat indicator alone on validation."""
        return None if self._repeats is None else self._auc_of_codes(self._repeats, self._train, self._valid)

    def period(self, split: Split) -> PeriodCheck:
        """Sizes, click rate and repeats of a split."""
        period = self._splits[split]
        requests = slice(period.begin, period.end)
        shown = slice(int(self._offset[period.begin]), int(self._offset[period.end]))
        sizes = np.diff(self._offset[period.begin : period.end + 1])
        label, user = self._label[shown], self._load("requests/user")[requests]
        repeats = None if self._repeats is None else self._repeats[shown]
        trained = np.zeros(int(self._load("requests/user").max()) + 1, dtype=bool)
        trained[self._load("requests/user")[: self._splits["train"].end]] = True
        lengths = self._load("requests/history_end")[requests] - self._load("events/offset")[user]
        return PeriodCheck(
            split=split,
            first_time=period.first_time,
            last_time=period.last_time,
            requests=period.end - period.begin,
            impressions=period.impressions,
            positives=period.positives,
            users=len(np.unique(user)),
            request_size_mean=float(sizes.mean()),
            request_size_min=int(sizes.min()),
            request_size_median=float(np.median(sizes)),
            request_size_max=int(sizes.max()),
            repeat_share=None if repeats is None else float(repeats.mean()),
            repeat_share_of_positives=None if repeats is None else float(repeats[label == 1].mean()),
            unseen_users=float(np.sum(sizes[~trained[user]]) / np.sum(sizes)),
            empty_histories=float(np.mean(lengths == 0)),
        )

    def _begin(self, split: Split) -> int:
        return int(self._offset[self._splits[split].begin])

    def _load(self, path: str) -> NDArray[Any]:
        column: NDArray[Any] = np.load(self._folder / f"{path}.npy", mmap_mode="r")
        return column

    def _rows(self, field: Field, candidates: NDArray[Any]) -> NDArray[Any]:
        """The rows of a field's column that these impressions see."""
        if field.side == "candidate":
            return candidates
        if field.side == "item":
            return np.asarray(self._load("candidates/item")[candidates])
        requests = self._request[candidates]
        return requests if field.side == "context" else np.asarray(self._load("requests/user")[requests])

    def _alone(self, field: Field, values: NDArray[Any]) -> float | None:
        train, valid = self._rows(field, self._train), self._rows(field, self._valid)
        if field.kind == "dense":
            edges = np.unique(np.quantile(values[train], np.linspace(0, 1, BUCKETS + 1)[1:-1]))
            values = np.searchsorted(edges, values, side="right")
        return self._auc_of_codes(values, train, valid)

    def _auc_of_codes(self, values: NDArray[Any], train: NDArray[Any], valid: NDArray[Any]) -> float | None:
        """AUC on validation of each value's click rate in training; of their mean where a row has several."""
        label = self._label[self._train].astype(np.float64)
        codes = values[train].reshape(len(train), -1)
        clicked = np.repeat(label, codes.shape[1])
        size = int(values.max()) + 1 if values.size else 1
        count = np.bincount(codes.ravel(), minlength=size)
        rate = (np.bincount(codes.ravel(), weights=clicked, minlength=size) + PRIOR * label.mean()) / (count + PRIOR)
        shown = values[valid].reshape(len(valid), -1)
        there = np.ones(shown.shape) if values.ndim == 1 else shown > 0
        score = np.sum(rate[shown] * there, axis=1) / np.sum(there, axis=1)
        result = auc(self._label[self._valid], score)
        return None if np.isnan(result) else float(result)


def _sample(random: np.random.Generator, begin: int, end: int, size: int) -> NDArray[np.int64]:
    if end - begin <= size:
        return np.arange(begin, end)
    return np.sort(random.choice(end - begin, size, replace=False)) + begin


def own_events(
    engine: Engine, events: ir.Table, candidates: ir.Table, items: ir.Table, delay: float
) -> OwnEvents | None:
    """How often the last minute of a history holds an event of the candidate's own item."""
    if ITEM not in events.columns:
        return None
    by = [USER_ROW, ITEM]
    counts = events.filter(events[ITEM].notnull()).group_by([*by, TIME]).aggregate(**{COUNT: ibis._.count()})
    asked = join(
        candidates.select(REQUEST_ROW, ITEM_ROW, USER_ROW, TIME, LABEL), items.select(ITEM, ITEM_ROW), [ITEM_ROW]
    )
    known = Before.of(delay)
    span = Before(known.delay, known.delay + OWN_EVENT_SECONDS * MICROSECONDS)
    relevant = asked.semi_join(counts.select(by).distinct(), by)
    found = before(counts, relevant, by, [REQUEST_ROW, ITEM_ROW, LABEL], [COUNT], span)
    found = found.filter(found[COUNT] > 0)
    hits = engine.row(found.aggregate(rows=found.count(), positives=found[LABEL].sum()))
    totals = engine.row(candidates.aggregate(rows=candidates.count(), positives=candidates[LABEL].sum()))
    hit_positives, positives = int(str(hits["positives"] or 0)), int(str(totals["positives"]))
    hit, rows = int(str(hits["rows"])), int(str(totals["rows"]))
    return OwnEvents(
        of_positives=hit_positives / positives,
        of_negatives=(hit - hit_positives) / max(rows - positives, 1),
    )
