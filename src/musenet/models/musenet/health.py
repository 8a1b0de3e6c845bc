"""Signs of health of learned scenarios (docs/model.md): melted, dead, contracting."""

import math

import torch
from torch import Tensor

from musenet.distributed.workers import global_mean
from musenet.models.interface import Health
from musenet.models.musenet.assigners import Assigner


class ScenarioHealth:
    """Gathers, step by step, what tells whether scenarios live.

    Args:
        scenarios: K.
    """

    def __init__(self, scenarios: int) -> None:
        self.scenarios = scenarios
        self._reset()

    def _reset(self) -> None:
        self._share = torch.zeros(self.scenarios)
        self._confidence = torch.zeros(())
        self._steps = 0
        self._point: Tensor | None = None

    def observe(self, log_assignment: Tensor, point: Tensor) -> None:
        """One step's assignments (R, K) and points in the metric space (R, M)."""
        assignment = log_assignment.detach().exp()
        means = global_mean(torch.cat([assignment, assignment.amax(1, keepdim=True)], dim=1))
        self._share = self._share.to(assignment.device) + means[:-1]
        self._confidence = self._confidence.to(assignment.device) + means[-1]
        self._steps += 1
        self._point = point.detach()

    def state(self) -> dict[str, Tensor]:
        """What was gathered since the last report, but for the last points: a step follows before the next one."""
        if not self._steps:
            return {}
        return {"share": self._share, "confidence": self._confidence, "steps": torch.tensor(self._steps)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        self._reset()
        if state:
            self._share, self._confidence = state["share"], state["confidence"]
            self.scenarios = len(self._share)
            self._steps = int(state["steps"])

    def report(self, assigner: Assigner | None) -> Health:
        """Values and warnings since the last report, the assigner's own signs among them."""
        if not self._steps or self._point is None:
            return Health()
        share = self._share / self._steps
        use = float(-torch.special.xlogy(share, share).sum())
        confidence = float(self._confidence / self._steps)
        values = {"mean_max_probability": confidence, "entropy_of_use": use}
        values |= {f"share_{place}": float(value) for place, value in enumerate(share)}
        warnings = []
        if confidence < 1.1 / self.scenarios:
            warnings.append(
                f"scenarios have melted: mean max probability {confidence:.3f}, 1/K is {1 / self.scenarios:.3f}"
            )
        if use < 0.2 * math.log(self.scenarios):
            warnings.append(f"one scenario takes nearly everything: entropy of use {use:.3f}")
        if assigner is not None:
            values |= assigner.signs(self._point)
        if values.get("prototype_spread", math.inf) < 1e-3:
            warnings.append("prototypes have collapsed into one point: Eq 14 contracts (2·s·lambda_max below 1)")
        self._reset()
        return Health(values, warnings)
