"""From Q(c|x) to the assignment a: the paper's soft and hard version (3.1.1, 3.2.1), and assignments mixed up.

Shapes: R requests (or candidates, where the metric space sees them), K scenarios.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from musenet.distributed.workers import own_rows
from musenet.models.musenet.options import MusenetOptions


class Soft:
    """The soft version, a = Q(c|x)."""

    told = 0
    """How many numbers the intention modules are told beside the request."""
    keep_from = 0.0
    """Progress from which on the assignment is what was asked for."""

    def assign(self, log_q: Tensor, progress: float, training: bool) -> Tensor:
        """(R, K) log a from log Q(c|x)."""
        return log_q

    def tell(self, request: Tensor, log_q: Tensor, progress: float, training: bool) -> Tensor:
        """(R, · + told) the request's inputs of the intention modules."""
        return request


class Permuted(Soft):
    """Trained soft, scored with each request's neighbour's: the control that any assignment would do."""

    def assign(self, log_q: Tensor, progress: float, training: bool) -> Tensor:
        """(R, K)."""
        return log_q if training else log_q.roll(1, dims=0)


class Hard(Soft):
    """The paper's hard version: relaxed samples in training (Eq 7), the nearest prototype when scoring (Eq 4)."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def assign(self, log_q: Tensor, progress: float, training: bool) -> Tensor:
        """(R, K)."""
        return gumbel_softmax(log_q, self.temperature) if training else harden(log_q)


class LateHard(Hard):
    """The robust hard version: trained soft until `start`, and then told what hardening forgets (docs/model.md)."""

    def __init__(self, temperature: float, start: float, scenarios: int) -> None:
        super().__init__(temperature)
        self.keep_from, self.told = start, scenarios

    def assign(self, log_q: Tensor, progress: float, training: bool) -> Tensor:
        """(R, K)."""
        if not self.has_hardened(progress, training):
            return log_q
        # The metric space rests from here on: samples would only teach it to be sure of itself.
        return super().assign(log_q.detach() if training else log_q, progress, training)

    def tell(self, request: Tensor, log_q: Tensor, progress: float, training: bool) -> Tensor:
        """(R, · + K) with Eq 3's soft assignment, for the one module that a hardened request gets; 0 before hardening.

        The nearest prototype alone forgets how near the others were; knowing it, the module can hedge.
        """
        doubt = log_q.detach().exp() * float(self.has_hardened(progress, training))
        return torch.cat([request, doubt], dim=1)

    def has_hardened(self, progress: float, training: bool) -> bool:
        """Scoring always has; training from `start` on."""
        return not training or progress >= self.keep_from


def version_of(options: MusenetOptions, scenarios: int) -> Soft:
    """The version that the options ask for, of K scenarios."""
    if options.hardens:
        return LateHard(options.temperature, options.harden_from, scenarios)
    if options.learns_scenarios and options.assignment == "hard":
        return Hard(options.temperature)
    return Permuted() if options.learns_scenarios and options.assignment == "permuted" else Soft()


def harden(log_q: Tensor) -> Tensor:
    """Eq 4: log of the one-hot assignment to the nearest prototype, (R, K) of 0 and -inf."""
    nearest = log_q.argmax(dim=1, keepdim=True)
    return torch.full_like(log_q, -torch.inf).scatter_(1, nearest, 0.0)


def gumbel_softmax(log_q: Tensor, temperature: float, noise: Tensor | None = None) -> Tensor:
    """Eq 7: log of a relaxed sample, log softmax((log pi + g) / tau) with g ~ Gumbel(0, 1).

    Args:
        log_q: (R, K) log pi.
        temperature: tau.
        noise: (R, K) g; drawn if left out.
    """
    if noise is None:
        noise = -own_rows(lambda rows: log_q.new_empty(rows, *log_q.shape[1:]).exponential_(), len(log_q)).log()
    return F.log_softmax((log_q + noise) / temperature, dim=1)
