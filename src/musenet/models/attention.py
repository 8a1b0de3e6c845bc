"""DIN's attention over a user's history (Zhou et al., KDD 2018).

Shapes: R requests, N candidates, T events of all requests, P pairs of a candidate and an event of its request,
H history columns, D embedding.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musenet.dataset.batch import Batch, Schema
from musenet.models.layers import Standardise, rows_of
from musenet.models.options import Activation
from musenet.models.pairs import GatedPool, PairSums, Standardised, distinct_events, moments, pairs_of


class Dice(nn.Module):
    """p(s) s + (1 - p(s)) alpha s with p = sigmoid of s standardised over the batch: PReLU that moves with the data.

    Args:
        size: units, each with its own alpha.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.standardise = Standardise(size)
        self.slope = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        """(..., size)."""
        gate = torch.sigmoid(self.standardise(x.reshape(-1, x.shape[-1]))).view_as(x)
        return x * torch.addcmul(self.slope, gate, 1 - self.slope)

    @torch.no_grad()
    def standardised(self, x: Tensor, times: Tensor) -> Standardised:
        """By what (rows, size) is standardised: its own moments in training, which move the statistics, else these.

        Args:
            x: (rows, size).
            times: (rows,) how often each row counts.
        """
        norm = self.standardise
        mean, variance, rows = moments(x, times) if self.training else (norm.running_mean, norm.running_var, 0)
        if rows <= 1:
            return Standardised(norm.running_mean, (norm.running_var + norm.eps).rsqrt(), of_batch=False)
        norm.remember(mean, variance, rows)
        return Standardised(mean, (variance + norm.eps).rsqrt(), of_batch=True)


class PRelu(nn.PReLU):
    """max(0, x) + alpha min(0, x): that of torch, whose gradients take twice as long on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """The shape of x."""
        return torch.lerp(torch.relu(x), x, self.weight.to(x.dtype))


def activation(name: Activation, size: int) -> Dice | PRelu:
    """The activation of that name over `size` units."""
    return Dice(size) if name == "dice" else PRelu(init=0.1)


class HistoryAttention(nn.Module):
    """Pools the history anew for every candidate: sum over its request's events of w(q, k) k.

    w is the activation unit, an MLP on [q, k, q - k, q∘k]; as in the paper the weights are not normalised, so that the
    strength of an interest is kept. q holds the candidate's embeddings in the columns that the events share with it; a
    history column that no candidate has asks with zeros.

    The first layer is linear: W [q, k, q - k, q∘k] = (W_1 + W_3) q + (W_2 - W_3) k + W_4 (q∘k). So q is projected once
    per candidate, k once per event, and the concatenation is never built. Events of a request that are alike in these
    columns are computed once and count as often as they occur.

    Args:
        schema: of the batches.
        size: D.
        columns: places of the history columns to use.
        hidden: units of the activation unit.
        kind: its activation.
        told: places of those history columns whose embeddings come out; the others are for weighing alone, and beside
            the pooled history the sum of the weights comes out. All come out, and nothing beside, if left out.
    """

    def __init__(
        self,
        schema: Schema,
        size: int,
        columns: list[int],
        hidden: int = 32,
        kind: Activation = "prelu",
        told: list[int] | None = None,
    ) -> None:
        super().__init__()
        self.columns = columns
        self.query = CandidateQuery(schema, columns)
        self.told = None if told is None else [columns.index(column) for column in told]
        width = size * len(columns)
        self.size, self.out = size, width if self.told is None else size * len(self.told) + 1
        self.from_query = nn.Linear(width, hidden)
        self.from_event = nn.Linear(width, hidden, bias=False)
        self.from_product = nn.Linear(width, hidden, bias=False)
        self.activation = activation(kind, hidden)
        self.weight = nn.Linear(hidden, 1)
        with torch.no_grad():  # begins near a tenth of the sum: unnormalised weights of many events must not blow up
            self.weight.weight.mul_(0.1)
            self.weight.bias.fill_(0.1)

    def forward(self, values: Tensor, batch: Batch) -> Tensor:
        """(N, out) each candidate's history; zero without events.

        Args:
            values: (U, D) looked-up embeddings.
            batch: for events and candidates.
        """
        query = self.query(values, batch)  # (N, H·D)
        if batch.requests == 1 and not torch.is_grad_enabled():
            codes = batch.history_codes[:, self.columns]
            events = rows_of(values, codes)
            return self.pool_one(query, events, self.read(events, codes))
        distinct = distinct_events(batch.history_codes[:, self.columns], batch.history_offset)
        events = rows_of(values, distinct.codes)  # (T, H·D)
        pairs = pairs_of(batch.request, distinct)
        sums = PairSums.apply(  # type: ignore[no-untyped-call]
            pairs, query, events, self.from_query(query), self.from_event(events), self.from_product.weight
        )  # (P, hidden)
        unit, last = self.activation, self.weight
        slope, standardised = (
            (unit.slope, unit.standardised(sums, pairs.times)) if isinstance(unit, Dice) else (unit.weight, None)
        )
        pooled: Tensor = GatedPool.apply(  # type: ignore[no-untyped-call]
            pairs, standardised, sums, self.read(events, distinct.codes), slope, last.weight[0], last.bias[0]
        )
        return pooled

    def read(self, events: Tensor, codes: Tensor) -> Tensor:
        """(T, out) what is pooled of events (T, H·D) with these codes (T, H); zero for padding."""
        if self.told is None:
            return events
        parts = [events[:, at * self.size : (at + 1) * self.size] for at in self.told]
        return torch.cat([*parts, (codes > 0).any(1, keepdim=True).to(events.dtype)], dim=1)

    def pool_one(self, query: Tensor, events: Tensor, read: Tensor) -> Tensor:
        """(N, out) the same for a single request, in one product: W_4 (q∘k) = (W_4 diag k) q is linear in q.

        Args:
            query: (N, H·D).
            events: (T, H·D).
            read: (T, out) what is pooled of them.
        """
        first = self.from_query.weight + self.from_product.weight * events[:, None]  # (T, hidden, H·D)
        bias = self.from_query.bias + self.from_event(events)  # (T, hidden)
        sums = F.linear(query, first.flatten(0, 1), bias.flatten())  # (N, T·hidden)
        pairs = query.shape[0] * events.shape[0]
        weight = self.weight(self.activation(sums.view(pairs, first.shape[1])))
        pooled: Tensor = weight.view(query.shape[0], events.shape[0]) @ read
        return pooled


class CandidateQuery(nn.Module):
    """The candidates' embeddings in the history's columns; zeros for a column that no candidate has.

    Args:
        schema: of the batches.
        columns: places of the history columns.
    """

    def __init__(self, schema: Schema, columns: list[int]) -> None:
        super().__init__()
        self.places = [_place_of(schema, schema.history_fields[column].vocabulary) for column in columns]

    def forward(self, values: Tensor, batch: Batch) -> Tensor:
        """(N, H·D) from the looked-up `values` (U, D)."""
        none = values.new_zeros(batch.candidates, values.shape[1])
        parts = [none if at is None else rows_of(values, batch.candidate_codes[:, [at]]) for at in self.places]
        return torch.cat(parts, dim=1)


def _place_of(schema: Schema, vocabulary: str | None) -> int | None:
    """The column of the candidates' codes that shares this vocabulary; None if there is none."""
    place = 0
    for field in schema.candidate_fields:
        if field.kind != "multi_valued" and field.vocabulary == vocabulary:
            return place
        place += field.width
    return None


def padded_history(batch: Batch, columns: list[int]) -> tuple[Tensor, Tensor]:
    """(R, L, H) codes of every request's events, oldest first, and (R, L) whether there is such an event."""
    if batch.requests == 1 or batch.equally_long:
        return _equally_long_history(batch, columns)
    lengths = batch.history_offset.diff()
    longest = int(lengths.max()) if len(lengths) else 0
    exists = torch.arange(max(1, longest), device=lengths.device) < lengths[:, None]
    codes = batch.history_codes.new_zeros(*exists.shape, len(columns))
    codes[exists] = batch.history_codes[:, columns]
    return codes, exists


def _equally_long_history(batch: Batch, columns: list[int]) -> tuple[Tensor, Tensor]:
    """The same where there is as much of every request, as of a single one: its events, and one of padding."""
    own = batch.history_codes[:, columns].view(batch.requests, -1, len(columns))
    codes = torch.cat([own, own.new_zeros(batch.requests, 1, len(columns))], dim=1)
    return codes, (codes > 0).any(2)


def matches(schema: Schema, batch: Batch, codes: Tensor, columns: list[int]) -> Tensor:
    """(N, L) whether an event has the candidate's value in every column that both have.

    Args:
        schema: of the batches.
        batch: for the candidates.
        codes: (R, L, H) of `padded_history`.
        columns: the history columns that `codes` holds.
    """
    shared = [
        (place, at)
        for place, column in enumerate(columns)
        if (at := _place_of(schema, schema.history_fields[column].vocabulary)) is not None
    ]
    events = codes.index_select(0, batch.request)
    same = events.new_ones(events.shape[:2], dtype=torch.bool)
    for place, at in shared:
        same = same & (events[..., place] == batch.candidate_codes[:, at, None]) & (events[..., place] > 0)
    return same if shared else torch.zeros_like(same)


def dot_attention(query: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> Tensor:
    """(rows, Q, V) sum_l softmax_l(q·k_l / sqrt(A)) v_l over what is seen; zero where nothing is.

    Args:
        query: (rows, Q, A).
        keys: (rows, L, A).
        values: (rows, L, V).
        seen: (rows, Q or 1, L) which l each query sees.
    """
    score = query @ keys.transpose(1, 2) / query.shape[2] ** 0.5
    return (torch.softmax(score.masked_fill(~seen, -1e9), dim=2) * seen) @ values


def of_candidates(x: Tensor, of: Tensor) -> Tensor:
    """(N, …) what each candidate's request has, of (R, …) and the candidates' requests (N,); one request as it is."""
    return x if x.shape[0] == 1 else x.index_select(0, of)
