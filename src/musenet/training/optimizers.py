"""Adam with decoupled weight decay, dense for the networks and lazy for the embedding table."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from musenet.distributed import workers
from musenet.distributed.pieces import InPieces
from musenet.models.embedding import EmbeddingTable
from musenet.models.interface import ClickModel


class LazyAdam:
    """Adam on the embedding rows that a step used, on any worker, with a moment per element; others are left alone.

    Equals `torch.optim.SparseAdam`, and dense `AdamW` as long as every row occurs in every step. A step costs the same
    however large the table is. Source of the decay: Loshchilov and Hutter (2019), Decoupled
    Weight Decay Regularization.

    Args:
        table: whose `look_up` recorded the rows and whose leaf the backward pass reached.
        learning_rate: of Adam.
        betas: decay of the two moments.
        epsilon: added to the root of the second moment.
        weight_decay: share of a row, times the learning rate, that a step takes off it.
    """

    def __init__(
        self,
        table: EmbeddingTable,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.table = table
        self.learning_rate = learning_rate
        self.betas = betas
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.steps = 0
        self.mean = torch.zeros_like(table.weight)
        self.square = torch.zeros_like(table.weight)

    @torch.no_grad()
    def step(self) -> None:
        """Update the rows of the last look-up by the gradient of its leaf."""
        summed = self.table.summed_gradient()
        if summed is None:
            return
        rows, gradient = summed
        first, second = self.betas
        self.steps += 1
        mean = self.mean.index_select(0, rows).lerp_(gradient, 1 - first)
        square = self.square.index_select(0, rows).mul_(second).addcmul_(gradient, gradient, value=1 - second)
        self.mean.index_copy_(0, rows, mean)
        self.square.index_copy_(0, rows, square)
        size = self.learning_rate * (1 - second**self.steps) ** 0.5 / (1 - first**self.steps)
        updated = self.table.weight.index_select(0, rows).mul_(1 - self.learning_rate * self.weight_decay)
        updated.addcdiv_(mean, square.sqrt_().add_(self.epsilon), value=-size)
        self.table.weight.index_copy_(0, rows, updated)


class DenseAdam:
    """Adam of the networks with decoupled weight decay, by torch's fused kernel; of parameters that have a gradient.

    Equals `torch.optim.AdamW(fused=True)`, which is not taken since making one imports torch's compiler: two seconds.

    Args:
        groups: parameters and their learning rates.
        betas: decay of the two moments.
        epsilon: added to the root of the second moment.
        weight_decay: share of a parameter, times the learning rate, that a step takes off it.
    """

    def __init__(
        self,
        groups: Sequence[tuple[Sequence[Tensor], float]],
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.groups = groups
        self.betas = betas
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.parameters = [parameter for group, _ in groups for parameter in group]
        self.state = {parameter: _moments(parameter) for parameter in self.parameters}

    @torch.no_grad()
    def step(self, share: float = 1.0) -> None:
        """Update the parameters by their gradients, at this share of the learning rates."""
        for group, rate in self.groups:
            moved = [parameter for parameter in group if parameter.grad is not None]
            adamw(
                moved,
                [parameter.grad for parameter in moved if parameter.grad is not None],
                [self.state[parameter]["exp_avg"] for parameter in moved],
                [self.state[parameter]["exp_avg_sq"] for parameter in moved],
                [],
                [self.state[parameter]["step"] for parameter in moved],
                fused=True,
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=share * rate,
                weight_decay=self.weight_decay,
                eps=self.epsilon,
                maximize=False,
            )


def _moments(parameter: Tensor) -> dict[str, Tensor]:
    """Steps that a parameter took and its two moments, called as in torch's checkpoints."""
    moments = {name: torch.zeros_like(parameter, requires_grad=False) for name in ("exp_avg", "exp_avg_sq")}
    return {"step": torch.zeros((), device=parameter.device)} | moments


class Optimizers:
    """What a step changes by gradient: the networks by dense Adam, the embedding table by lazy Adam.

    Args:
        model: its `parameter_groups` name the dense parameters and their rates.
        learning_rate: base rate of the networks.
        embedding_learning_rate: rate of the embedding table.
        weight_decay: of all of them.
        betas: decay of the two moments, of all of them.
    """

    def __init__(
        self,
        model: ClickModel,
        learning_rate: float,
        embedding_learning_rate: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        groups = [(group.parameters, learning_rate * group.rate) for group in model.parameter_groups()]
        self.embedding_rate = embedding_learning_rate
        self.dense = DenseAdam(groups, betas, weight_decay=weight_decay)
        self.lazy = LazyAdam(model.table, embedding_learning_rate, betas, weight_decay=weight_decay)

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        for parameter in self.dense.parameters:
            parameter.grad = None

    def step(self, share: float = 1.0) -> None:
        """One step of both by the sum of the workers' gradients, at this share of their learning rates."""
        workers.sum_gradients(self.dense.parameters)
        self.lazy.learning_rate = share * self.embedding_rate
        self.dense.step(share)
        self.lazy.step()

    def state(self) -> dict[str, Tensor | InPieces]:
        """Everything needed to go on, by name; the moments of the whole table."""
        table = self.lazy.table
        tensors = {"lazy.mean": table.whole(self.lazy.mean), "lazy.square": table.whole(self.lazy.square)}
        tensors["lazy.steps"] = torch.tensor(self.lazy.steps)
        for place, parameter in enumerate(self.dense.parameters):
            tensors |= {f"dense.{place}.{name}": value for name, value in self.dense.state[parameter].items()}
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        self.lazy.mean.copy_(tensors["lazy.mean"])
        self.lazy.square.copy_(tensors["lazy.square"])
        self.lazy.steps = int(tensors["lazy.steps"])
        for key, tensor in tensors.items():
            if key.startswith("dense."):
                _, place, name = key.split(".")
                self.dense.state[self.dense.parameters[int(place)]][name].copy_(tensor)
