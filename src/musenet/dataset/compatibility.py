"""What a model trained on one dataset is to another: the same fields, codes and scales, or where they moved."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import Array, vocabulary_file
from musenet.dataset.manifest import FIRST_VALUE, MISSING, PADDING, UNSEEN, Field, Manifest
from musenet.dataset.numeric import NumericTransform, VectorScale
from musenet.errors import DatasetError

TOLERANCE = 1e-9
"""What fitted numbers may differ by: a sum depends on the order of its terms."""
OTHER_UNIT = 2.0
"""Deviations that a scale moves by if the number is measured otherwise now; from one period to the next it does not."""
NAMED = 3
"""Names that an error tells of each kind."""
ALONE = {
    "history_length": "length of histories",
    "has_repeats": "repeats",
    "relative": "places in the list",
    "predefined_scenarios": "predefined scenarios",
    "true_scenarios": "number of true scenarios",
    "negative_sampling_rate": "share of negatives kept",
}


class SeenBefore(Dataset):
    """An extended dataset as a model of an earlier state sees it: values that have got codes since are unseen ones.

    Args:
        folder: of the dataset.
        before: what the earlier one says of itself.
    """

    def __init__(self, folder: Path, before: Manifest) -> None:
        super().__init__(folder)
        self.manifest = self.manifest.model_copy(update={"vocabularies": before.vocabularies})

    def column(self, field: Field) -> Array:
        """(rows,) or (rows, width) the whole column of a field."""
        return self._as_before(field, super().column(field))

    def values(self, field: Field, rows: Array | int | slice) -> Array:
        """The field's values in some rows of its side's relation, see `rows_of`."""
        return self._as_before(field, super().values(field, rows))

    def _as_before(self, field: Field, values: Array) -> Array:
        if not field.has_codes:
            return values
        return np.where(values > self.manifest.vocabularies[field.vocabulary_name], UNSEEN, values)


def readable(trained_on: Dataset, other: Dataset) -> Dataset:
    """The second dataset as models of the first see it: itself, or, if it has grown from the first, without new codes.

    Raises:
        DatasetError: naming all that differs, if they cannot be asked about it.
    """
    if _has_grown(trained_on, other):
        return SeenBefore(other.folder, trained_on.manifest)
    check_readable(trained_on, other)
    return other


def _has_grown(first: Dataset, second: Dataset) -> bool:
    """Whether the second is the first, extended: the same but for codes at the vocabularies' ends."""
    names = list(first.manifest.vocabularies)
    if second.manifest.extends is None or names != list(second.manifest.vocabularies):
        return False
    if any(_differences(first.manifest, second.manifest, vocabularies=False)):
        return False
    pairs = ((first.texts(name), second.texts(name)) for name in names)
    return all(later.slice(0, len(earlier)).equals(earlier) for earlier, later in pairs)


def check_readable(trained_on: Dataset, other: Dataset) -> None:
    """Raise unless a model of the first dataset can be asked about the second.

    Compared is what the manifests say. They do not say which events histories and repeats are made of: both datasets
    have to be prepared by one configuration.

    Raises:
        DatasetError: naming all that differs.
    """
    differing = list(_differences(trained_on.manifest, other.manifest))
    if differing:
        raise DatasetError(
            f"{other.folder} cannot be scored by runs of {trained_on.folder}, it differs in {'; '.join(differing)}: "
            "prepare it by the runs' own configuration, from a log that is the same up to the test period"
        )


def check_continuable(trained_on: Dataset, other: Dataset) -> None:
    """Raise unless a model of the first dataset can be trained on with the second: codes and scales may have moved.

    Raises:
        DatasetError: naming all that differs, or a number whose scale moved as if its unit had changed.
    """
    first, second = trained_on.manifest, other.manifest
    differing = [] if first.fields == second.fields else [_fields_apart(first, second)]
    differing += [words for name, words in ALONE.items() if getattr(first, name) != getattr(second, name)]
    differing += [
        f"vocabulary {name}, which has no texts"
        for name in second.vocabularies
        if not all(vocabulary_file(Path(), name).as_posix() in one.checksums for one in (first, second))
    ]
    moved = {} if differing else scales_moved(first, second)
    differing += [f"scale of {name}, by {by:.1f} deviations" for name, by in moved.items() if by > OTHER_UNIT]
    if differing:
        raise DatasetError(
            f"{other.folder} cannot continue runs of {trained_on.folder}, it differs in {'; '.join(differing)}: "
            "prepare both by one configuration, or train without --from"
        )


def rows_before(first: Dataset, second: Dataset) -> NDArray[np.int64]:
    """(rows of the second's embedding table) the row of the first's that stands for the same value; -1 if none does.

    Values are matched by their text; of a number's buckets the one that held the middle of each is taken.
    """
    buckets = {field.vocabulary_name: field.name for field in second.manifest.fields if field.is_bucketed}
    rows = np.full(second.embedding_rows, -1, dtype=np.int64)
    rows[PADDING] = 0
    for name in second.manifest.vocabularies:
        scales = [one.manifest.numeric.get(buckets.get(name, "")) for one in (first, second)]
        if scales[0] and scales[1]:
            values = _buckets_before(NumericTransform(**scales[0]), NumericTransform(**scales[1]))
        else:
            found = pc.fill_null(pc.index_in(second.texts(name), value_set=first.texts(name)), -1 - FIRST_VALUE)
            values = found.to_numpy(zero_copy_only=False).astype(np.int64) + FIRST_VALUE
        codes = np.concatenate([[UNSEEN, MISSING], values])
        begin = second.embedding_offset[name] + UNSEEN
        rows[begin : begin + len(codes)] = np.where(codes > 0, codes + first.embedding_offset[name], -1)
    return rows


def _buckets_before(first: NumericTransform, second: NumericTransform) -> NDArray[np.int64]:
    """(buckets of the second) the first's bucket that held the middle of each; the outermost have no middle."""
    if not second.edges:
        return np.full(1, FIRST_VALUE, dtype=np.int64)
    edges = np.asarray(second.edges)
    middles = [np.nextafter(edges[0], -np.inf), *(edges[1:] + edges[:-1]) / 2, edges[-1]]
    return first.bucket(np.asarray(middles)).astype(np.int64)


def scales_moved(first: Manifest, second: Manifest) -> dict[str, float]:
    """By how many of the first's deviations the second's mean, or a value a deviation from it, stands elsewhere now."""
    moved: dict[str, float] = {}
    for name in first.numeric.keys() & second.numeric.keys():
        scale = NumericTransform(**second.numeric[name])
        stands = scale.undone(np.array([-1.0, 0.0, 1.0]))
        now, before = scale.dense(stands), NumericTransform(**first.numeric[name]).dense(stands)
        moved[name] = float(np.abs(now.astype(np.float64) - before).max())
    for name in first.vectors.keys() & second.vectors.keys():
        one, other = VectorScale(**first.vectors[name]), VectorScale(**second.vectors[name])
        mean, deviation = np.asarray(other.mean), np.asarray(other.deviation)
        probes = np.stack([mean - deviation, mean, mean + deviation]).astype(np.float32)
        moved[name] = float(np.abs(one.standardised(probes) - other.standardised(probes)).max())
    return dict(sorted(moved.items()))


def _fields_apart(first: Manifest, second: Manifest) -> str:
    return _named("fields", {field.name for field in set(first.fields) ^ set(second.fields)})


def _differences(first: Manifest, second: Manifest, *, vocabularies: bool = True) -> Iterator[str]:
    """What a model depends on and the two have not in common, in words."""
    if first.fields != second.fields:
        yield _fields_apart(first, second)
    # The order too: it says where a vocabulary begins in the embedding table.
    others = {name for name, _ in _contents(first).items() ^ _contents(second).items()}
    if vocabularies and (others or list(first.vocabularies) != list(second.vocabularies)):
        yield _named("vocabularies", others)
    fitted, refitted = first.numeric | first.vectors, second.numeric | second.vectors
    scales = {name for name in fitted.keys() | refitted.keys() if not _close(fitted.get(name), refitted.get(name))}
    if scales:
        yield _named("scales of", scales)
    yield from (words for name, words in ALONE.items() if getattr(first, name) != getattr(second, name))


def _contents(manifest: Manifest) -> dict[str, tuple[int, str | None]]:
    """Size and checksum of each vocabulary."""
    return {
        name: (size, manifest.checksums.get(vocabulary_file(Path(), name).as_posix()))
        for name, size in manifest.vocabularies.items()
    }


def _close(first: Any, second: Any) -> bool:
    """Whether two fitted transforms are the same but for rounding."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_close(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_close, first, second))
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(first == second)


def _named(what: str, names: set[str]) -> str:
    """`fields city, price, tag and 4 more`; what differs in its order alone has no names."""
    shown, more = sorted(names)[:NAMED], len(names) - NAMED
    return f"{what} {', '.join(shown)}{f' and {more} more' if more > 0 else ''}".rstrip()
