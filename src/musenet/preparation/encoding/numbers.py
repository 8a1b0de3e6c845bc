"""Numeric columns: fitted on what training saw of them, then written as dense values and as buckets."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musenet.dataset.column_files import NewColumn, blocks, mapped
from musenet.dataset.layout import relation_folder
from musenet.dataset.manifest import FIRST_VALUE, Field
from musenet.dataset.numeric import FloatArray, NumericTransform
from musenet.dataset.writer import write_vocabulary
from musenet.preparation.encoding.encode import Folders, bucketed_field
from musenet.preparation.encoding.fields import PlannedField
from musenet.preparation.encoding.numeric_fit import fit_numeric

SAMPLED_ROWS = 1 << 22
"""Of a longer column every n-th row is fitted on, so many in all: sorting them is what takes memory."""


@dataclass(frozen=True)
class Impressions:
    """In how many impressions the rows [begin, end) of a relation occur: in all, and in those of training."""

    all: Callable[[int, int], NDArray[Any]]
    training: Callable[[int, int], NDArray[Any]]


@dataclass(frozen=True)
class Fitted:
    """A numeric column's transform, and the share of all impressions that lack it."""

    transform: NumericTransform
    missing: float


def fit_column(folders: Folders, entry: PlannedField, shown: Impressions) -> Fitted:
    """Fit the transform of a column whose raw values are written."""
    assert entry.numeric is not None
    step = -(-len(mapped(folders.passing, entry.name)) // SAMPLED_ROWS) or 1
    sampled: list[tuple[FloatArray, FloatArray]] = [(np.zeros(0), np.zeros(0))]
    lacking, total, has_missing = 0.0, 0.0, False
    for begin, values in blocks(folders.passing, entry.name):
        weight, everywhere = (of(begin, begin + len(values)) for of in (shown.training, shown.all))
        unknown = ~np.isfinite(values)
        lacking += float(np.sum(everywhere[unknown]))
        total += float(np.sum(everywhere))
        has_missing = has_missing or bool(np.any(unknown & (weight > 0)))
        chosen = slice(-begin % step, None, step)
        sampled.append((values[chosen], np.asarray(weight[chosen], dtype=np.float64)))
    values, weight = (np.concatenate(parts) for parts in zip(*sampled, strict=True))
    transform = fit_numeric(values, weight, entry.numeric).model_copy(update={"has_missing": has_missing})
    return Fitted(transform, lacking / total)


def share_missing(folders: Folders, entry: PlannedField, shown: Impressions) -> float:
    """Share of all impressions that lack a number or a vector whose raw values are written."""
    lacking = total = 0.0
    for begin, values in blocks(folders.passing, entry.name):
        weight = np.asarray(shown.all(begin, begin + len(values)), dtype=np.float64)
        there = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        lacking, total = lacking + float(weight[~there].sum()), total + float(weight.sum())
    return lacking / total if total else 0.0


def write_numeric(folders: Folders, entry: PlannedField, transform: NumericTransform) -> list[Field]:
    """Write what a numeric column becomes: its buckets, its dense field, whether it is missing."""
    raw = folders.passing, entry.name
    rows, side, quantiles = (len(mapped(*raw)),), entry.side, transform.numeric == "quantiles"
    fields: list[Field] = []
    writers: list[tuple[NewColumn, Callable[[FloatArray], NDArray[Any]]]] = []
    with ExitStack() as stack:

        def add(field: Field, dtype: Any, become: Callable[[FloatArray], NDArray[Any]]) -> None:
            fields.append(field)
            writers.append((stack.enter_context(NewColumn(folders.kept, field.name, rows, dtype)), become))

        if quantiles:
            add(bucketed_field(entry), np.int32, transform.bucket)
        if side != "history":
            name = f"{entry.name}.rank" if quantiles else entry.name
            add(Field(name=name, side=side, kind="dense", column=entry.source), np.float32, transform.dense)
            if transform.has_missing:
                name = f"{entry.name}.missing"
                add(Field(name=name, side=side, kind="dense", column=entry.source), np.float32, transform.missing)
        for _, values in blocks(*raw):
            for writer, become in writers:
                writer.append(become(values))
    return fields


def write_buckets(folder: Path, entry: PlannedField, transform: NumericTransform, shown: Impressions) -> int:
    """Write the vocabulary of quantile buckets with their counts in training; returns its number of codes."""
    edges = [f"{edge:.6g}" for edge in transform.edges]
    text = [f"{low} to {high}" for low, high in zip(["", *edges], [*edges, ""], strict=True)]
    text = [f"below {edges[0]}", *text[1:-1], f"{edges[-1]} and above"] if edges else ["any"]
    counts = np.zeros(len(text))
    for begin, block in blocks(relation_folder(folder, entry.side), entry.name):
        known = block >= FIRST_VALUE
        weight = shown.training(begin, begin + len(block))[known]
        counts += np.bincount(block[known] - FIRST_VALUE, weights=weight, minlength=len(text))
    write_vocabulary(folder, entry.vocabulary, text, counts.astype(np.int64))
    return len(text) + FIRST_VALUE - 1
