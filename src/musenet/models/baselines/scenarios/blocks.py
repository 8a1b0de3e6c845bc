"""Weights that each scenario owns: rows meet those of their own scenario.

Shapes: K scenarios.
"""

import torch
from torch import Tensor

BLOCK = 128
"""Rows of a block: few enough to waste little on rare scenarios, enough for a product to be worth it."""


def own(of_all: Tensor, codes: Tensor) -> Tensor:
    """(rows, …) what each row's own scenario gives.

    Args:
        of_all: (rows, K, …) what every scenario gives.
        codes: (rows,) each row's scenario.
    """
    return of_all[torch.arange(codes.shape[0], device=codes.device), codes]


class ScenarioBlocks:
    """Rows in blocks of one scenario each, so that every row meets its own scenario's weights in one batched product.

    Computing all K scenarios for every row would cost K times as much.

    Args:
        codes: (rows,) each row's scenario.
        scenarios: K.
    """

    def __init__(self, codes: Tensor, scenarios: int) -> None:
        counts = torch.bincount(codes, minlength=scenarios)
        blocks = (counts + BLOCK - 1) // BLOCK
        self.scenario = torch.arange(scenarios, device=codes.device).repeat_interleave(blocks)
        """(blocks,) the scenario of each block."""
        order = codes.argsort()
        ordered = codes[order]
        rank = torch.arange(len(codes), device=codes.device) - (counts.cumsum(0) - counts)[ordered]
        begin = (blocks.cumsum(0) - blocks) * BLOCK
        self._place = torch.empty_like(order).index_copy_(0, order, begin[ordered] + rank)

    def spread(self, x: Tensor) -> Tensor:
        """(blocks, BLOCK, size) of (rows, size); places that no row takes are zero."""
        places = x.new_zeros(len(self.scenario) * BLOCK, x.shape[1])
        return places.index_copy(0, self._place, x).view(-1, BLOCK, x.shape[1])

    def collect(self, blocks: Tensor) -> Tensor:
        """(rows, size) of (blocks, BLOCK, size)."""
        return blocks.flatten(0, 1).index_select(0, self._place)


class OneScenario:
    """The rows of a single request: one block, as it is.

    Args:
        code: (1,) the request's scenario.
    """

    def __init__(self, code: Tensor) -> None:
        self.scenario = code
        """(1,) the scenario of the one block."""

    def spread(self, x: Tensor) -> Tensor:
        """(1, rows, size) of (rows, size)."""
        return x.unsqueeze(0)

    def collect(self, blocks: Tensor) -> Tensor:
        """(rows, size) of (1, rows, size)."""
        return blocks.squeeze(0)


class EveryScenario:
    """Every row in a block of each scenario, of which its own is kept: K times as much, in operators that ONNX has.

    Args:
        codes: (rows,) each row's scenario.
        scenarios: K.
    """

    def __init__(self, codes: Tensor, scenarios: int) -> None:
        self._codes = codes
        self.scenario = torch.arange(scenarios, device=codes.device)
        """(K,) the scenario of each block."""

    def spread(self, x: Tensor) -> Tensor:
        """(K, rows, size) of (rows, size)."""
        return x.expand(self.scenario.shape[0], *x.shape)

    def collect(self, blocks: Tensor) -> Tensor:
        """(rows, size) of (K, rows, size)."""
        return own(blocks.transpose(0, 1), self._codes)


Blocks = ScenarioBlocks | OneScenario | EveryScenario
