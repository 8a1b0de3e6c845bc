"""`scenarios: auto`: begins with many scenarios and drops, one at a time, those whose work the others do as well.

The paper leaves the number of scenarios to future work. Balance holds all of them in use while they form; from then on
each is judged by what its absence would cost.

Shapes: R requests, N candidates, K scenarios, J of them left.
"""

import torch
from torch import Tensor, nn

from musenet.dataset.batch import Batch
from musenet.distributed.workers import global_mean
from musenet.models.musenet.objectives import request_log_likelihood
from musenet.models.musenet.options import MusenetOptions, PruningOptions

MEMORY = 0.98
"""What a step leaves of the running means."""


class NoPruning(nn.Module):
    """A number of scenarios that was given: all stay.

    Args:
        scenarios: K.
    """

    keep_from = 0.0
    """Progress from which on all scenarios stay."""
    left = slice(None)

    def __init__(self, scenarios: int) -> None:
        super().__init__()
        self.count = scenarios
        """How many are left."""

    def among_the_left(self, log_q: Tensor) -> Tensor:
        """(R, K) as it is."""
        return log_q

    def of_the_left(
        self, log_assignment: Tensor, scenario_logit: Tensor, repeat_probability: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """(rows, K) each, as they are."""
        return log_assignment, scenario_logit, repeat_probability

    def after_step(self, log_assignment: Tensor, scenario_logit: Tensor, batch: Batch, progress: float) -> bool:
        """None is dropped."""
        return False

    def signs(self) -> dict[str, float]:
        """Nothing to tell."""
        return {}


class ScenarioPruning(nn.Module):
    """Which scenarios are left, and what each is worth.

    Args:
        options: when to judge, and what a scenario has to be worth.
    """

    def __init__(self, options: PruningOptions) -> None:
        super().__init__()
        self.options = options
        self.register_buffer("dropped_at", torch.full((options.start,), -1.0))
        self.register_buffer("cost", torch.zeros(options.start))
        self.register_buffer("loss", torch.zeros(()))
        self.register_buffer("judged", torch.zeros((), dtype=torch.long))
        self.dropped_at: Tensor
        """(K,) progress at which each was dropped; -1 while it is left."""
        self.cost: Tensor
        """(K,) running mean of what a request's log-likelihood would lose without each."""
        self.loss: Tensor
        """Running mean of a request's negative log-likelihood."""
        self.judged: Tensor
        """How often scenarios were judged."""

    @property
    def keep_from(self) -> float:
        """Progress from which on none is dropped any more."""
        return self.options.end

    @property
    def count(self) -> int:
        """J."""
        return len(self.left)

    @property
    def left(self) -> Tensor:
        """(J,) the scenarios that are left, ascending."""
        return (self.dropped_at < 0).nonzero()[:, 0]

    def among_the_left(self, log_q: Tensor) -> Tensor:
        """(R, K) log Q(c|x) shared out anew among the scenarios that are left; the others' is -inf."""
        return torch.log_softmax(log_q.masked_fill(self.dropped_at >= 0, -torch.inf), dim=1)

    def of_the_left(
        self, log_assignment: Tensor, scenario_logit: Tensor, repeat_probability: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """(rows, J) of (rows, K) each."""
        left = self.left
        probability = None if repeat_probability is None else repeat_probability[:, left]
        return log_assignment[:, left], scenario_logit[:, left], probability

    def signs(self) -> dict[str, float]:
        """How many are left, among the signs of health."""
        return {"scenarios_left": float(self.count)}

    def after_step(self, log_assignment: Tensor, scenario_logit: Tensor, batch: Batch, progress: float) -> bool:
        """Learn from a step, and now and then drop the scenario that is worth least; whether one was dropped.

        Args:
            log_assignment: (R, J).
            scenario_logit: (N, J).
            batch: for labels, weights and the candidates' requests.
            progress: of training, in [0, 1].
        """
        left, options = self.left, self.options
        evidence = request_log_likelihood(scenario_logit, batch)
        whole = torch.logsumexp(log_assignment + evidence, dim=1)  # (R,)
        self.loss.lerp_(-global_mean(whole), 1 - MEMORY)
        if len(left) == 1:
            return False
        self.cost[left] = self.cost[left].lerp(global_mean(cost_of_absence(log_assignment, evidence)), 1 - MEMORY)
        checks = options.start - 1
        due = options.begin + (options.end - options.begin) * int(self.judged) / checks
        if int(self.judged) == checks or progress < due:
            return False
        self.judged += 1
        # Scenarios differ more and more as training goes on: what is asked of them grows alike.
        asked = options.least_use * int(self.judged) / checks
        least = left[self.cost[left].argmin()]
        if self.cost[least] >= asked * self.loss:
            return False
        self.dropped_at[least] = progress
        return True


def pruning_of(options: MusenetOptions, scenarios: int) -> ScenarioPruning | NoPruning:
    """What becomes of K scenarios on the way."""
    return ScenarioPruning(options.pruning) if options.scenarios == "auto" else NoPruning(scenarios)


def cost_of_absence(log_assignment: Tensor, evidence: Tensor) -> Tensor:
    """(R, J) log sum_j a_j L_j - log sum_{j != k} a_j / (1 - a_k) L_j: what scenario k is worth to a request.

    Args:
        log_assignment: (R, J) log a.
        evidence: (R, J) log L, the log-likelihood of the request's labels under each scenario.
    """
    others = torch.eye(log_assignment.shape[1], dtype=torch.bool, device=log_assignment.device)
    without = log_assignment[:, None].masked_fill(others, -torch.inf).log_softmax(2)  # (R, J absent, J)
    whole = torch.logsumexp(log_assignment + evidence, dim=1, keepdim=True)
    return whole - torch.logsumexp(without + evidence[:, None], dim=2)
