"""What a log is known by, though it grows and its oldest rows are dropped: some of its clicks."""

import numpy as np
from numpy.typing import NDArray

from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import Relation
from musenet.dataset.roles import ITEM, USER
from musenet.dataset.texts import text_of
from musenet.serving.scorer.repeats import checksums

MARKS = 64
AT_ONCE = 1 << 20
"""Impressions whose numbers are computed at once."""

Numbers = NDArray[np.uint64]


def log_marks(dataset: Dataset) -> list[str]:
    """Numbers of a log's first clicks, and the smallest of all its clicks' numbers, as text.

    A click's number is made of its user, item and time. New rows leave the first clicks what they are; where old rows
    are dropped, as large a part of the smallest numbers stays as of the clicks. Another log shares none.
    """
    user, item = _numbers_of_ids(dataset, "users", USER), _numbers_of_ids(dataset, "items", ITEM)
    requests, candidates = dataset.requests, dataset.candidates
    first = smallest = np.zeros(0, dtype=np.uint64)
    for begin in range(0, len(candidates.label), AT_ONCE):
        clicked = begin + np.flatnonzero(candidates.label[begin : begin + AT_ONCE] > 0)
        request = np.searchsorted(requests.candidate_offset, clicked, side="right") - 1
        pair = user[requests.user[request]] << np.uint64(32) | item[candidates.item[clicked]]
        found = _mixed(_mixed(requests.time[request].astype(np.uint64)) ^ pair)
        first = np.concatenate([first, found])[:MARKS]
        smallest = np.unique(np.concatenate([smallest, found]))[:MARKS]
    return sorted(f"{number:016x}" for number in {*first.tolist(), *smallest.tolist()})


def _numbers_of_ids(dataset: Dataset, relation: Relation, role: str) -> Numbers:
    """(rows) 32 bits of each id."""
    ids = text_of(dataset.keys(relation, [role])[role].combine_chunks()).to_pylist()
    return checksums((text,) for text in ids).astype(np.uint64)


def _mixed(number: Numbers) -> Numbers:
    """Another number for each, as good as random (SplitMix64)."""
    number = number + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        number = (number ^ (number >> np.uint64(shift))) * np.uint64(factor)
    return number ^ (number >> np.uint64(31))
