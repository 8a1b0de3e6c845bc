"""A copy of a model that answers many requests at once, for files of them, as `one_request.py` makes one for a service.

Shapes: R requests, N candidates, L events of the longest history, H history fields, U distinct rows of the table.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from musenet.dataset.batch import Batch
from musenet.models.attention import HistoryAttention
from musenet.models.baselines.scenarios.blocks import Blocks, EveryScenario
from musenet.models.baselines.scenarios.star import Star
from musenet.models.interface import ClickModel
from musenet.models.layers import TwoSidedMLP, rows_of
from musenet.serving.export.one_request import INPUTS, TWINS, LookedUp, OneByOne

INPUTS_OF_MANY = (*INPUTS, "history_lengths", "request")
"""As of one request, but `history_codes` (R, L, H), padding behind the events, of which there are `history_lengths`
(R,); `request` (N,) says whose a candidate is."""


class ManyRequests(Batch):
    """A batch whose requests' histories are equally long, padding included."""

    equally_long = True


class OneByOneOfMany(OneByOne):
    """As of one request, but each candidate is added what is its own request's."""

    def forward(self, request_part: Tensor, candidate: Tensor, of: Tensor, network: Tensor | None = None) -> Tensor:
        """(K, N) one number per network and candidate."""
        return super().forward(request_part.index_select(0, of), candidate, of, network)


class PaddedAttention(HistoryAttention):
    """Over histories that are equally long: padding is read as zero, whatever its weight."""

    def forward(self, values: Tensor, batch: Batch) -> Tensor:
        """(N, out) each candidate's history."""
        requests, of = batch.requests, batch.request
        codes = batch.history_codes[:, self.columns]
        events = rows_of(values, codes)  # (R·L, H·D)

        def of_candidate(rows: Tensor) -> Tensor:
            """(N, L, ·) the rows of each candidate's request."""
            return rows.view(requests, -1, rows.shape[1]).index_select(0, of)

        query = self.query(values, batch)  # (N, H·D)
        sums = self.from_product(query[:, None] * of_candidate(events)) + of_candidate(self.from_event(events))
        sums = sums + self.from_query(query)[:, None]  # (N, L, hidden)
        weight = self.weight(self.activation(sums.flatten(0, 1))).view(sums.shape[0], 1, sums.shape[1])
        return torch.bmm(weight, of_candidate(self.read(events, codes))).squeeze(1)


class StarOfMany(Star):
    """Computes every scenario's network: in blocks of one scenario each, ONNX cannot sort the rows."""

    def blocks(self, codes: Tensor, codes_of: Tensor) -> tuple[Blocks, Blocks]:
        """As `Star`."""
        return EveryScenario(codes, self.scenario.scenarios), EveryScenario(codes_of, self.scenario.scenarios)


_TWINS: dict[type[nn.Module], type[nn.Module]] = TWINS | {
    TwoSidedMLP: OneByOneOfMany,
    HistoryAttention: PaddedAttention,
    Star: StarOfMany,
}


def many_requests(model: ClickModel) -> ClickModel:
    """A copy of a model for batches of `batch_of_many`; the model stays as it is, of its table nothing is copied."""
    copied = deepcopy(model, {id(model.table): LookedUp()}).eval()
    for module in copied.modules():
        module.__class__ = _TWINS.get(type(module), type(module))
    return copied


def batch_of_many(inputs: Sequence[Tensor]) -> ManyRequests:
    """The batch of `INPUTS_OF_MANY`, vectors projected; what only training and evaluation read is left empty."""
    given = dict(zip(INPUTS_OF_MANY, inputs, strict=True))
    lengths, features = given.pop("history_lengths"), given["repeat_features"]
    nothing = lengths.to(features.dtype) * 0
    return ManyRequests(
        rows=given.pop("values"),
        history_codes=given.pop("history_codes").flatten(0, 1),
        history_offset=torch.cat([lengths[:1] * 0, lengths.cumsum(0)]),
        repeat_indicator=features[:, 0] > 0.5,
        repeat_fraction=nothing,
        request_vectors=given["request_dense"][:, :0],
        candidate_vectors=features[:, :0],
        label=features[:, 0] * 0,
        weight=None,
        true_scenario=None,
        request_index=lengths * 0,
        **given,
    )
