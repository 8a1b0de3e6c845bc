"""An exponential average of the weights on the way of training."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from musenet.models.interface import ClickModel


def averaged(model: ClickModel, share: float) -> AveragedModel:
    """A copy of the model whose weights are averaged by `update_parameters`; other state it takes over as it is.

    After n updates an update keeps min(share, (1 + n) / (10 + n)) of the average, so that the first weights do not
    outweigh what training has come to since.
    """

    def update(average: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor | int) -> None:
        kept = min(share, (1 + int(updates)) / (10 + int(updates)))
        torch._foreach_lerp_(list(average), list(weights), 1 - kept)

    return AveragedModel(model, multi_avg_fn=update)
