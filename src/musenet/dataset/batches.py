"""Requests and their candidates as tensors: the one shape of training, evaluation and serving.

Shapes: R requests, N candidates, T history events of all requests together, U distinct embedding rows.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from musenet.ahead import ahead
from musenet.dataset.dataset import FIRST_VALUE, UNSEEN, Dataset, Field, FieldSide, Split

SECONDS_PER_DAY = 86400.0
REPEAT_FEATURES = 3
PREFETCHED = 4
WHOLE = (0, 1)
"""The first of one part."""
PLANNED_AT_ONCE = 500_000
"""Requests whose batches are decided in one piece."""
SHARE_SEED = 20
"""Decides which requests a share holds; no experiment's seed does, so that all models and seeds see the same ones."""


@dataclass(frozen=True)
class Schema:
    """The columns of a batch, in order; all that a model needs to know of a dataset."""

    request_fields: tuple[Field, ...]
    """User and context fields with codes."""
    candidate_fields: tuple[Field, ...]
    """Item and candidate fields with codes."""
    history_fields: tuple[Field, ...]
    request_dense: tuple[Field, ...]
    candidate_dense: tuple[Field, ...]
    embedding_rows: int
    has_repeats: bool
    predefined_scenarios: int | None
    true_scenarios: int | None


@dataclass(frozen=True)
class Batch:
    """Requests with their candidates.

    Code tensors hold positions in `rows`, the distinct rows of the embedding table that the batch uses; a multi-valued
    field takes `width` columns. Position 0 is padding.
    """

    rows: Tensor
    """(U,) rows of the embedding table; rows[0] = 0, padding."""
    request_codes: Tensor
    """(R, sum of widths of request_fields)."""
    candidate_codes: Tensor
    """(N, sum of widths of candidate_fields)."""
    history_codes: Tensor
    """(T, history_fields): the events of the first request, oldest first, then the second's, …"""
    history_offset: Tensor
    """(R + 1,) where each request's events begin in history_codes."""
    request_dense: Tensor
    """(R, request_dense)."""
    candidate_dense: Tensor
    """(N, candidate_dense)."""
    request: Tensor
    """(N,) which request of the batch a candidate belongs to, ascending."""
    repeat_indicator: Tensor
    """(N,) bool, I[t in B_u] of Eq 9."""
    repeat_features: Tensor
    """(N, 3): indicator, log(1 + count), log(1 + days since the last) or 0 if never or not known."""
    repeat_fraction: Tensor
    """(R,) r_i of Eq 10; NaN without events."""
    label: Tensor
    """(N,) float 0 or 1."""
    weight: Tensor | None
    """(N,) importance of each impression."""
    predefined_scenario: Tensor | None
    """(R,) code."""
    true_scenario: Tensor | None
    """(R,) code; -1 unknown. Read by evaluation and the diagnostic `assignment: true` alone."""
    request_index: Tensor
    """(R,) rows of the dataset's requests."""

    @property
    def requests(self) -> int:
        """R."""
        return self.request_codes.shape[0]

    @property
    def candidates(self) -> int:
        """N."""
        return self.request.shape[0]

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> "Batch":
        """The same batch on another device, or with its numbers of another precision."""
        if device.type == "cpu" and dtype == torch.float32:
            return self
        moved: dict[str, Any] = {
            name: value.to(device, dtype if value.is_floating_point() else value.dtype, non_blocking=True)
            if isinstance(value, Tensor)
            else value
            for name, value in self.__dict__.items()
        }
        return Batch(**moved)


def schema_of(dataset: Dataset) -> Schema:
    """The schema of a dataset's batches."""

    def pick(dense: bool, *sides: Any) -> tuple[Field, ...]:
        return tuple(field for field in dataset.fields(*sides) if (field.kind == "dense") == dense)

    manifest = dataset.manifest
    return Schema(
        request_fields=pick(False, "user", "context"),
        candidate_fields=pick(False, "item", "candidate"),
        history_fields=pick(False, "history"),
        request_dense=pick(True, "user", "context"),
        candidate_dense=pick(True, "item", "candidate"),
        embedding_rows=dataset.embedding_rows,
        has_repeats=manifest.has_repeats,
        predefined_scenarios=None if manifest.predefined_scenarios is None else len(manifest.predefined_scenarios),
        true_scenarios=manifest.true_scenarios,
    )


def _ranges(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concatenated ranges [begin_i, end_i) and the offset at which each begins in the result."""
    lengths = end - begin
    offset = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offset[1:])
    return np.arange(offset[-1]) + np.repeat(begin - offset[:-1], lengths), offset


def repeat_features(indicator: np.ndarray, count: np.ndarray, recency: np.ndarray) -> np.ndarray:
    """What a model sees of repeats: (N, 3) indicator, log(1 + count), log(1 + days since the last), 0 if never."""
    days = np.where(np.isfinite(recency), recency, 0.0) / SECONDS_PER_DAY
    return np.stack([indicator, np.log1p(count), np.log1p(days)], axis=1).astype(np.float32)


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


def _sizes_of(offset: np.ndarray) -> np.ndarray:
    """(requests,) how many candidates each has, in the smallest type that holds them."""
    blocks = [offset[begin : begin + PLANNED_AT_ONCE + 1] for begin in range(0, len(offset) - 1, PLANNED_AT_ONCE)]
    kind = np.min_scalar_type(max((int(np.diff(block).max()) for block in blocks), default=0))
    sizes = np.empty(len(offset) - 1, dtype=kind)
    for place, block in enumerate(blocks):
        begin = place * PLANNED_AT_ONCE
        sizes[begin : begin + len(block) - 1] = np.diff(block)
    return sizes


def _share_of(count: int, share: float) -> np.ndarray:
    """Places of a share of `count` rows, ascending, at least one of them; all in a larger share's too."""
    order = np.random.default_rng(SHARE_SEED).permutation(count)
    return np.sort(order[: max(1, round(count * share))]).astype(np.int32)


class Batches:
    """The batches of one split: whole requests until `batch_size` candidates are reached.

    The order is decided by `seed` and the epoch alone, so that training can resume at any step.

    Args:
        dataset: an opened dataset.
        split: which period.
        batch_size: candidates per batch; the last request may go beyond it.
        shuffle_seed: shuffles requests anew in every epoch and trains the unseen rows; in the dataset's order if None.
        unseen_rate: share of ids that training replaces by the unseen row.
        share: of the period's requests that is used: the same ones whatever the seed, and all of a smaller share's.
        part: which of how many parts of every batch is built; the lengths and plans are those of whole batches.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split,
        batch_size: int,
        *,
        shuffle_seed: int | None = None,
        unseen_rate: float = 0.01,
        share: float = 1.0,
        part: tuple[int, int] = WHOLE,
    ) -> None:
        period = dataset.manifest.splits[split]
        self.batch_size = batch_size
        self.seed = shuffle_seed
        self.part = part
        training = shuffle_seed is not None
        self.builder = BatchBuilder(dataset, unseen_rate=unseen_rate if training else 0.0, fixed_positions=not training)
        offset = dataset.column("requests/candidate_offset")
        # What a log's length decides is kept small: a log may have many millions of requests.
        self._begin = np.int32(period.begin)
        self._chosen = None if share >= 1 else _share_of(period.end - period.begin, share)
        self._sizes = _sizes_of(offset[period.begin : period.end + 1])
        if self._chosen is not None:
            self._sizes = self._sizes[self._chosen]
        self._impressions = int(self._sizes.sum(dtype=np.int64))

    def __len__(self) -> int:
        """Batches per epoch, the same for every epoch."""
        return min(math.ceil(self._impressions / self.batch_size), len(self._sizes))

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The requests of each batch of an epoch."""
        order = np.arange(len(self._sizes), dtype=np.int32)
        if self.seed is not None:
            np.random.default_rng([self.seed, epoch]).shuffle(order)
        begins = self._begins_of_batches(order)
        requests = order if self._chosen is None else self._chosen[order]
        requests += self._begin
        if len(begins) + 1 < len(self):  # requests larger than a batch leave gaps
            return np.array_split(requests, len(self))
        return np.split(requests, begins)

    def _begins_of_batches(self, order: np.ndarray) -> np.ndarray:
        """Places in the order where all batches but the first begin."""
        begins, before, last = [], 0, 0
        for begin in range(0, len(order), PLANNED_AT_ONCE):
            sizes = self._sizes[order[begin : begin + PLANNED_AT_ONCE]].astype(np.int64)
            until = before + np.cumsum(sizes)
            batch = (until - sizes) * len(self) // max(self._impressions, 1)
            begins.append(begin + np.flatnonzero(np.diff(batch, prepend=last)))
            before, last = int(until[-1]), int(batch[-1])
        return np.concatenate(begins) if begins else np.zeros(0, dtype=np.int64)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `start` on, built in a thread beside the consumer."""
        plan = list(enumerate(self.plan(epoch)))[start:]

        def build(entry: tuple[int, np.ndarray]) -> Batch:
            step, requests = entry
            random = None if self.seed is None else np.random.default_rng([self.seed, epoch, step])
            return self.builder.build(requests.astype(np.int64), random, part=self.part)

        return ahead(map(build, plan), PREFETCHED)
