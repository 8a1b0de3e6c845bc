"""A copy of a model that answers one request: all that export needs differently from training stands here.

Shapes: U distinct rows of the embedding table, N candidates, L history events, K scenarios, D embedding.
"""

from collections.abc import Sequence
from copy import deepcopy
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musenet.dataset.batch import Batch
from musenet.models.embedding import FieldEmbeddings
from musenet.models.interface import ClickModel
from musenet.models.layers import ParallelLinear, TwoSidedMLP
from musenet.models.musenet.intentions import InOrder, IntentionModules, combine
from musenet.models.musenet.pruning import ScenarioPruning

OF_CANDIDATES = ("candidate_codes", "candidate_dense", "repeat_features")
INPUTS = ("values", "request_codes", "history_codes", "request_dense", "predefined_scenario", *OF_CANDIDATES)
"""Of one request: `values` (U, D) are the embeddings of the rows in use, codes are places in them; see `Batch`."""


class LookedUp(nn.Module):
    """Stands for the embedding table where its rows are given."""

    def look_up(self, rows: Tensor) -> Tensor:
        """The rows themselves."""
        return rows


class LookedUpFields(FieldEmbeddings):
    """Takes one operator a look-up, where counting rows takes one each."""

    def forward(self, values: Tensor, codes: Tensor) -> Tensor:
        """(rows, out) from the looked-up `values` (U, D) and `codes` (rows, widths)."""
        chosen = codes if self.everything else codes[:, self.single]
        parts = [F.embedding(chosen, values).flatten(1)]
        for begin, end in self.multiple:  # ONNX has no bags; the row of padding is zero
            own = codes[:, begin:end]
            parts.append(F.embedding(own, values).sum(1) / (own > 0).sum(1, keepdim=True).clamp_min(1))
        return torch.cat(parts, dim=1)


class _Networks(NamedTuple):
    """Parameters of networks side by side."""

    bias: Tensor
    """(K·hidden[0]) of the first layers."""
    first: list[Tensor]
    """(candidate, hidden[0]) weights of each first layer."""
    rest: list[list[tuple[Tensor, Tensor]]]
    """Weights (in, out) and biases (1, out) of each network's other layers."""


class OneByOne(TwoSidedMLP):
    """Each network by itself: ONNX Runtime then adds the request's part and applies ReLU within the products.

    That takes half of the time.
    """

    def forward(self, request_part: Tensor, candidate: Tensor, of: Tensor, network: Tensor | None = None) -> Tensor:
        """(K, N) one number per network and candidate; (1, N) of the one `network` (1,) if given."""
        bias, weights, rest = self._apart if network is None else self._of_one(network)
        answers = []
        for part, first, layers in zip((request_part + bias).chunk(len(weights), dim=1), weights, rest, strict=True):
            x = torch.addmm(part, candidate, first)
            for activate, (weight, shift) in zip(self.mlp.activations, layers, strict=True):
                x = torch.addmm(shift, activate(x), weight)
            answers.append(x)
        return torch.cat(answers, dim=1).T

    @cached_property
    def _apart(self) -> _Networks:
        """Of all networks, taken apart before the model is traced: traced, every piece would cost seconds."""
        networks = [self._of_one(torch.tensor([network])) for network in range(self.mlp.networks)]
        return _Networks(self.mlp.first.bias, [n.first[0] for n in networks], [n.rest[0] for n in networks])

    def _of_one(self, network: Tensor) -> _Networks:
        """Of the one `network` (1,)."""

        def own(layer: nn.Module, name: str) -> Tensor:
            every = layer.get_parameter(name)
            return every.view(self.mlp.networks, -1, *every.shape[1:]).index_select(0, network).squeeze(0)

        first = self.mlp.first
        layers = [(own(layer, "weight")[0], own(layer, "bias")[0]) for layer in self.mlp.rest]
        return _Networks(own(first, "bias"), [own(first, "weight").T], [layers])


class OneProduct(ParallelLinear):
    """All networks in one product, for few rows."""

    def forward(self, x: Tensor, network: Tensor | None = None) -> Tensor:
        """(K, rows, out); (1, rows, out) of the one `network` (1,) if given."""
        return super().forward(x, network) if network is not None else torch.baddbmm(self.bias, x, self.weight)


class RecurrenceOfAnyLength(nn.GRU):
    """ONNX's own operator, where torch's exporter writes out as many steps as the example has.

    Its gates stand in another order.
    """

    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """(R, L, units) all states and (1, R, units) the last, from (R, L, inputs)."""
        assert hx is None and self.num_layers == 1 and self.batch_first

        def gates(name: str) -> Tensor:
            reset, update, new = self.get_parameter(f"{name}_l0").chunk(3)
            return torch.cat([update, reset, new])

        states = torch.onnx.ops.symbolic(
            "GRU",
            (
                x.transpose(0, 1),
                gates("weight_ih")[None],
                gates("weight_hh")[None],
                torch.cat([gates("bias_ih"), gates("bias_hh")])[None],
            ),
            {"hidden_size": self.hidden_size, "linear_before_reset": 1},
            dtype=x.dtype,
            shape=(x.shape[1], 1, x.shape[0], self.hidden_size),
        )
        return states[:, 0].transpose(0, 1), states[-1]


class KnownScenarios(ScenarioPruning):
    """Says which scenarios are left before the model is traced: it is asked once by then."""

    @cached_property
    def left(self) -> Tensor:
        """(J,) the scenarios that are left, ascending."""
        return super().left


class EveryCandidateInOrder(InOrder):
    """Says that candidates that repeat and those that do not are together as many as there were before."""

    def forward(self, apart: Tensor, place: Tensor, batch: Batch) -> Tensor:
        """(N, K), as `InOrder`."""
        return super().forward(apart, place, batch).index_select(0, torch.arange(batch.candidates))


class NothingRepeats(IntentionModules):
    """Without the repeat branch, for requests no candidate of which is a repeat."""

    def forward(
        self, request: Tensor, candidate: Tensor, batch: Batch, scenario: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `IntentionModules`."""
        intention = self.intention(request, scenario).squeeze(2).T
        score = self.explore(self.explore.request_part(request, scenario), candidate, batch.request, scenario).T
        if self.shared is not None:
            score = score + self.shared(request, candidate, batch)
        return combine(-intention, score, self.form), torch.sigmoid(intention)


TWINS: dict[type[nn.Module], type[nn.Module]] = {
    FieldEmbeddings: LookedUpFields,
    TwoSidedMLP: OneByOne,
    ParallelLinear: OneProduct,
    nn.GRU: RecurrenceOfAnyLength,
    ScenarioPruning: KnownScenarios,
    InOrder: EveryCandidateInOrder,
}
"""Which layers answer otherwise than in training."""


def one_request(model: ClickModel, *, repeats: bool = True) -> ClickModel:
    """A copy of a model for a batch of one request, whose `rows` are the embeddings themselves.

    Args:
        model: stays as it is; of its embedding table nothing is copied.
        repeats: whether some candidate may be a repeat.
    """
    copied = deepcopy(model, {id(model.table): LookedUp()}).eval()
    twins = TWINS | ({} if repeats else {IntentionModules: NothingRepeats})
    for module in copied.modules():
        module.__class__ = twins.get(type(module), type(module))
    return copied


def batch_of(inputs: Sequence[Tensor]) -> Batch:
    """The batch of one request's `INPUTS`, vectors projected; what only training and evaluation read is left empty."""
    given = dict(zip(INPUTS, inputs, strict=True))
    features = given.pop("repeat_features")
    nothing = features[:1, 0] * 0  # (1,)
    events = torch.full((1,), given["history_codes"].shape[0])
    return Batch(
        rows=given.pop("values"),
        **given,
        history_offset=torch.cat([events * 0, events]),
        request=(features[:, 0] * 0).long(),
        repeat_indicator=features[:, 0] > 0.5,
        repeat_features=features,
        repeat_fraction=nothing,
        request_vectors=given["request_dense"][:, :0],
        candidate_vectors=features[:, :0],
        label=nothing,
        weight=None,
        true_scenario=None,
        request_index=torch.zeros(1, dtype=torch.long),
    )
