"""Vectors that come with the log, such as embeddings of texts: each becomes a few numbers before a model sees it.

Shapes: R requests, N candidates.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from musenet.dataset.batch import Batch, Schema
from musenet.dataset.manifest import Field

NAME = "vectors"
"""Under which a model has its projections."""


class Projection(nn.Module):
    """W z of each vector z of a side, by a learned W (projection, width) of its own.

    There is no constant: a missing vector is zeros, and so is what it is projected to.

    Args:
        fields: the vectors, in the order in which they stand beside each other.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        super().__init__()
        self.fields = list(fields)
        self.maps = nn.ModuleList(nn.Linear(field.width, field.projection or 1, bias=False) for field in fields)

    def forward(self, vectors: Tensor) -> Tensor:
        """(rows, sum of projections) from (rows, sum of widths)."""
        parts = zip(self.maps, torch.split(vectors, [field.width for field in self.fields], dim=1), strict=True)
        return torch.cat([vectors[:, :0], *(project(part) for project, part in parts)], dim=1)


class VectorProjections(nn.Module):
    """The projections of both sides of a batch.

    Args:
        schema: of the batches.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.request, self.candidate = Projection(schema.request_vectors), Projection(schema.candidate_vectors)

    def forward(self, batch: Batch) -> Batch:
        """The batch of `Schema.projected`: what its vectors are projected to stands behind its numbers."""
        if not (batch.request_vectors.shape[1] or batch.candidate_vectors.shape[1]):
            return batch  # it is one already
        of_request, of_candidate = self.request(batch.request_vectors), self.candidate(batch.candidate_vectors)
        return replace(
            batch,
            request_dense=torch.cat([batch.request_dense, of_request], dim=1),
            candidate_dense=torch.cat([batch.candidate_dense, of_candidate], dim=1),
            request_vectors=batch.request_vectors[:, :0],
            candidate_vectors=batch.candidate_vectors[:, :0],
        )


def project_vectors(model: nn.Module, schema: Schema) -> None:
    """Let a model that was built for `Schema.projected` take batches of the schema itself."""
    if schema.request_vectors or schema.candidate_vectors:
        model.add_module(NAME, VectorProjections(schema))
        model.register_forward_pre_hook(_projected_first)


def projection_of(model: nn.Module, vector: Field) -> Tensor:
    """(projection, width) the W that a model learned for a vector."""
    projections: VectorProjections = model.get_submodule(NAME)  # type: ignore[assignment]
    side = projections.request if vector.side in ("user", "context") else projections.candidate
    return side.maps[side.fields.index(vector)].get_parameter("weight")


def _projected_first(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    batch, *others = inputs
    return model.get_submodule(NAME)(batch), *others
