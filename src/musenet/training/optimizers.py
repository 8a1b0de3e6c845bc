"""Adam with decoupled weight decay, dense for the networks and lazy for the embedding table."""

import torch
from torch import Tensor

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
        groups = [{"params": group.parameters, "lr": learning_rate * group.rate} for group in model.parameter_groups()]
        self.rates = [float(str(group["lr"])) for group in groups]
        self.embedding_rate = embedding_learning_rate
        self.dense = torch.optim.AdamW(groups, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True)
        self.lazy = LazyAdam(model.table, embedding_learning_rate, betas, weight_decay=weight_decay)

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        self.dense.zero_grad(set_to_none=True)

    def step(self, share: float = 1.0) -> None:
        """One step of both by the sum of the workers' gradients, at this share of their learning rates."""
        for group, rate in zip(self.dense.param_groups, self.rates, strict=True):
            group["lr"] = share * rate
        workers.sum_gradients(parameter for group in self.dense.param_groups for parameter in group["params"])
        self.lazy.learning_rate = share * self.embedding_rate
        self.dense.step()
        self.lazy.step()

    def state(self) -> dict[str, Tensor | InPieces]:
        """Everything needed to go on, by name; the moments of the whole table."""
        table = self.lazy.table
        tensors = {"lazy.mean": table.whole(self.lazy.mean), "lazy.square": table.whole(self.lazy.square)}
        tensors["lazy.steps"] = torch.tensor(self.lazy.steps)
        for place, state in self.dense.state_dict()["state"].items():
            tensors |= {f"dense.{place}.{name}": value for name, value in state.items()}
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        self.lazy.mean.copy_(tensors["lazy.mean"])
        self.lazy.square.copy_(tensors["lazy.square"])
        self.lazy.steps = int(tensors["lazy.steps"])
        whole = self.dense.state_dict()
        whole["state"] = {}
        for key, tensor in tensors.items():
            if key.startswith("dense."):
                _, place, name = key.split(".")
                whole["state"].setdefault(int(place), {})[name] = tensor
        self.dense.load_state_dict(whole)
