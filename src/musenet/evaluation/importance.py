"""Permutation importance: how much AUC a model loses when what one column says is dealt out anew.

A column of the user or of the context is permuted between requests, one of the item or of the candidate between
candidates; a request's whole history goes to another request, and the repeat features of a candidate, or all that tells
its place in the list, to another candidate. The model is not touched. What is lost is what the model takes from this
column alone: two columns that say the same stand in for one another, and both look unimportant.

Shapes: R requests, N candidates, K scenarios.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from musenet.dataset.batch import Batch, Schema
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Field
from musenet.evaluation.draws import Sample, UserDraws
from musenet.evaluation.intervals import Interval, Resampled, difference, resample_model
from musenet.evaluation.predictions import Floats, Integers
from musenet.evaluation.scoring import BATCH_SIZE, scoring
from musenet.models.interface import ClickModel

HISTORY, REPEATS = "history", "repeat features"

Side = Literal["request", "candidate", "history", "repeats"]


@dataclass(frozen=True)
class Group:
    """What is permuted together: the columns that preparation made of one column of the log."""

    name: str
    side: Side
    codes: tuple[int, ...] = ()
    """Columns of request_codes or candidate_codes."""
    dense: tuple[int, ...] = ()
    """Columns of request_dense or candidate_dense."""
    vectors: tuple[int, ...] = ()
    """Columns of request_vectors or candidate_vectors."""


@dataclass(frozen=True)
class Importance:
    """AUC as it is minus AUC with the group permuted; bounds over users and permutations."""

    name: str
    side: Side
    overall: Interval
    scenarios: list[Interval]
    """On the requests whose likeliest scenario is k, for each of K; empty without scenarios."""


def groups_of(schema: Schema) -> list[Group]:
    """Everything that can be permuted: a group per column of the log, the history, and the repeat features."""
    found = [
        *_column_groups("request", schema.request_fields, schema.request_dense, schema.request_vectors),
        *_column_groups("candidate", schema.candidate_fields, schema.candidate_dense, schema.candidate_vectors),
    ]
    if schema.history_fields:
        found.append(Group(HISTORY, "history"))
    if schema.has_repeats:
        found.append(Group(REPEATS, "repeats"))
    return found


def permute(batch: Batch, group: Group, random: np.random.Generator) -> Batch:
    """The same batch with what the group holds dealt out anew among its requests, or among its candidates."""
    if group.side in ("request", "history"):
        order = torch.from_numpy(random.permutation(batch.requests))
        if group.side == "history":
            return _with_histories_of(batch, order)
        return replace(
            batch,
            request_codes=_reordered(batch.request_codes, group.codes, order),
            request_dense=_reordered(batch.request_dense, group.dense, order),
            request_vectors=_reordered(batch.request_vectors, group.vectors, order),
        )
    order = torch.from_numpy(random.permutation(batch.candidates))
    if group.side == "repeats":
        indicator, statistics = batch.repeat_indicator[order], batch.repeat_features[order]
        return replace(batch, repeat_indicator=indicator, repeat_features=statistics)
    return replace(
        batch,
        candidate_codes=_reordered(batch.candidate_codes, group.codes, order),
        candidate_dense=_reordered(batch.candidate_dense, group.dense, order),
        candidate_vectors=_reordered(batch.candidate_vectors, group.vectors, order),
    )


def permutation_importance(
    model: ClickModel,
    dataset: Dataset,
    requests: Integers,
    scenario: Integers | None = None,
    *,
    repeats: int = 3,
    resamples: int = 100,
    seed: int = 0,
) -> list[Importance]:
    """What each group is worth to the model, the largest loss first.

    Args:
        model: a trained model, on any device.
        dataset: the dataset it was trained on.
        requests: (R) rows of the dataset's requests, ascending: the sample that is scored again and again.
        scenario: (R) the likeliest scenario of each; importance is then measured within each scenario as well.
        repeats: permutations of each group.
        resamples: of users and permutations.
        seed: of the permutations.
    """
    sample = _Sample(dataset, requests, scenario, resamples)
    with scoring(model) as like:
        parts = [batch.to(like.device, like.dtype) for batch in sample.batches]
        original = sample.resampled([_logits(model, parts)])

        def measured(place: int, group: Group) -> Importance:
            permuted = []
            for repeat in range(repeats):
                random = np.random.default_rng([seed, place, repeat])
                permuted.append(_logits(model, [permute(batch, group, random) for batch in parts]))
            losses = sample.losses(original, sample.resampled(permuted))
            return Importance(group.name, group.side, losses[0], losses[1:])

        with _a_core_each() as pool:
            found = list(pool.map(measured, *zip(*enumerate(groups_of(sample.schema)), strict=True)))
    return sorted(found, key=lambda one: -one.overall.value)


@contextmanager
def _a_core_each() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch would use for one pass, each with passes of its own: small products gain more so."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, "importance", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


class _Sample:
    """The requests that are scored, in batches that each spread over the whole sample, and where AUC is measured."""

    def __init__(self, dataset: Dataset, requests: Integers, scenario: Integers | None, resamples: int) -> None:
        builder = BatchBuilder(dataset)
        self.schema = builder.schema
        sizes = dataset.sizes_of(requests)
        count = max(1, round(int(sizes.sum()) / BATCH_SIZE))
        order = np.concatenate([np.arange(first, len(requests), count) for first in range(count)])
        self.batches = [builder.build(requests[first::count]) for first in range(count)]
        self._label = torch.cat([batch.label for batch in self.batches]).numpy()
        weights = [batch.weight for batch in self.batches if batch.weight is not None]
        self._weight = torch.cat(weights).numpy() if weights else None
        self._request = np.repeat(requests[order], sizes[order])
        self._user = dataset.requests.user[self._request]
        rows = [np.arange(len(self._request))]
        if scenario is not None:
            of_candidate = np.repeat(scenario[order], sizes[order])
            rows += [np.flatnonzero(of_candidate == k) for k in range(int(scenario.max()) + 1)]
        self._rows = rows
        self._draws = [UserDraws(self._user[part], resamples) if len(part) else None for part in rows]

    def resampled(self, logits: Sequence[Floats]) -> list[Resampled | None]:
        """AUC by resample on the whole sample, then on each scenario's part, of lists of logits (N); None if empty."""
        samples = [Sample(self._label, logit, self._user, self._request, self._weight) for logit in logits]
        return [
            None if draws is None else resample_model([sample.part(rows) for sample in samples], draws, ["auc"])
            for rows, draws in zip(self._rows, self._draws, strict=True)
        ]

    def losses(self, original: list[Resampled | None], permuted: list[Resampled | None]) -> list[Interval]:
        """AUC of the original minus that of the permuted; nan where a part is empty or has one class."""
        found = []
        for before, after in zip(original, permuted, strict=True):
            if before is None or after is None:
                found.append(Interval(float("nan"), float("nan"), float("nan")))
                continue
            lost = difference(before, after)
            found.append(Interval(lost.value, lost.low, lost.high))
        return found


@torch.inference_mode()  # which each thread enters for itself
def _logits(model: ClickModel, batches: Sequence[Batch]) -> Floats:
    return np.concatenate([model(batch).logit.double().cpu().numpy() for batch in batches])


def _column_groups(side: Side, *blocks: tuple[Field, ...]) -> Iterator[Group]:
    """By the columns of codes, numbers and vectors, in the fields' order.

    Positions are left out, as every candidate is scored at the same one.
    """
    found: dict[str, list[list[int]]] = {}
    for block, fields in enumerate(blocks):
        start = 0
        for field in fields:
            if not field.is_position:
                places = found.setdefault(field.column or field.name, [[] for _ in blocks])
                places[block].extend(range(start, start + field.width))
            start += field.width
    for name, places in found.items():
        yield Group(name, side, *map(tuple, places))


def _reordered(values: Tensor, columns: tuple[int, ...], order: Tensor) -> Tensor:
    """The same rows with these columns taken from the rows in `order`."""
    if not columns:
        return values
    chosen = list(columns)
    changed = values.clone()
    changed[:, chosen] = values[order][:, chosen]
    return changed


def _with_histories_of(batch: Batch, order: Tensor) -> Batch:
    """The batch in which request i has the events of request order[i]."""
    begin, length = batch.history_offset[order], batch.history_offset.diff()[order]
    offset = torch.cat([batch.history_offset[:1], length.cumsum(0)])
    events = torch.arange(int(offset[-1]), device=offset.device) + torch.repeat_interleave(begin - offset[:-1], length)
    return replace(batch, history_codes=batch.history_codes[events], history_offset=offset)
