"""HIFN: long and short interests, fused and told apart (Shen et al., CIKM 2022).

Taken from the paper are its four modules. Short-term interests: the latest events as the query, the candidate and each
other ask for them. Long-term interests: the whole history as the short ones ask for it. Fusion: an adaptive gate
between the two. Disentanglement: each is to be more like the mean of its own events than like that of the other's.
Written after its abstract and introduction: each attention is a scaled dot product, and the disentanglement a logistic
loss on pairs, as choices of ours. Adapted: a click log has no search query, so profile and context ask in its place.

Shapes: R requests, N candidates, L events of the longest history, A units.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musenet.dataset.batch import Batch, Schema
from musenet.distributed.workers import global_quotient
from musenet.models.attention import CandidateQuery, dot_attention, of_candidates, padded_history
from musenet.models.baselines.histories.options import HifnOptions
from musenet.models.embedding import EmbeddingTable
from musenet.models.interface import ClickModel, Prediction, Term, history_columns_of, inputs_of
from musenet.models.layers import TwoSidedMLP, widened


class Hifn(ClickModel):
    """logit = MLP([p_u, o_u, b_t, g ∘ s + (1 - g) ∘ l]), g = sigmoid(W_g [s, l, b_t]).

    v = W e of every event e; asked by q, events answer sum_j softmax_j(q·v_j / sqrt(A)) v_j. s = W_s [the short events
    asked by the query, by the candidate, and by each short event i, of j ≤ i, on average over i]; l: all asked by s.
    """

    options_type = HifnOptions

    def __init__(self, options: HifnOptions, schema: Schema) -> None:
        super().__init__()
        self.options, size, units = options, options.embedding, options.units
        self.table = EmbeddingTable(schema.embedding_rows, size)
        self.inputs = inputs_of(options, schema, request_sees_history=False)
        self.columns = history_columns_of(self.inputs, options)
        width = len(self.columns) * size
        request, candidate = self.inputs.request_size, self.inputs.candidate_size
        self.event = nn.Linear(width, units, bias=False)
        self.of_query = nn.Linear(request, units)
        self.candidate_columns = CandidateQuery(schema, self.columns)
        self.of_target = nn.Linear(width, units)
        self.short = nn.Linear(3 * units, units)
        self.gate = nn.Linear(2 * units + candidate, units)
        self.mlp = TwoSidedMLP(1, request, candidate + units, options.hidden)

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch."""
        values = self.table.look_up(batch.rows)
        request, candidate = self.inputs.request(values, batch), self.inputs.candidate(values, batch)
        codes, exists = padded_history(batch, self.columns)  # (R, L, H), (R, L)
        events = self.event(F.embedding(codes, values).flatten(2))  # (R, L, A)
        after = exists.flip(1).long().cumsum(1).flip(1) - 1  # events that come after each
        recent = exists & (after < self.options.recent)
        of, everything, latest = batch.request, of_candidates(events, batch.request), recent[:, None]
        asked = self.of_query(request).unsqueeze(1)
        by_query = dot_attention(asked, events, events, latest)[:, 0].index_select(0, of)
        target = self.of_target(self.candidate_columns(values, batch)).unsqueeze(1)
        by_target = dot_attention(target, everything, everything, of_candidates(latest, of))[:, 0]
        by_cause = self.caused(events, recent).index_select(0, of)
        short = self.short(torch.cat([by_query, by_target, by_cause], dim=1))  # (N, A)
        long = dot_attention(short.unsqueeze(1), everything, everything, of_candidates(exists[:, None], of))[:, 0]
        gate = torch.sigmoid(self.gate(torch.cat([short, long, candidate], dim=1)))
        fused = torch.cat([candidate, gate * short + (1 - gate) * long], dim=1)
        logit = self.mlp(self.mlp.request_part(request), fused, of)[0]
        means = [mean_of(events, seen).index_select(0, of) for seen in (recent, exists)]
        return Prediction(logit=logit, extra={"entanglement": entanglement(short, long, *means)})

    def losses(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Term]:
        """Cross-entropy, and how alike long and short interests are."""
        pairs = prediction.extra["entanglement"]
        entangled = Term(global_quotient(pairs.sum(), len(pairs)), self.options.disentangle)
        return super().losses(prediction, batch, progress) | {"entanglement": entangled}

    def caused(self, events: Tensor, recent: Tensor) -> Tensor:
        """(R, A) mean over the short events of what they and those before them say, of events (R, L, A)."""
        places = torch.arange(events.shape[1], device=events.device)
        seen = recent[:, None] & (places <= places[:, None])  # (R, L, L)
        return mean_of(dot_attention(events, events, events, seen), recent)


def mean_of(events: Tensor, seen: Tensor) -> Tensor:
    """(R, A) mean of the events (R, L, A) that are seen (R, L); zero without."""
    return (events * seen[..., None]).sum(1) / seen.sum(1, keepdim=True).clamp_min(1)


def entanglement(short: Tensor, long: Tensor, of_short: Tensor, of_long: Tensor) -> Tensor:
    """(N,) softplus(s·m_l - s·m_s) + softplus(l·m_s - l·m_l).

    Args:
        short: (N, A) s.
        long: (N, A) l.
        of_short: (N, A) m_s, the mean of the short events.
        of_long: (N, A) m_l, the mean of all.
    """
    apart = widened(of_long - of_short)
    return F.softplus((widened(short) * apart).sum(1)) + F.softplus(-(widened(long) * apart).sum(1))
