"""The numbers of a request and of its candidates in the order in which models see them.

Users, items, contexts and candidates each come with their numbers and, behind these, what their vectors are projected
to. Models have the numbers of both sides first, then places in the list, then what is projected.

Shapes: R requests, N candidates.
"""

import numpy as np
from numpy.typing import NDArray

from musenet.dataset.inputs.relative import Relative
from musenet.dataset.manifest import FieldSide
from musenet.serving.manifest import ExportManifest

Floats = NDArray[np.float32]


class Numbers:
    """Brings an export's numbers into order.

    Args:
        manifest: of the export.
    """

    def __init__(self, manifest: ExportManifest) -> None:
        fitted = {*manifest.numeric, *manifest.vectors}
        self.relative = Relative(manifest.fields, fitted, manifest.repeat is not None) if manifest.relative else None
        """What tells candidates' places in their lists, if the model sees them."""
        self._of_request, self._of_candidate = (
            _Order(manifest, "user", "context"),
            _Order(manifest, "item", "candidate"),
        )

    def of_requests(self, numbers: Floats) -> Floats:
        """(R, ·) from those of users beside those of contexts."""
        own, projected = self._of_request.parted(numbers)
        return own if projected is None else np.concatenate([own, projected], axis=1)

    def of_candidates(self, numbers: Floats, repeats: Floats, offset: NDArray[np.int64]) -> Floats:
        """(N, ·) from those of items beside those of candidates; the others are as of `Relative.append`."""
        own, projected = self._of_candidate.parted(numbers)
        if self.relative is not None:
            own = self.relative.append(own, repeats, offset)
        return own if projected is None else np.concatenate([own, projected], axis=1)


class _Order:
    """Which columns of two sides beside each other are numbers, and which are what vectors are projected to."""

    def __init__(self, manifest: ExportManifest, *sides: FieldSide) -> None:
        own, projected, start = list[int](), list[int](), 0
        for side in sides:
            fields = manifest.fields_of(side)
            numbers = sum(one.kind == "dense" for one in fields)
            vectors = sum(one.projection or 0 for one in fields)
            own += range(start, start + numbers)
            projected += range(start + numbers, start + numbers + vectors)
            start += numbers + vectors
        self._own, self._projected = own, projected

    def parted(self, numbers: Floats) -> tuple[Floats, Floats | None]:
        """The numbers, and what vectors are projected to, if there are any."""
        return (numbers[:, self._own], numbers[:, self._projected]) if self._projected else (numbers, None)
