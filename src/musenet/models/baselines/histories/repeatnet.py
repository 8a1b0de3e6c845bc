"""RepeatNet: does the user repeat or explore? (Ren et al., "RepeatNet", AAAI 2019), for single clicks.

Shapes: R requests, N candidates, L events of the longest history, G units of the encoder.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musenet.dataset.batch import Batch, Schema
from musenet.distributed.workers import global_quotient
from musenet.models.attention import matches, padded_history
from musenet.models.baselines.histories.options import RepeatNetOptions
from musenet.models.embedding import EmbeddingTable
from musenet.models.interface import ClickModel, Prediction, Term, history_columns_of, inputs_of
from musenet.models.layers import TwoSidedMLP
from musenet.models.musenet.intentions import combine


class Attention(nn.Module):
    """softmax_t of v·tanh(W h_last + U h_t): the paper's attention of its mode predictor and decoders."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.last, self.each = nn.Linear(size, size), nn.Linear(size, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)

    def forward(self, states: Tensor, last: Tensor, exists: Tensor) -> Tensor:
        """(R, L) weights from h (R, L, G), its last (R, G) and which events exist (R, L); zero without events."""
        score = self.score(torch.tanh(self.last(last)[:, None] + self.each(states)))[..., 0]
        return torch.softmax(score.masked_fill(~exists, -1e9), dim=1) * exists


class RepeatNet(ClickModel):
    """P(y) = P(r|B) P(y|r, B) for a candidate the user had before, P(e|B) P(y|e, B) for a new one.

    The paper ranks all items after a session, each mode sharing out a probability of one among them. A click log asks
    about one candidate at a time, so each mode's softmax becomes a logit of its own: in repeat mode the pointer's mass
    on the events that equal the candidate, as a logarithm, and an MLP on what the attention read; in explore mode the
    MLP alone. The request's other columns, which the paper does not have, enter everywhere.
    """

    options_type = RepeatNetOptions

    def __init__(self, options: RepeatNetOptions, schema: Schema) -> None:
        super().__init__()
        self.options, units = options, options.encoder
        self.table = EmbeddingTable(schema.embedding_rows, options.embedding)
        self.inputs = inputs_of(options, schema, request_sees_history=False)
        self.schema, self.columns = schema, history_columns_of(self.inputs, options)
        self.encoder = nn.GRU(len(self.columns) * options.embedding, units, batch_first=True)
        self.attentions = nn.ModuleDict({mode: Attention(units) for mode in ("mode", "repeat", "explore")})
        request, candidate = self.inputs.request_size, self.inputs.candidate_size
        self.mode = nn.Linear(request + units, 1)
        self.pointer = nn.Parameter(torch.tensor(0.1))
        self.repeat = TwoSidedMLP(1, request + units, candidate, options.hidden)
        self.explore = TwoSidedMLP(1, request + units, candidate, options.hidden)

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch."""
        values = self.table.look_up(batch.rows)
        request, candidate = self.inputs.request(values, batch), self.inputs.candidate(values, batch)
        codes, exists = padded_history(batch, self.columns)  # (R, L, H), (R, L)
        states = self.encoder(F.embedding(codes, values).flatten(2))[0]
        last = states[torch.arange(batch.requests), (exists.sum(1) - 1).clamp_min(0)] * exists[:, :1]
        weights = {mode: attention(states, last, exists) for mode, attention in self.attentions.items()}
        read = {mode: torch.cat([request, (w[..., None] * states).sum(1)], dim=1) for mode, w in weights.items()}
        mode = self.mode(read["mode"]).index_select(0, batch.request)[:, 0]  # (N,) logit of P(r|B)
        pointed = weights["repeat"].index_select(0, batch.request) * matches(self.schema, batch, codes, self.columns)
        repeat = self.repeat(self.repeat.request_part(read["repeat"]), candidate, batch.request)[0]
        repeat = repeat + self.pointer * (pointed.sum(1) + 1e-3).log()
        explore = self.explore(self.explore.request_part(read["explore"]), candidate, batch.request)[0]
        repeats = combine(mode, repeat, self.options.form)
        explores = combine(-mode, explore, self.options.form)
        logit = torch.where(batch.repeat_indicator, repeats, explores)
        return Prediction(logit=logit, repeat_probability=torch.sigmoid(self.mode(read["mode"])))

    def losses(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Term]:
        """Cross-entropy, and the paper's loss of the mode: of clicks, whether they repeat or explore."""
        assert prediction.repeat_probability is not None
        probability = prediction.repeat_probability[:, 0].index_select(0, batch.request)
        happened = torch.where(batch.repeat_indicator, probability, 1 - probability).clamp_min(1e-6)
        mode = global_quotient(-(happened.log() * batch.label).sum(), batch.label.sum())
        return super().losses(prediction, batch, progress) | {"mode": Term(mode, self.options.mode_loss)}
