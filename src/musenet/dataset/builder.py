"""Gathers the columns of given requests into a batch."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musenet.dataset.batch import Batch, relative_of, schema_of
from musenet.dataset.codes import distinct_rows
from musenet.dataset.dataset import Dataset
from musenet.dataset.inputs.repeat_features import repeat_features
from musenet.dataset.manifest import FIRST_VALUE, UNSEEN, Field, FieldSide, table_rows

Sources = dict[FieldSide, np.ndarray]
"""The rows that fields of each side have."""
SHOWN_SIDES: tuple[FieldSide, ...] = ("user", "context", "item", "candidate")
WHOLE = (0, 1)
"""The first of one part."""


def part_of(sizes: np.ndarray, part: tuple[int, int]) -> slice:
    """Which requests of a batch are a part of it: those whose first candidate lies in its share of the candidates.

    Args:
        sizes: (R,) candidates of each request.
        part: which of how many.
    """
    which, of = part
    owner = np.minimum((np.cumsum(sizes) - sizes) * of // max(int(sizes.sum()), 1), of - 1)
    begin, end = np.searchsorted(owner, [which, which + 1])
    return slice(int(begin), int(end))


class UnseenIds:
    """Which ids of a batch train the unseen row; the same for a row, whatever part of the batch it is in.

    Args:
        random: draws them.
        rate: how many of all.
        sizes: (R,) candidates of each request of the whole batch.
        own: the requests that are asked about.
    """

    def __init__(self, random: np.random.Generator, rate: float, sizes: np.ndarray, own: slice) -> None:
        self._random, self._rate = random, rate
        offset = np.concatenate([[0], np.cumsum(sizes)])
        self._requests = (len(sizes), own)
        self._candidates = (offset[-1], slice(offset[own.start], offset[own.stop]))

    def draw(self, side: FieldSide) -> np.ndarray:
        """(rows,) bool for the rows of a field of this side."""
        count, own = self._requests if side in ("user", "context") else self._candidates
        return self._random.random(count)[own] < self._rate


class BatchBuilder:
    """Gathers the columns of given requests from a dataset into a batch.

    Args:
        dataset: an opened dataset.
        unseen_rate: share of id codes that training sends to the unseen row, so that it is trained.
        fixed_positions: show every candidate at the position most frequent in training, as scoring does.
        pinned: build batches to be copied to a CUDA card.
    """

    def __init__(
        self, dataset: Dataset, *, unseen_rate: float = 0.0, fixed_positions: bool = True, pinned: bool = False
    ) -> None:
        self.dataset = dataset
        self.schema = schema_of(dataset)
        self._relative = relative_of(dataset.manifest)
        self.unseen_rate = unseen_rate
        self.fixed_positions = fixed_positions
        self.pinned = pinned

    def build(
        self, requests: np.ndarray, random: np.random.Generator | None = None, *, part: tuple[int, int] = WHOLE
    ) -> Batch:
        """The batch of these requests, in this order.

        Args:
            requests: (R,) rows of the dataset's requests.
            random: draws the ids that are sent to the unseen row; none are, if left out.
            part: which of how many parts of the requests the batch is to hold. Parts have about as many candidates
                each, and draw for theirs what the whole batch would; one of few requests may be empty.
        """
        dataset, unseen = self.dataset, None
        sizes = dataset.sizes_of(requests)
        own = part_of(sizes, part)
        if random is not None and self.unseen_rate:
            unseen = UnseenIds(random, self.unseen_rate, sizes, own)
        requests = requests[own]
        candidates, offset = dataset.candidates_of(requests)
        events, history_offset = dataset.history_of(requests)
        sources: Sources = {side: dataset.rows_of(side, requests, candidates) for side in SHOWN_SIDES}
        sources["history"] = events
        blocks = [
            self._codes(self.schema.request_fields, sources, len(requests), unseen),
            self._codes(self.schema.candidate_fields, sources, len(candidates), unseen),
            self._codes(self.schema.history_fields, sources, len(events), unseen),
        ]
        rows, positions = distinct_rows(blocks)
        indices = [torch.from_numpy(block) for block in positions]
        indicator, statistics, fraction = self._repeats(requests, candidates)
        dense = self._dense(("item", "candidate"), sources, len(candidates))
        if self._relative is not None:
            dense = self._relative.append(dense, statistics, offset)
        batch = Batch(
            rows=torch.from_numpy(rows),
            request_codes=indices[0],
            candidate_codes=indices[1],
            history_codes=indices[2],
            history_offset=torch.from_numpy(history_offset),
            request_dense=torch.from_numpy(self._dense(("user", "context"), sources, len(requests))),
            candidate_dense=torch.from_numpy(dense),
            request_vectors=self._vectors(self.schema.request_vectors, sources, len(requests)),
            candidate_vectors=self._vectors(self.schema.candidate_vectors, sources, len(candidates)),
            request=torch.from_numpy(np.repeat(np.arange(len(requests)), np.diff(offset))),
            repeat_indicator=torch.from_numpy(indicator),
            repeat_features=torch.from_numpy(statistics),
            repeat_fraction=torch.from_numpy(fraction),
            label=torch.from_numpy(dataset.candidates.label[candidates].astype(np.float32)),
            weight=_optional(dataset.candidates.weight, candidates, np.float32),
            predefined_scenario=_optional(dataset.requests.predefined_scenario, requests, np.int64),
            true_scenario=_optional(dataset.requests.true_scenario, requests, np.int64),
            request_index=torch.from_numpy(requests),
        )
        return batch.pinned() if self.pinned else batch

    def _codes(self, fields: tuple[Field, ...], sources: Sources, count: int, unseen: UnseenIds | None) -> np.ndarray:
        """(rows, sum of widths) global rows of the embedding table."""
        columns = [np.zeros((count, 0), dtype=np.int64)]
        for field in fields:
            codes = self.dataset.values(field, sources[field.side]).astype(np.int64)
            if field.is_position and self.fixed_positions:
                codes = np.full_like(codes, FIRST_VALUE)
            if field.is_id and unseen is not None and field.side != "history":
                codes[unseen.draw(field.side)] = UNSEEN
            rows = table_rows(codes, self.dataset.embedding_offset[field.vocabulary_name])
            columns.append(rows if rows.ndim == 2 else rows[:, None])
        return np.concatenate(columns, axis=1)

    def _dense(self, sides: tuple[FieldSide, ...], sources: Sources, count: int) -> NDArray[np.float32]:
        fields = [field for field in self.dataset.fields(*sides) if field.kind == "dense"]
        out = np.empty((count, len(fields)), dtype=np.float32)
        for place, field in enumerate(fields):
            out[:, place] = self.dataset.values(field, sources[field.side])
        return out

    def _vectors(self, fields: tuple[Field, ...], sources: Sources, count: int) -> Tensor:
        """(rows, sum of widths); of what lies on disk, those rows alone are read."""
        rows = [self.dataset.values(field, sources[field.side]) for field in fields]
        return torch.from_numpy(np.concatenate([np.zeros((count, 0), dtype=np.float32), *rows], axis=1))

    def _repeats(self, requests: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not self.schema.has_repeats:
            none = np.zeros(len(candidates), dtype=np.float32)
            unknown = np.full(len(requests), np.nan, dtype=np.float32)
            return none.astype(bool), repeat_features(none, none, none), unknown
        shown, fraction = self.dataset.candidates, self.dataset.requests.repeat_fraction
        columns = (shown.repeat_indicator, shown.repeat_count, shown.repeat_recency)
        indicator, count, recency = (column[candidates] for column in columns if column is not None)
        assert fraction is not None
        return indicator.astype(bool), repeat_features(indicator, count, recency), fraction[requests].astype(np.float32)


def _optional(column: np.ndarray | None, rows: np.ndarray, dtype: Any) -> Tensor | None:
    return None if column is None else torch.from_numpy(column[rows].astype(dtype))
