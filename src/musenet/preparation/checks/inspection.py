"""Measures a dataset that has just been encoded, for `checks.py` to judge and show."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
from numpy.typing import NDArray

from musenet.dataset.column_files import blocks
from musenet.dataset.dataset import Views
from musenet.dataset.layout import relation_folder
from musenet.dataset.manifest import MISSING, UNSEEN, Field, Period, Split
from musenet.dataset.roles import ITEM, LABEL, MICROSECONDS, TIME
from musenet.engines.engine import Engine, join
from musenet.metrics import auc
from musenet.preparation.checks.checks import OWN_EVENT_SECONDS, FeatureCheck, OwnEvents, PeriodCheck, feature_name
from musenet.preparation.relations.histories import COUNT, before
from musenet.preparation.relations.requests import ITEM_ROW, REQUEST_ROW, USER_ROW
from musenet.recipe.history import Before

FloatArray = NDArray[np.float64]
SAMPLED_ROWS = 200_000
"""Impressions of training, and of validation, that columns are measured by, at most."""
BLOCK = 1 << 17
"""Impressions looked at together: several columns are measured at once, whose blocks all take memory."""
BUCKETS = 64
PRIOR = 20.0
"""Click rates of rare values are drawn towards the overall one, as if it had been seen so often."""


class Inspector:
    """Columns of a dataset as its impressions see them, a block of impressions at a time.

    Args:
        folder: of the dataset, all columns written.
        splits: its periods.
    """

    def __init__(self, folder: Path, splits: Mapping[Split, Period]) -> None:
        self._folder = folder
        self._splits = splits
        self._views = Views(folder)
        self._offset = self._views.requests.candidate_offset
        self._label = self._views.candidates.label
        self._repeats = self._views.candidates.repeat_indicator
        random = np.random.default_rng(0)
        self._train = self._shown(sample(random, 0, self._begin("valid")))
        self._valid = self._shown(sample(random, self._begin("valid"), self._begin("test")))

    def feature(self, field: Field, missing: float | None) -> FeatureCheck:
        """Missing and unseen shares of a field, and its AUC alone.

        Args:
            field: not of the history, see `history`.
            missing: share of impressions that lack a dense field's value or a vector, which the column does not tell.
        """
        values = self._views.column(field)
        name = feature_name(field)
        if field.kind == "vector":  # no order tells what a vector is worth alone
            return FeatureCheck(feature=name, side=field.side, missing=missing or 0.0)
        if field.kind == "dense":
            return FeatureCheck(feature=name, side=field.side, missing=missing or 0.0, auc=self._alone(field, values))
        shares, later = _Shares(), self._begin("valid")
        for begin in range(0, len(self._label), BLOCK):
            block = values[self._rows(field, self._block(begin, min(begin + BLOCK, len(self._label))))]
            shares.add(block, block[max(0, later - begin) :])
        return FeatureCheck(
            feature=name,
            side=field.side,
            missing=shares.missing,
            unseen=None if field.is_bucketed else shares.unseen,
            auc=self._alone(field, values),
        )

    def history(self, field: Field, valid_from: int) -> FeatureCheck:
        """Missing share of a history column in all events, unseen share of events after training."""
        shares = _Shares()
        columns = (blocks(relation_folder(self._folder, "history"), name) for name in (field.name, "time"))
        for (_, block), (_, time) in zip(*columns, strict=True):
            shares.add(block, block[time >= valid_from])
        return FeatureCheck(feature=feature_name(field), side="history", missing=shares.missing, unseen=shares.unseen)

    def repeat_auc(self) -> float | None:
        """AUC of the repeat indicator alone on validation."""
        if self._repeats is None:
            return None
        return self._auc_of_codes(*(self._repeats[shown.candidate] for shown in (self._train, self._valid)))

    def period(self, split: Split) -> PeriodCheck:
        """Sizes, click rate and repeats of a split."""
        period = self._splits[split]
        requests, events = period.end - period.begin, self._views.events.offset
        trained = self._seen(0, self._splits["train"].end, len(events) - 1)
        sizes = np.zeros(1, dtype=np.int64)
        unseen = empty = repeats = repeated_positives = 0
        for begin in range(period.begin, period.end, BLOCK):
            end = min(begin + BLOCK, period.end)
            size, user = np.diff(self._offset[begin : end + 1]), self._views.requests.user[begin:end]
            found = np.bincount(size)
            sizes = np.pad(sizes, (0, max(0, len(found) - len(sizes))))
            sizes[: len(found)] += found
            unseen += int(np.sum(size[~trained[user]]))
            empty += int(np.sum(self._views.requests.history_end[begin:end] == events[user]))
            if self._repeats is not None:
                shown = self._views.candidates_between(begin, end)
                repeats += int(np.sum(self._repeats[shown], dtype=np.int64))
                repeated_positives += int(np.sum(self._repeats[shown][self._label[shown] == 1], dtype=np.int64))
        return PeriodCheck(
            split=split,
            first_time=period.first_time,
            last_time=period.last_time,
            requests=requests,
            impressions=period.impressions,
            positives=period.positives,
            users=int(self._seen(period.begin, period.end, len(events) - 1).sum()),
            request_size_mean=period.impressions / requests,
            request_size_min=int(np.flatnonzero(sizes)[0]),
            request_size_median=_median(sizes),
            request_size_max=len(sizes) - 1,
            repeat_share=None if self._repeats is None else repeats / period.impressions,
            repeat_share_of_positives=None if self._repeats is None else repeated_positives / period.positives,
            unseen_users=unseen / period.impressions,
            empty_histories=empty / requests,
        )

    def _seen(self, begin: int, end: int, users: int) -> NDArray[np.bool_]:
        """(U) which users have requests among these."""
        seen = np.zeros(users, dtype=bool)
        for _, user in blocks(relation_folder(self._folder, "context"), "user", begin, end):
            seen[user] = True
        return seen

    def _begin(self, split: Split) -> int:
        return int(self._offset[self._splits[split].begin])

    def _shown(self, candidate: NDArray[np.int64]) -> "_Shown":
        return _Shown(candidate, np.searchsorted(self._offset, candidate, side="right") - 1)

    def _block(self, begin: int, end: int) -> "_Shown":
        """The impressions from `begin` to before `end`; their requests are not searched for one by one."""
        first, last = (int(place) for place in np.searchsorted(self._offset, [begin, end - 1], side="right"))
        bounds = np.clip(self._offset[first - 1 : last + 1], begin, end)
        return _Shown(np.arange(begin, end), np.repeat(np.arange(first - 1, last), np.diff(bounds)))

    def _rows(self, field: Field, shown: "_Shown") -> NDArray[Any]:
        """The rows of a field's column that these impressions see."""
        return self._views.rows_of(field.side, shown.request, shown.candidate)

    def _alone(self, field: Field, values: NDArray[Any]) -> float | None:
        train, valid = (values[self._rows(field, shown)] for shown in (self._train, self._valid))
        if field.kind == "dense":
            edges = np.unique(np.quantile(train, np.linspace(0, 1, BUCKETS + 1)[1:-1]))
            train, valid = (np.searchsorted(edges, values, side="right") for values in (train, valid))
        return self._auc_of_codes(train, valid)

    def _auc_of_codes(self, train: NDArray[Any], valid: NDArray[Any]) -> float | None:
        """AUC on validation of each value's click rate in training; of their mean where a row has several."""
        label = self._label[self._train.candidate].astype(np.float64)
        codes, shown = (values.reshape(len(values), -1) for values in (train, valid))
        clicked = np.repeat(label, codes.shape[1])
        size = int(max(codes.max(initial=0), shown.max(initial=0))) + 1
        count = np.bincount(codes.ravel(), minlength=size)
        rate = (np.bincount(codes.ravel(), weights=clicked, minlength=size) + PRIOR * label.mean()) / (count + PRIOR)
        there = np.ones(shown.shape) if valid.ndim == 1 else shown > 0
        score = np.sum(rate[shown] * there, axis=1) / np.sum(there, axis=1)
        result = auc(self._label[self._valid.candidate], score)
        return None if np.isnan(result) else float(result)


@dataclass(frozen=True)
class _Shown:
    """Some impressions: their rows among the candidates, and their requests."""

    candidate: NDArray[np.int64]
    request: NDArray[np.int64]


@dataclass
class _Shares:
    """Of codes: those missing among all rows, those unseen among the later values."""

    _missing: int = 0
    _rows: int = 0
    _unseen: int = 0
    _known: int = 0

    def add(self, block: NDArray[Any], later: NDArray[Any]) -> None:
        first = block if block.ndim == 1 else block[:, 0]
        known = later[(later != MISSING) & (later > 0)]
        self._missing += int(np.sum(first == MISSING))
        self._rows += len(first)
        self._unseen += int(np.sum(known == UNSEEN))
        self._known += known.size

    @property
    def missing(self) -> float:
        return self._missing / self._rows if self._rows else 0.0

    @property
    def unseen(self) -> float | None:
        return self._unseen / self._known if self._known else None


def _median(counts: NDArray[np.int64]) -> float:
    """Of numbers, of each of which there are so many."""
    below = np.cumsum(counts)
    middle = [int(np.searchsorted(below, place, side="right")) for place in ((below[-1] - 1) // 2, below[-1] // 2)]
    return sum(middle) / 2


def sample(random: np.random.Generator, begin: int, end: int) -> NDArray[np.int64]:
    """All rows, or one of each of so many stretches: drawing without replacement takes memory for all of them."""
    if end - begin <= SAMPLED_ROWS:
        return np.arange(begin, end)
    bounds = np.linspace(begin, end, SAMPLED_ROWS + 1).astype(np.int64)
    return random.integers(bounds[:-1], bounds[1:])


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
