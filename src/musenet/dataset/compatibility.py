"""Whether a model that was trained on one dataset can be asked about another: the same fields, codes and scales."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import vocabulary_file
from musenet.dataset.manifest import Manifest
from musenet.errors import DatasetError

TOLERANCE = 1e-9
"""What fitted numbers may differ by: a sum depends on the order of its terms."""
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


def _differences(first: Manifest, second: Manifest) -> Iterator[str]:
    """What a model depends on and the two have not in common, in words."""
    if first.fields != second.fields:
        yield _named("fields", {field.name for field in set(first.fields) ^ set(second.fields)})
    # The order too: it says where a vocabulary begins in the embedding table.
    vocabularies = {name for name, _ in _contents(first).items() ^ _contents(second).items()}
    if vocabularies or list(first.vocabularies) != list(second.vocabularies):
        yield _named("vocabularies", vocabularies)
    fitted, others = first.numeric | first.vectors, second.numeric | second.vectors
    scales = {name for name in fitted.keys() | others.keys() if not _close(fitted.get(name), others.get(name))}
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
