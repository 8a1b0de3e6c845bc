"""Where requests and prototypes lie in the metric space."""

import numpy as np

from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.evaluation.predictions import Floats, Integers
from musenet.evaluation.scoring import scoring
from musenet.models.interface import ClickModel

REQUESTS_AT_ONCE = 256


def points_of(model: ClickModel, dataset: Dataset, requests: Integers) -> Floats | None:
    """(R, M) f_omega(x) of these requests; None for a model without a metric space.

    Where the metric space sees the candidate, a request lies at the mean of its candidates.
    """
    builder = BatchBuilder(dataset)
    found: list[Floats] = []
    with scoring(model) as like:
        for start in range(0, len(requests), REQUESTS_AT_ONCE):
            batch = builder.build(requests[start : start + REQUESTS_AT_ONCE]).to(like.device, like.dtype)
            point = model(batch).point
            if point is None:
                return None
            if point.shape[0] != batch.requests:
                sums = point.new_zeros(batch.requests, point.shape[1]).index_add_(0, batch.request, point)
                point = sums / batch.request.bincount(minlength=batch.requests)[:, None]
            found.append(point.double().cpu().numpy())
    return np.concatenate(found) if found else None


def prototypes_of(model: ClickModel) -> Floats | None:
    """(K, M) the prototypes c_k of the scenarios that are left; None for a model without."""
    prototypes = model.prototypes()
    return None if prototypes is None else np.asarray(prototypes.detach().double().cpu().numpy())
