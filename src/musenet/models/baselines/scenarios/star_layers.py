"""The two layers of STAR (Sheng et al., CIKM 2021): partitioned normalisation and the star topology's linear layer.

Shapes: K predefined scenarios.
"""

import torch
from torch import Tensor, nn

from musenet.distributed.workers import global_sum

MOMENTUM = 0.1
FEW_ROWS = 16
"""How many rows a scenario's moving statistics count for beside those of a batch."""


class PartitionedNormalization(nn.Module):
    """z' = gamma gamma_p (z - mu_p) / sqrt(sigma_p^2 + epsilon) + beta + beta_p, p the row's scenario.

    Statistics are a scenario's own: the batch's in training, moving ones when scoring. The paper fills a batch from one
    scenario; ours mix them. So, in training, a batch with n rows of a scenario counts n / (n + FEW_ROWS) and its moving
    statistics the rest: a lone row of a rare scenario is not normalised to nothing.
    """

    def __init__(self, scenarios: int, size: int, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.scale, self.shift = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))
        self.own_scale = nn.Parameter(torch.ones(scenarios, size))
        self.own_shift = nn.Parameter(torch.zeros(scenarios, size))
        self.register_buffer("mean", torch.zeros(scenarios, size))
        self.register_buffer("variance", torch.ones(scenarios, size))
        self.mean: Tensor
        self.variance: Tensor

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        """(rows, size) from (rows, size) and the rows' scenarios (rows,)."""
        mean, variance = self.statistics(x, codes) if self.training else (self.mean, self.variance)
        scale = self.scale * self.own_scale / (variance + self.epsilon).sqrt()
        shift = self.shift + self.own_shift - mean * scale
        return x * scale.index_select(0, codes) + shift.index_select(0, codes)

    def statistics(self, x: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """(K, size) mean and variance to normalise by; moves the moving ones."""
        rows = global_sum(torch.bincount(codes, minlength=len(self.mean)).to(x)).unsqueeze(1)

        def average(values: Tensor) -> Tensor:
            return global_sum(torch.zeros_like(self.mean).index_add(0, codes, values)) / rows.clamp_min(1)

        trust = rows / (rows + FEW_ROWS)  # 0 for a scenario that the batch lacks
        mean = torch.lerp(self.mean, average(x), trust)
        # About this mean, not the batch's: the variance of a lone row about itself would be 0.
        square = average((x - mean.index_select(0, codes)).square())
        variance = torch.lerp(self.variance, square, trust)
        with torch.no_grad():
            self.mean.lerp_(mean, MOMENTUM)
            self.variance.lerp_(variance, MOMENTUM)
        return mean, variance


class StarLinear(nn.Module):
    """y = (W ∘ W_p) x + b + b_p: shared weights times each scenario's own, which begin at 1 and 0.

    Args:
        shared: W and b.
        scenarios: K.
        biased: whether there is b, and so b_p.
    """

    def __init__(self, shared: nn.Linear, scenarios: int, *, biased: bool = True) -> None:
        super().__init__()
        self.shared = shared
        self.own_weight = nn.Parameter(torch.ones(scenarios, *shared.weight.shape))
        self.own_bias = nn.Parameter(torch.zeros(scenarios, shared.out_features)) if biased else None

    def forward(self, x: Tensor, scenario: Tensor) -> Tensor:
        """(blocks, rows, out) from blocks (blocks, rows, in), each of one `scenario` (blocks,)."""
        weight = (self.shared.weight * self.own_weight).index_select(0, scenario).transpose(1, 2)
        if self.own_bias is None:
            return torch.bmm(x, weight)
        return torch.baddbmm((self.shared.bias + self.own_bias).index_select(0, scenario).unsqueeze(1), x, weight)
