"""Whose turn a request is among predefined scenarios.

Shapes: R requests, K predefined scenarios.
"""

import torch
from torch import Tensor, nn

from musenet.dataset.batch import Batch, Schema
from musenet.distributed.workers import global_sum
from musenet.errors import ConfigError


class PredefinedScenario(nn.Module):
    """Which scenario answers for a request: its own, or the most frequent one where that was never trained.

    A log's scenarios are numbered over all its periods, so that one may turn up in the test period that training did
    not see; -1 is one that the log does not know. Both are answered by the scenario with most requests in training. All
    models that are told the scenario share this, so that they differ by what they do with scenarios alone.

    Args:
        schema: of the batches.
        model: the model's name, for the error.

    Raises:
        ConfigError: if the log names no predefined scenario.
    """

    def __init__(self, schema: Schema, model: str) -> None:
        super().__init__()
        if not schema.predefined_scenarios:
            raise ConfigError(f"model.name: {model} needs `predefined_scenario`, the columns that name it")
        self.scenarios = len(schema.predefined_scenarios)
        self.register_buffer("requests_seen", torch.zeros(self.scenarios, dtype=torch.long))
        self.requests_seen: Tensor

    def forward(self, batch: Batch) -> Tensor:
        """(R,) codes in [0, K). In training, it also counts them."""
        codes = batch.predefined_scenario
        assert codes is not None
        known = codes >= 0
        at = codes.clamp_min(0)
        if self.training:
            self.requests_seen += global_sum(torch.zeros_like(self.requests_seen).index_add(0, at, known.long()))
        return torch.where(known & (self.requests_seen[at] > 0), codes, self.requests_seen.argmax())
