"""Gathers the columns of given requests into a batch."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from musenet.dataset.batch import Batch, schema_of
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import FIRST_VALUE, UNSEEN, Field, FieldSide
from musenet.dataset.repeat_features import repeat_features

WHOLE = (0, 1)
"""The first of one part."""


def _ranges(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concatenated ranges [begin_i, end_i) and the offset at which each begins in the result."""
    lengths = end - begin
    offset = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offset[1:])
    return np.arange(offset[-1]) + np.repeat(begin - offset[:-1], lengths), offset


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
    """

    def __init__(self, dataset: Dataset, *, unseen_rate: float = 0.0, fixed_positions: bool = True) -> None:
        self.dataset = dataset
        self.schema = schema_of(dataset)
        self.unseen_rate = unseen_rate
        self.fixed_positions = fixed_positions
        self._offset = np.asarray(dataset.column("requests/candidate_offset"))
        self._event_offset = np.asarray(dataset.column("events/offset"))

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
        column = self.dataset.column
        unseen = None
        sizes = self._offset[requests + 1] - self._offset[requests]
        own = part_of(sizes, part)
        if random is not None and self.unseen_rate:
            unseen = UnseenIds(random, self.unseen_rate, sizes, own)
        requests = requests[own]
        candidates, offset = _ranges(self._offset[requests], self._offset[requests + 1])
        users, items = column("requests/user")[requests], column("candidates/item")[candidates]
        events, history_offset = self._history(requests, users)
        sources = {"user": users, "context": requests, "item": items, "candidate": candidates, "history": events}
        blocks = [
            self._codes(fields, sources, unseen)
            for fields in (self.schema.request_fields, self.schema.candidate_fields, self.schema.history_fields)
        ]
        rows, positions = distinct_rows(blocks)
        indices = [torch.from_numpy(block) for block in positions]
        indicator, statistics, fraction = self._repeats(requests, candidates)
        return Batch(
            rows=torch.from_numpy(rows),
            request_codes=indices[0],
            candidate_codes=indices[1],
            history_codes=indices[2],
            history_offset=torch.from_numpy(history_offset),
            request_dense=self._dense(self.schema.request_dense, sources, len(requests)),
            candidate_dense=self._dense(self.schema.candidate_dense, sources, len(candidates)),
            request=torch.from_numpy(np.repeat(np.arange(len(requests)), np.diff(offset))),
            repeat_indicator=torch.from_numpy(indicator),
            repeat_features=torch.from_numpy(statistics),
            repeat_fraction=torch.from_numpy(fraction),
            label=torch.from_numpy(column("candidates/label")[candidates].astype(np.float32)),
            weight=self._optional("candidates/weight", candidates, np.float32),
            predefined_scenario=self._optional("requests/predefined_scenario", requests, np.int64),
            true_scenario=self._optional("requests/true_scenario", requests, np.int64),
            request_index=torch.from_numpy(requests),
        )

    def _history(self, requests: np.ndarray, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        end = self.dataset.column("requests/history_end")[requests].astype(np.int64)
        begin = np.maximum(self._event_offset[users], end - self.dataset.manifest.history_length)
        return _ranges(begin, end)

    def _codes(self, fields: tuple[Field, ...], sources: dict[str, np.ndarray], unseen: UnseenIds | None) -> np.ndarray:
        """(rows, sum of widths) global rows of the embedding table."""
        columns = []
        for field in fields:
            codes = self.dataset.column(f"{_folder(field)}/{field.name}")[sources[field.side]].astype(np.int64)
            if field.is_position and self.fixed_positions:
                codes = np.full_like(codes, FIRST_VALUE)
            if field.is_id and unseen is not None and field.side != "history":
                codes[unseen.draw(field.side)] = UNSEEN
            rows = np.where(codes > 0, codes + self.dataset.embedding_offset[field.vocabulary or field.name], 0)
            columns.append(rows if rows.ndim == 2 else rows[:, None])
        if not columns:
            return np.zeros((0, 0), dtype=np.int64)
        return np.concatenate(columns, axis=1)

    def _dense(self, fields: tuple[Field, ...], sources: dict[str, np.ndarray], count: int) -> Tensor:
        out = np.empty((count, len(fields)), dtype=np.float32)
        for place, field in enumerate(fields):
            out[:, place] = self.dataset.column(f"{_folder(field)}/{field.name}")[sources[field.side]]
        return torch.from_numpy(out)

    def _repeats(self, requests: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not self.schema.has_repeats:
            none = np.zeros(len(candidates), dtype=np.float32)
            unknown = np.full(len(requests), np.nan, dtype=np.float32)
            return none.astype(bool), repeat_features(none, none, none), unknown
        indicator, count, recency = (
            self.dataset.column(f"candidates/repeat_{name}")[candidates] for name in ("indicator", "count", "recency")
        )
        fraction = self.dataset.column("requests/repeat_fraction")[requests].astype(np.float32)
        return indicator.astype(bool), repeat_features(indicator, count, recency), fraction

    def _optional(self, path: str, rows: np.ndarray, dtype: Any) -> Tensor | None:
        return torch.from_numpy(self.dataset.column(path)[rows].astype(dtype)) if self.dataset.has(path) else None


_FOLDERS = {"user": "users", "item": "items", "context": "requests", "candidate": "candidates", "history": "events"}


def _folder(field: Field) -> str:
    return _FOLDERS[field.side]


def distinct_rows(blocks: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The distinct rows in order of first use, padding first, and each block as positions in them."""
    flat = np.concatenate([np.zeros(1, dtype=np.int64), *(block.ravel() for block in blocks)])
    encoded = pa.array(flat).dictionary_encode()
    positions = encoded.indices.to_numpy().astype(np.int64)[1:]
    sizes = np.cumsum([block.size for block in blocks])[:-1]
    pieces = np.split(positions, sizes)
    indices = [piece.reshape(block.shape) for piece, block in zip(pieces, blocks, strict=True)]
    return encoded.dictionary.to_numpy().copy(), indices
