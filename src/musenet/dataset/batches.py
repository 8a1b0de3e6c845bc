"""The batches of a split: which requests each one holds, epoch by epoch, and that they are built and copied ahead."""

import math
from collections.abc import Iterator

import numpy as np
import torch

from musenet.ahead import ahead
from musenet.dataset.batch import Batch
from musenet.dataset.builder import WHOLE, BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split

PREFETCHED = 4
PLANNED_AT_ONCE = 500_000
"""Requests whose batches are decided in one piece."""
SHARE_SEED = 20
"""Decides which requests a share holds; no experiment's seed does, so that all models and seeds see the same ones."""


def _sizes_of(offset: np.ndarray) -> np.ndarray:
    """(requests,) how many candidates each has, in the smallest type that holds them."""
    blocks = [offset[begin : begin + PLANNED_AT_ONCE + 1] for begin in range(0, len(offset) - 1, PLANNED_AT_ONCE)]
    kind = np.min_scalar_type(max((int(np.diff(block).max()) for block in blocks), default=0))
    sizes = np.empty(len(offset) - 1, dtype=kind)
    for place, block in enumerate(blocks):
        begin = place * PLANNED_AT_ONCE
        sizes[begin : begin + len(block) - 1] = np.diff(block)
    return sizes


def later_than(dataset: Dataset, split: Split, time: int) -> int:
    """The split's first request later than a time in microseconds; its end if there is none."""
    period = dataset.manifest.splits[split]
    return period.begin + int(np.searchsorted(dataset.requests.time[period.begin : period.end], time, side="right"))


def part_of_requests(
    dataset: Dataset, split: Split, share: float, until: int | None = None, replay: float = 1.0
) -> np.ndarray | None:
    """(requests,) rows of those that are used, ascending; None for all.

    Args:
        dataset: an opened dataset.
        split: which period.
        share: of its requests: the same ones whatever the seed, and all of a smaller share's.
        until: time in microseconds up to which an earlier training has had the requests.
        replay: share of those that is used again.
    """
    period = dataset.manifest.splits[split]
    if share >= 1 and (until is None or replay >= 1):
        return None
    new = period.begin if until is None else later_than(dataset, split, until)
    return np.concatenate([_share_of(period.begin, new, share * replay), _share_of(new, period.end, share)])


def _share_of(begin: int, end: int, share: float) -> np.ndarray:
    """A share of the rows of a range, ascending, at least one unless none is asked for."""
    if share >= 1:
        return np.arange(begin, end, dtype=np.int32)
    order = np.random.default_rng(SHARE_SEED).permutation(end - begin)
    return np.sort(begin + order[: max(share > 0, round((end - begin) * share))].astype(np.int32))


class Batches:
    """The batches of one split: whole requests until `batch_size` candidates are reached.

    The order is decided by `seed` and the epoch alone, so that training can resume at any step.

    Args:
        dataset: an opened dataset.
        split: which period.
        batch_size: candidates per batch; the last request may go beyond it.
        shuffle_seed: shuffles requests anew in every epoch and trains the unseen rows; in the dataset's order if None.
        unseen_rate: share of ids that training replaces by the unseen row.
        requests: (requests,) rows of the split's that are used, see `part_of_requests`; all if None.
        part: which of how many parts of every batch is built; the lengths and plans are those of whole batches.
        pinned: build them to be copied to a CUDA card.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split,
        batch_size: int,
        *,
        shuffle_seed: int | None = None,
        unseen_rate: float = 0.01,
        requests: np.ndarray | None = None,
        part: tuple[int, int] = WHOLE,
        pinned: bool = False,
    ) -> None:
        period = dataset.manifest.splits[split]
        self.batch_size = batch_size
        self.seed = shuffle_seed
        self.part = part
        training = shuffle_seed is not None
        self.builder = BatchBuilder(
            dataset, unseen_rate=unseen_rate if training else 0.0, fixed_positions=not training, pinned=pinned
        )
        # What a log's length decides is kept small: a log may have many millions of requests.
        self._begin = np.int32(period.begin)
        self._chosen = requests
        self._sizes = _sizes_of(dataset.requests.candidate_offset[period.begin : period.end + 1])
        if requests is not None:
            self._sizes = self._sizes[requests - self._begin]
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
        requests = order + self._begin if self._chosen is None else self._chosen[order]
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


def on_device(batches: Iterator[Batch], device: torch.device, dtype: torch.dtype) -> Iterator[Batch]:
    """The same batches on the device; to a CUDA card the next one is copied while one is in use.

    Copies have a stream of their own. One waits for all that was asked of the card before, since it may be written
    where an earlier batch lay; who uses a batch waits for its copy alone.
    """
    if device.type != "cuda":
        yield from (batch.to(device, dtype) for batch in batches)
        return
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    computing = torch.cuda.current_stream(device)

    def copied(batch: Batch) -> tuple[Batch, torch.cuda.Event]:
        copying.wait_stream(computing)
        with torch.cuda.stream(copying):
            return batch.to(device, dtype), copying.record_event()

    copies = map(copied, batches)
    coming = next(copies, None)
    while coming is not None:
        batch, is_there = coming
        coming = next(copies, None)
        computing.wait_event(is_there)
        yield batch
