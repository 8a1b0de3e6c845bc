"""Columns of vectors: standardised by what training saw of them, then written row by row."""

import numpy as np

from musenet.dataset.column_files import BLOCK, NewColumn, blocks, mapped
from musenet.dataset.manifest import Field
from musenet.dataset.numeric import VectorScale
from musenet.preparation.encoding.encode import Folders
from musenet.preparation.encoding.fields import PlannedField
from musenet.preparation.encoding.numbers import Impressions

CONSTANT = 1e-9
"""Of its mean: numbers that vary less are the same everywhere but for rounding."""


def fit_vector(folders: Folders, entry: PlannedField, shown: Impressions) -> tuple[VectorScale, float]:
    """The scale of a column whose raw vectors are written, and the share of all impressions that lack it."""
    width = mapped(folders.passing, entry.name).shape[1]
    count, mean, squares = 0.0, np.zeros(width), np.zeros(width)
    lacking, total, has_missing = 0.0, 0.0, False
    for begin, values in blocks(folders.passing, entry.name, at_once=max(1, BLOCK // width)):
        weight, everywhere = (
            np.asarray(of(begin, begin + len(values)), dtype=np.float64) for of in (shown.training, shown.all)
        )
        unknown = ~np.isfinite(values).all(axis=1)
        lacking, total = lacking + float(everywhere[unknown].sum()), total + float(everywhere.sum())
        has_missing = has_missing or bool(np.any(unknown & (weight > 0)))
        chosen = ~unknown & (weight > 0)
        if chosen.any():
            known, own = values[chosen].astype(np.float64), weight[chosen]
            here = own @ known / own.sum()
            # Of two parts: what each varies around its own mean, and what lies between the means.
            apart, together = here - mean, count + own.sum()
            squares += own @ (known - here) ** 2 + apart**2 * (count * own.sum() / together)
            mean, count = mean + apart * (own.sum() / together), together
    deviation = np.sqrt(squares / max(count, 1.0))
    constant = deviation <= CONSTANT * np.maximum(1.0, np.abs(mean))
    scale = VectorScale(
        mean=mean.tolist(), deviation=np.where(constant, 1.0, deviation).tolist(), has_missing=has_missing
    )
    return scale, lacking / total


def write_vector(folders: Folders, entry: PlannedField, scale: VectorScale) -> list[Field]:
    """Write the standardised vectors and, if training lacked some, which are missing."""
    assert entry.vector is not None
    width = entry.vector.vector
    side, column = entry.side, entry.source
    vector = Field(
        name=entry.name, side=side, kind="vector", width=width, projection=entry.vector.projection, column=column
    )
    flag = Field(name=f"{entry.name}.missing", side=side, kind="dense", column=column)
    rows = len(mapped(folders.passing, entry.name))
    with NewColumn(folders.kept, vector.name, (rows, width), np.float32) as vectors:
        for _, values in blocks(folders.passing, entry.name, at_once=max(1, BLOCK // width)):
            vectors.append(scale.standardised(values))
    if not scale.has_missing:
        return [vector]
    with NewColumn(folders.kept, flag.name, (rows,), np.float32) as flags:
        for _, values in blocks(folders.passing, entry.name, at_once=max(1, BLOCK // width)):
            flags.append(scale.missing(values))
    return [vector, flag]
