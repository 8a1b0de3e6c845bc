"""Requests and their candidates as tensors: the one shape of training, evaluation and serving.

Shapes: R requests, N candidates, T history events of all requests together, U distinct embedding rows.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from musenet.dataset.dataset import Dataset
from musenet.dataset.inputs.relative import Relative
from musenet.dataset.manifest import Field, FieldSide, Manifest


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
    """Those of items and candidates, then `Relative.fields` if the dataset has them."""
    embedding_rows: int
    has_repeats: bool
    predefined_scenarios: tuple[str, ...] | None
    """What they are called, by code."""
    true_scenarios: int | None
    first_rows: dict[str, int] = field(default_factory=dict)
    """Where each vocabulary's rows begin in the embedding table."""
    request_vectors: tuple[Field, ...] = ()
    candidate_vectors: tuple[Field, ...] = ()

    @property
    def projected(self) -> "Schema":
        """As a model is built for: the numbers that vectors are projected to are behind all others."""
        return replace(
            self,
            request_dense=(*self.request_dense, *_projections(self.request_vectors)),
            candidate_dense=(*self.candidate_dense, *_projections(self.candidate_vectors)),
            request_vectors=(),
            candidate_vectors=(),
        )


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
    request_vectors: Tensor
    """(R, sum of widths of request_vectors)."""
    candidate_vectors: Tensor
    """(N, sum of widths of candidate_vectors)."""
    request: Tensor
    """(N,) which request of the batch a candidate belongs to, ascending."""
    repeat_indicator: Tensor
    """(N,) bool, I[t in B_u] of Eq 9."""
    repeat_features: Tensor
    """(N, 3): indicator, log(1 + count), how long ago the last was: see `repeat_features`."""
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
    equally_long: ClassVar[bool] = False
    """Whether every request has as many rows in `history_codes` as any other, padding behind its events."""

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
        return self._with_each(
            lambda value: value.to(device, dtype if value.is_floating_point() else value.dtype, non_blocking=True)
        )

    def pinned(self) -> "Batch":
        """The same batch in memory from which a CUDA card copies by itself, while the processor does other things."""
        return self._with_each(Tensor.pin_memory)

    def _with_each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        changed: dict[str, Any] = {
            name: change(value) if isinstance(value, Tensor) else value for name, value in self.__dict__.items()
        }
        return Batch(**changed)


def schema_of(dataset: Dataset) -> Schema:
    """The schema of a dataset's batches."""

    def coded(*sides: FieldSide) -> tuple[Field, ...]:
        return tuple(one for one in dataset.fields(*sides) if one.has_codes)

    def of_kind(kind: str, *sides: FieldSide) -> tuple[Field, ...]:
        return tuple(one for one in dataset.fields(*sides) if one.kind == kind)

    manifest, relative = dataset.manifest, relative_of(dataset.manifest)
    return Schema(
        request_fields=coded("user", "context"),
        candidate_fields=coded("item", "candidate"),
        history_fields=coded("history"),
        request_dense=of_kind("dense", "user", "context"),
        candidate_dense=of_kind("dense", "item", "candidate") + (relative.fields if relative else ()),
        embedding_rows=dataset.embedding_rows,
        has_repeats=manifest.has_repeats,
        predefined_scenarios=None if manifest.predefined_scenarios is None else tuple(manifest.predefined_scenarios),
        true_scenarios=manifest.true_scenarios,
        first_rows=dict(dataset.embedding_offset),
        request_vectors=of_kind("vector", "user", "context"),
        candidate_vectors=of_kind("vector", "item", "candidate"),
    )


def relative_of(manifest: Manifest) -> Relative | None:
    """What tells candidates' places in their lists, if the dataset's models see them."""
    fitted = {*manifest.numeric, *manifest.vectors}
    return Relative(manifest.fields, fitted, manifest.has_repeats) if manifest.relative else None


def _projections(vectors: Iterable[Field]) -> Iterable[Field]:
    for one in vectors:
        for place in range(one.projection or 0):
            yield Field(name=f"{one.name} {place}", side=one.side, kind="dense", column=one.column)
