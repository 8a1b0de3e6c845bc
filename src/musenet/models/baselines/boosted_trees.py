"""LightGBM: gradient boosting of decision trees on the same columns (Ke et al., NeurIPS 2017).

Trees split on values instead of embedding them: a batch becomes one row of columns per candidate, `TreeColumns`.

Shapes: N candidates, C columns.
"""

import re
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musenet.dataset import manifest
from musenet.dataset.batch import Batch, Schema
from musenet.dataset.inputs.repeat_features import REPEAT_FEATURES
from musenet.models.attention import CandidateQuery
from musenet.models.baselines.options import LightGbmOptions, library
from musenet.models.embedding import EmbeddingTable
from musenet.models.interface import ClickModel, Prediction


class TreeColumns:
    """What trees see of every candidate: the columns that networks see, as (N, C) numbers.

    A category is its code, NaN where there is none. A field of several values is its first one and how many there
    are. Of the history, trees get aggregates: how many events, the last event's columns, and the share of events that
    have the candidate's value, which is what the mean of embeddings tells of the candidate. Of a vector, each number is
    a column.

    Args:
        schema: of the batches.
        options: which ids and whether repeat features are seen.
    """

    def __init__(self, schema: Schema, options: LightGbmOptions) -> None:
        self.repeats = options.repeat_features and schema.has_repeats
        self.has_history = bool(schema.history_fields)
        ids = {"user": "user" in options.seen_ids, "item": "item" in options.seen_ids}
        ids["history"] = ids["item"]
        self.request, self.candidate, self.last = (
            _chosen(schema, fields, ids)
            for fields in (schema.request_fields, schema.candidate_fields, schema.history_fields)
        )
        of_codes = [one.categorical for one in (*self.request, *self.candidate, *self.last)]
        matched = ids["item"] or "match" in options.seen_ids
        asked = [at for at, one in enumerate(schema.history_fields) if matched or not one.is_id]
        places = CandidateQuery(schema, asked).places
        self.shared = [(at, place) for at, place in zip(asked, places, strict=True) if place is not None]
        dense = len(schema.request_dense) + len(schema.candidate_dense) + REPEAT_FEATURES * self.repeats
        dense += sum(one.width for one in (*schema.request_vectors, *schema.candidate_vectors))
        self.categorical = of_codes + [False] * (self.has_history + len(self.shared) + dense)
        """(C,) whether a column's numbers are categories."""

    def __call__(self, batch: Batch) -> NDArray[np.float64]:
        """(N, C)."""
        rows, of, offset = batch.rows.cpu(), batch.request.cpu(), batch.history_offset.cpu()
        request, candidate, history = (
            rows[codes.cpu()] for codes in (batch.request_codes, batch.candidate_codes, batch.history_codes)
        )
        counts = offset.diff()
        columns = [one.of(request).index_select(0, of) for one in self.request]
        columns += [one.of(candidate) for one in self.candidate]
        latest = torch.cat([history, history.new_zeros(1, history.shape[1])])[
            torch.where(counts > 0, offset[1:] - 1, -1)
        ]
        columns += [one.of(latest).index_select(0, of) for one in self.last]
        if self.has_history:
            columns += [counts.index_select(0, of), *self._shares(history, candidate, offset, of)]
        of_request = torch.cat([batch.request_dense, batch.request_vectors], dim=1)
        numbers = [of_request.cpu().index_select(0, of), batch.candidate_dense.cpu(), batch.candidate_vectors.cpu()]
        if self.repeats:
            numbers.append(batch.repeat_features.cpu())
        table = torch.cat(
            [*(column.double()[:, None] for column in columns), *(one.double() for one in numbers)], dim=1
        )
        return table.numpy()

    def _shares(self, history: Tensor, candidate: Tensor, offset: Tensor, of: Tensor) -> list[Tensor]:
        """(N,) for each shared column: the share of the request's events that have the candidate's value."""
        counts = offset.diff().index_select(0, of)
        pair = torch.repeat_interleave(counts)  # (P,) the candidate of each pair with an event of its request
        event = torch.arange(len(pair)) + (offset[of] - (counts.cumsum(0) - counts)).index_select(0, pair)
        found = []
        for at, place in self.shared:
            value = candidate[pair, place]
            same = ((history[event, at] == value) & (value > 0)).double()
            found.append(torch.zeros(len(of), dtype=torch.float64).index_add(0, pair, same) / counts.clamp_min(1))
        return found


class _Codes(NamedTuple):
    """A column of codes, made from a side's rows of the embedding table."""

    place: int
    width: int
    first_row: int
    categorical: bool
    counted: bool
    """Whether it is how many of the field's values there are."""

    def of(self, rows: Tensor) -> Tensor:
        """(rows,) from (rows, widths)."""
        if self.counted:
            return (rows[:, self.place : self.place + self.width] > 0).sum(1)
        own = rows[:, self.place]
        return torch.where(own > 0, (own - self.first_row).double(), torch.nan)


def _chosen(schema: Schema, fields: tuple[manifest.Field, ...], ids: dict[str, bool]) -> list[_Codes]:
    """The fields that are no ids, or ids that are seen; buckets are in order and no categories."""
    found, place = [], 0
    for one in fields:
        if not one.is_id or ids[one.side]:
            first_row = schema.first_rows.get(one.vocabulary_name, 0)
            found.append(_Codes(place, one.width, first_row, not one.is_bucketed, False))
            if one.kind == "multi_valued":
                found.append(_Codes(place, one.width, first_row, False, True))
        place += one.width
    return found


class LightGbm(ClickModel):
    """logit = sum over trees of the leaf that the candidate's columns lead to.

    Its trees, as LightGBM writes them, are the one thing in its state; `grown` makes them known. Nothing is learned by
    gradient: `training/boosting.py` grows them.
    """

    options_type = LightGbmOptions

    def __init__(self, options: LightGbmOptions, schema: Schema) -> None:
        super().__init__()
        options.check_installed()
        self.table = EmbeddingTable(1, options.embedding)
        self.columns = TreeColumns(schema, options)
        self.trees: Any = None
        self.text = ""

    def grown(self, text: str) -> None:
        """Answer by these trees from now on."""
        self.text = text
        self.trees = library().Booster(model_str=text) if text else None

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch; 0 before there are trees."""
        like = batch.candidate_dense
        if self.trees is None:
            return Prediction(logit=like.new_zeros(batch.candidates))
        raw = self.trees.predict(self.columns(batch), raw_score=True, num_threads=torch.get_num_threads())
        return Prediction(logit=torch.from_numpy(raw).to(like))

    def get_extra_state(self) -> Tensor:
        """The trees' text as bytes."""
        return torch.from_numpy(np.array(bytearray(self.text.encode())))

    def set_extra_state(self, state: Tensor) -> None:
        """Take over the trees of `get_extra_state`."""
        self.grown(bytes(state.cpu().numpy()).decode())

    def count_parameters(self) -> int:
        """A number for every leaf and a bound for every split."""
        return sum(2 * int(leaves) - 1 for leaves in re.findall(r"^num_leaves=(\d+)$", self.text, re.MULTILINE))
