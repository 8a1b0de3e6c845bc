"""ATRank: self-attention over typed behaviours (Zhou et al., AAAI 2018).

Taken from the paper are its four layers: a behaviour is the sum of what it was, when it was and how; behaviours are
projected into several latent semantic spaces; in each, behaviours influence each other by self-attention, and a
feed-forward network with a residual and normalisation follows; the candidate then asks by vanilla attention. Adapted:
the paper embeds each group of behaviours apart, here what a behaviour was are the columns that `history.columns` names,
its kind among them if wanted; a batch does not tell events' times, so that when it was is its place from the end, in
buckets of doubling width. The candidate's and the request's other columns, which the paper has not, stand beside the
user's vector in an MLP, one of the paper's two ways to score.

Shapes: R requests, N candidates, L events of the longest history, S semantic spaces, A units of each.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musenet.dataset.batch import Batch, Schema
from musenet.models.attention import CandidateQuery, dot_attention, of_candidates, padded_history
from musenet.models.baselines.histories.options import AtRankOptions
from musenet.models.embedding import EmbeddingTable
from musenet.models.interface import ClickModel, Prediction, history_columns_of, inputs_of
from musenet.models.layers import TwoSidedMLP

PLACES = 16
"""Buckets of an event's place: 0 is the last, then 1, 2 to 3, 4 to 7, …"""


class AtRank(ClickModel):
    """logit = MLP([p_u, o_u, b_t, e]), e = sum_l softmax_l(q(b_t)·c_l / sqrt(S A)) c_l.

    c = norm(z + FFN(z)), z_l = [over the spaces: sum_j softmax_j(s_l W s_j / sqrt(A)) s_j'], s and s' the projections
    of the behaviours u_l = e_l + place_l into a space.
    """

    options_type = AtRankOptions

    def __init__(self, options: AtRankOptions, schema: Schema) -> None:
        super().__init__()
        size, self.spaces = options.embedding, options.spaces
        self.table = EmbeddingTable(schema.embedding_rows, size)
        self.inputs = inputs_of(options, schema, request_sees_history=False)
        self.columns = history_columns_of(self.inputs, options)
        width, inner = len(self.columns) * size, options.spaces * options.units
        self.place = nn.Embedding(PLACES, width)
        self.register_buffer("bounds", 2 ** torch.arange(PLACES - 1), persistent=False)
        self.bounds: Tensor
        self.query, self.key = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.value = nn.Linear(width, inner)
        self.feed_forward = nn.Sequential(nn.Linear(inner, inner), nn.ReLU(), nn.Dropout(0.0), nn.Linear(inner, inner))
        self.norm = nn.LayerNorm(inner)
        self.candidate_columns = CandidateQuery(schema, self.columns)
        self.asked = nn.Linear(width, inner)
        self.mlp = TwoSidedMLP(1, self.inputs.request_size, self.inputs.candidate_size + inner, options.hidden)

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch."""
        values = self.table.look_up(batch.rows)
        codes, exists = padded_history(batch, self.columns)  # (R, L, H), (R, L)
        behaviours = of_candidates(self.behaviours(values, codes, exists), batch.request)  # (N, L, S·A)
        query = self.asked(self.candidate_columns(values, batch)).unsqueeze(1)
        user = dot_attention(query, behaviours, behaviours, of_candidates(exists, batch.request)[:, None])[:, 0]
        candidate = torch.cat([self.inputs.candidate(values, batch), user], dim=1)
        request_part = self.mlp.request_part(self.inputs.request(values, batch))
        return Prediction(logit=self.mlp(request_part, candidate, batch.request)[0])

    def behaviours(self, values: Tensor, codes: Tensor, exists: Tensor) -> Tensor:
        """(R, L, S·A) c: every event as the others of its request have influenced it."""
        after = exists.flip(1).long().cumsum(1).flip(1) - 1  # events that come after each
        bucket = (after[..., None] >= self.bounds).sum(2)
        u = F.embedding(codes, values).flatten(2) + self.place(bucket)

        def apart(x: Tensor) -> Tensor:  # (R·S, L, A)
            return torch.unflatten(x, 2, (self.spaces, -1)).transpose(1, 2).flatten(0, 1)

        seen = exists.repeat_interleave(self.spaces, dim=0)[:, None]
        z = dot_attention(apart(self.query(u)), apart(self.key(u)), apart(self.value(u)), seen)
        z = torch.unflatten(z, 0, (-1, self.spaces)).transpose(1, 2).flatten(2)
        c: Tensor = self.norm(z + self.feed_forward(z))
        return c
