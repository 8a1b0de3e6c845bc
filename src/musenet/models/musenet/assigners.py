"""Q(c|x): which scenario is a request in (the paper's 3.1.1 and 3.2.1)? By prototypes, or what a control has instead.

Shapes: R requests (or candidates, where the metric space sees them), M metric space, K scenarios.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musenet.dataset.batch import Batch, Schema
from musenet.distributed.workers import all_rows, global_mean, global_sum
from musenet.models.musenet.options import MusenetOptions
from musenet.models.predefined import PredefinedScenario


class Assigner(nn.Module):
    """What `Musenet` asks; here as it is of a network of points, log Q = self(f_omega(x))."""

    moves = False
    """Whether Eq 14 moves it."""

    def log_q(self, point: Tensor | None, batch: Batch) -> Tensor:
        """(R, K) log Q(c|x) of requests that lie at `point` (R, M), None where nothing is learned."""
        log_probability: Tensor = self(point)
        return log_probability

    def prototypes(self) -> Tensor | None:
        """(K, M) c_k, if there are any."""
        return None

    def signs(self, point: Tensor) -> dict[str, float]:
        """Signs of health beside those of the assignment (docs/model.md)."""
        return {}

    def fit_scale(self, point: Tensor) -> None:
        """Fit what a first batch decides."""

    def move(self, point: Tensor, weight: Tensor, rate: float) -> None:
        """Take a step of Eq 14."""


class Prototypes(Assigner):
    """The prototypes c_k and the distances to them.

    Args:
        scenarios: K.
        dimension: M.
        scale: s, by which squared distances are multiplied before the softmax of Eq 3.
        spread: standard deviation of the first coordinates.
        learned: whether back-propagation moves the prototypes, instead of Eq 14.
    """

    def __init__(
        self, scenarios: int, dimension: int, scale: float, *, spread: float = 1.0, learned: bool = False
    ) -> None:
        super().__init__()
        self.moves = not learned
        self.centres = nn.Parameter(spread * torch.randn(scenarios, dimension), requires_grad=learned)
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.scale: Tensor

    def distances(self, point: Tensor) -> Tensor:
        """(R, K) s·d(f_omega(x), c_k), d the squared Euclidean distance, as the linear model of Eq 15 and 16."""
        own = point.square().sum(1, keepdim=True)
        crossed = torch.addmm(self.centres.square().sum(1), point, self.centres.T, alpha=-2)
        return self.scale * (own + crossed)

    def forward(self, point: Tensor) -> Tensor:
        """(R, K) log Q_s(c|x) of Eq 3: log softmax of the negative distances."""
        return F.log_softmax(-self.distances(point), dim=1)

    @torch.no_grad()
    def move(self, point: Tensor, weight: Tensor, rate: float) -> None:
        """Eq 14: c_k <- (1 - alpha) c_k + alpha (sum_i w_ki f(x_i)) / (sum_i w_ki).

        The paper writes x_i; prototypes live in the metric space, so it is f_omega(x_i) that is averaged. Where no
        sample has any weight, the mean is undefined and the prototype stays.

        Args:
            point: (R, M) f_omega(x_i).
            weight: (R, K) the assignment, or the posterior given the labels.
            rate: alpha.
        """
        total = global_sum(weight.sum(0))[:, None]  # (K, 1)
        mean = global_sum(weight.T @ point) / total.clamp_min(1e-12)  # (K, M)
        self.centres.lerp_(torch.where(total > 1e-12, mean, self.centres), rate)

    @torch.no_grad()
    def fit_scale(self, point: Tensor, expansion: float = 1.5) -> None:
        """Set s so that 2·s·lambda_max(Cov f) = `expansion`: above 1, Eq 14 does not contract (docs/model.md)."""
        self.scale.fill_(expansion / (2 * largest_eigenvalue(point)))

    def prototypes(self) -> Tensor:
        """(K, M) c_k."""
        return self.centres

    @torch.no_grad()
    def signs(self, point: Tensor) -> dict[str, float]:
        """L_C of Eq 8, spread of the prototypes, and 2·s·lambda_max(Cov f): below 1, Eq 14 alone contracts."""
        spread = (self.centres - self.centres.mean(0)).square().sum(1).mean().sqrt()
        return {
            "clustering_loss": clustering_loss(self(point).exp(), self.distances(point)).item(),
            "prototype_spread": spread.item(),
            "expansion": 2 * self.scale.item() * largest_eigenvalue(point),
        }


class Gate(Assigner):
    """A plain softmax gate on the metric space: the control that has no prototypes."""

    def __init__(self, scenarios: int, dimension: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dimension, scenarios)

    def forward(self, point: Tensor) -> Tensor:
        """(R, K) log-probabilities."""
        return F.log_softmax(self.linear(point), dim=1)


class Given(Assigner):
    """Nothing is learned: all scenarios alike, or the true one, of which an unknown one (-1) leaves all alike.

    Args:
        kind: `true`, which a column tells; else all are alike.
        scenarios: K.
    """

    def __init__(self, kind: str, scenarios: int) -> None:
        super().__init__()
        self.kind, self.scenarios = kind, scenarios

    def log_q(self, point: Tensor | None, batch: Batch) -> Tensor:
        """(R, K)."""
        codes = batch.true_scenario if self.kind == "true" else None
        return one_hot_log(torch.full_like(batch.request_index, -1) if codes is None else codes, self.scenarios)


class Predefined(Assigner):
    """Nothing is learned: the scenario that a column names, as every model that is told it understands it.

    Args:
        schema: of the batches, whose log names K of them.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.scenario = PredefinedScenario(schema, "musenet")

    def log_q(self, point: Tensor | None, batch: Batch) -> Tensor:
        """(R, K)."""
        return one_hot_log(self.scenario(batch), self.scenario.scenarios)


def assigner_of(options: MusenetOptions, scenarios: int, schema: Schema) -> Assigner:
    """The assigner that the options ask for, of K scenarios."""
    if options.assignment == "predefined":
        return Predefined(schema)
    if not options.learns_scenarios:
        return Given(options.assignment, scenarios)
    if options.assignment == "gate":
        return Gate(scenarios, options.metric_space.dimension)
    paper = options.objective == "paper"
    return Prototypes(
        scenarios,
        options.metric_space.dimension,
        scale=options.scale if isinstance(options.scale, float) else (1.0 if paper else 0.5),
        spread=1.0 if paper else options.spread,
        learned=not paper and options.prototypes == "gradient",
    )


def largest_eigenvalue(point: Tensor) -> float:
    """lambda_max of the covariance of f_omega(x) over a batch, at least a small positive number."""
    point = torch.cat(all_rows(point))
    if point.shape[0] < 2:
        return 1.0
    return max(float(torch.linalg.eigvalsh(torch.cov(point.double().T).reshape(point.shape[1], -1))[-1]), 1e-6)


def clustering_loss(assignment: Tensor, distance: Tensor) -> Tensor:
    """Eq 8: L_C, mean over requests of sum_k a_k d(f_omega(x), c_k). Eq 14 is a step towards its minimum."""
    return global_mean((assignment * distance).sum(1))


def one_hot_log(codes: Tensor, scenarios: int) -> Tensor:
    """(R, K) log of given scenarios; an unknown one (-1) is shared evenly."""
    uniform = -torch.log(torch.tensor(float(scenarios)))
    known = torch.where(F.one_hot(codes.clamp_min(0), scenarios).bool(), 0.0, -torch.inf)
    return torch.where((codes < 0)[:, None], uniform, known)
