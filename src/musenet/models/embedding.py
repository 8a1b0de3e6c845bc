"""One embedding table for all fields, of which a step touches only the rows that its batch uses."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musenet.dataset.batch import Batch, Schema
from musenet.dataset.inputs.repeat_features import REPEAT_FEATURES
from musenet.dataset.manifest import Field
from musenet.distributed import workers
from musenet.distributed.pieces import InPieces
from musenet.distributed.row_shards import RowShards, normal_rows, shards_of
from musenet.models.attention import HistoryAttention
from musenet.models.layers import full_precision, rows_of
from musenet.models.options import Activation, HistoryEncoder, Numbers

_to_be_loaded: ContextVar[bool] = ContextVar("to_be_loaded", default=False)


@contextmanager
def tables_to_be_loaded() -> Iterator[None]:
    """Embedding tables built inside the block have no values and take no memory until some are loaded.

    Of those nothing is copied: what lies in a file that is mapped into memory stays there.
    """
    before = _to_be_loaded.set(True)
    try:
        yield
    finally:
        _to_be_loaded.reset(before)


class EmbeddingTable(nn.Module):
    """Embeddings of all fields, one below the other; row 0 is padding and stays zero.

    `look_up` gives the distinct rows of a batch as a leaf tensor. The backward pass ends there, so that its cost,
    and that of `LazyAdam`, does not grow with the table.

    Built inside `sharded_tables` by several workers, it holds this worker's rows alone, with the values that the whole
    table would have; look-ups and gradients then go through all workers.

    Args:
        rows: rows of the table, padding included.
        size: D.
    """

    def __init__(self, rows: int, size: int) -> None:
        super().__init__()
        self.shards = shards_of(rows)
        own = range(rows) if self.shards is None else self.shards.own
        if _to_be_loaded.get():
            weight = torch.empty(len(own), size, device="meta")
        else:
            weight = normal_rows(rows, size, own).div_(size**0.5)  # rows of about unit length
            if 0 in own:
                weight[0] = 0
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.rows: Tensor | None = None
        self.values: Tensor | None = None

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, local_metadata: dict[str, Any], *more: Any
    ) -> None:
        """As a module does it, but a table without values takes over the loaded tensor rather than a copy."""
        taken_over = {"assign_to_params_buffers": self.weight.is_meta}
        super()._load_from_state_dict(state_dict, prefix, local_metadata | taken_over, *more)

    @property
    def size(self) -> int:
        """D."""
        return self.weight.shape[1]

    def look_up(self, rows: Tensor) -> Tensor:
        """(U, D) the embeddings of the distinct `rows` (U,)."""
        values = self.weight.index_select(0, rows) if self.shards is None else self.shards.look_up(self.weight, rows)
        if torch.is_grad_enabled():
            values.requires_grad_()
            self.rows, self.values = rows, values
        return values

    def stand_by(self, times: int) -> None:
        """Answer so many look-ups of workers that have more batches than this one, if the table is sharded."""
        for _ in range(times if self.shards is not None else 0):
            self.look_up(torch.zeros(1, dtype=torch.long, device=self.weight.device))

    def summed_gradient(self) -> tuple[Tensor, Tensor] | None:
        """(U,) places in `weight` and (U, D) the workers' gradients of the last look-up; None if there are none.

        The look-up is forgotten by that.
        """
        rows, values = self.rows, self.values
        if rows is None or values is None or values.grad is None:
            return None
        self.rows = self.values = None
        values.grad[0] = 0  # rows[0] is padding, which stays zero
        if self.shards is None:
            return workers.sum_by_row(rows, values.grad)
        return self.shards.summed_gradient(values.grad)

    def whole(self, values: Tensor) -> Tensor | InPieces:
        """(rows of the table, D) of `values`, one row for each of `weight`."""
        return values if self.shards is None else self.shards.whole(values)

    def parts(self, *names: str) -> dict[str, RowShards]:
        """Of which tensors of a file only the own rows are to be read; none if the table is whole."""
        return {} if self.shards is None else dict.fromkeys(names, self.shards)


def mean_of_history(values: Tensor, codes: Tensor, offset: Tensor, *, equally_long: bool = False) -> Tensor:
    """(R, H·D) mean embedding of each history column over a request's events; zero without events.

    Args:
        values: (U, D) looked-up embeddings.
        codes: (T, H) events of all requests.
        offset: (R + 1,) where each request's events begin.
        equally_long: as of the batch; `offset` then tells how many events there are, rather than where.
    """
    if codes.shape[1] == 0:
        return values.new_zeros(offset.shape[0] - 1, 0)
    counts = offset[1:] - offset[:-1]
    if equally_long or offset.shape[0] == 2:  # or one request
        events = rows_of(values, codes).view(counts.shape[0], -1, codes.shape[1] * values.shape[1])
        return events.sum(1) / counts.clamp_min(1)[:, None]
    sums = values.new_zeros(len(counts), codes.shape[1] * values.shape[1])
    sums = sums.index_add(0, torch.repeat_interleave(counts), rows_of(values, codes))
    return sums / counts.clamp_min(1)[:, None]


class HistoryMeans:
    """Mean embeddings of some history columns, made once for all who read them.

    Args:
        values: (U, D) looked-up embeddings.
        batch: whose histories are pooled.
        columns: of the history, ascending.
    """

    def __init__(self, values: Tensor, batch: Batch, columns: list[int]) -> None:
        self.columns = columns
        codes, offset = batch.history_codes[:, columns], batch.history_offset
        self.means = mean_of_history(values, codes, offset, equally_long=batch.equally_long)

    def of(self, columns: list[int]) -> Tensor:
        """(R, H·D) of some of the columns."""
        if columns == self.columns:
            return self.means
        requests, width = self.means.shape
        means = self.means.view(requests, len(self.columns), width // len(self.columns))  # of no requests too
        return means[:, [self.columns.index(column) for column in columns]].flatten(1)


def mean_of_values(values: Tensor, codes: Tensor) -> Tensor:
    """(rows, D) mean embedding of each row of a multi-valued field's `codes` (rows, width), padding left out."""
    return F.embedding_bag(codes.contiguous(), values, mode="mean", padding_idx=0)


class FieldEmbeddings(nn.Module):
    """Turns chosen columns of a batch's codes into one row of embeddings.

    Args:
        fields: the fields that the code tensor holds, in order.
        chosen: which of them to use.
        size: D.
    """

    def __init__(self, fields: tuple[Field, ...], chosen: list[Field], size: int) -> None:
        super().__init__()
        names = {field.name for field in chosen}
        self.single: list[int] = []
        self.multiple: list[tuple[int, int]] = []
        start = 0
        for field in fields:
            if field.name in names and field.kind == "multi_valued":
                self.multiple.append((start, start + field.width))
            elif field.name in names:
                self.single.append(start)
            start += field.width
        self.everything = self.single == list(range(start))
        self.out = size * (len(self.single) + len(self.multiple))

    def forward(self, values: Tensor, codes: Tensor) -> Tensor:
        """(rows, out) from the looked-up `values` (U, D) and `codes` (rows, widths)."""
        chosen = codes if self.everything else codes[:, self.single]
        parts = [rows_of(values, chosen)]
        for begin, end in self.multiple:
            parts.append(mean_of_values(values, codes[:, begin:end]))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class Inputs(nn.Module):
    """The two sides of a batch as plain rows: the request's, computed once, and the candidates'.

    Request: profile p_u, context o_u, mean of the history B_u, numeric values. Candidate: item b_t, its circumstances,
    numeric values, with `attention` the history as this candidate sees it and, if asked, the repeat features.

    Args:
        schema: of the batches.
        size: D.
        ids: whose ids are seen, of `user` and `item`; by `match`, attention weighs events by the item's id as well, but
            no embedding of it goes further.
        repeat_features: whether repeat indicator, count and recency are seen.
        history: how events are pooled. Attention comes on top of the mean: what depends on the request alone needs a
            history too.
        request_sees_history: whether the request holds the mean.
        attention: units and activation of the attention's activation unit.
        numbers: how numeric values and repeat features enter.
    """

    def __init__(
        self,
        schema: Schema,
        size: int,
        *,
        ids: Sequence[str],
        repeat_features: bool,
        numbers: Numbers = "plain",
        history: HistoryEncoder = "mean",
        request_sees_history: bool = True,
        attention: tuple[int, Activation] = (16, "prelu"),
    ) -> None:
        super().__init__()
        self.repeat_features = repeat_features and schema.has_repeats
        seen = {"user": "user" in ids, "item": "item" in ids, "history": True, "context": True, "candidate": True}
        self.of_request = FieldEmbeddings(schema.request_fields, _seen(schema.request_fields, seen), size)
        self.of_candidate = FieldEmbeddings(schema.candidate_fields, _seen(schema.candidate_fields, seen), size)
        columns = [place for place, f in enumerate(schema.history_fields) if seen["item"] or not f.is_id]
        self.history_columns = columns
        self.pooled = columns if request_sees_history else []
        told = columns if "match" in ids else None
        weighed = columns if told is None else list(range(len(schema.history_fields)))
        attends = history == "attention" and weighed
        self.attention = HistoryAttention(schema, size, weighed, *attention, told) if attends else None
        counts = (len(schema.request_dense), len(schema.candidate_dense), REPEAT_FEATURES * self.repeat_features)
        embeds = numbers == "embedded"
        self.request_numbers, self.candidate_numbers, self.repeat_numbers = (
            NumberVectors(count, size) if embeds else nn.Identity() for count in counts
        )
        width = size if embeds else 1
        self.request_size = self.of_request.out + len(self.pooled) * size + counts[0] * width
        attended = 0 if self.attention is None else self.attention.out
        self.candidate_size = self.of_candidate.out + attended + (counts[1] + counts[2]) * width

    def request(self, values: Tensor, batch: Batch, history: HistoryMeans | None = None) -> Tensor:
        """(R, request_size); `history` holds the pooled columns, if somebody else reads them too."""
        pooled = (history or HistoryMeans(values, batch, self.pooled)).of(self.pooled)
        numbers = self.request_numbers(batch.request_dense)
        return torch.cat([self.of_request(values, batch.request_codes), pooled, numbers], dim=1)

    def candidate(self, values: Tensor, batch: Batch) -> Tensor:
        """(N, candidate_size)."""
        parts = [self.of_candidate(values, batch.candidate_codes), self.candidate_numbers(batch.candidate_dense)]
        if self.attention is not None:
            with full_precision(values):
                parts.append(self.attention(values, batch))
        if self.repeat_features:
            parts.append(self.repeat_numbers(batch.repeat_features))
        return torch.cat(parts, dim=1)


class NumberVectors(nn.Module):
    """Each number as a vector of its own times its value: what a network learns of it then grows several times as fast.

    Args:
        numbers: how many columns.
        size: D.
    """

    def __init__(self, numbers: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(numbers, size) * (2 / (1 + size)) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, numbers·D) from (rows, numbers)."""
        return (x[:, :, None] * self.weight).flatten(1)


def _seen(fields: tuple[Field, ...], seen: dict[str, bool]) -> list[Field]:
    return [field for field in fields if seen[field.side] or not field.is_id]
