"""Had the user this before? Repeat statistics of a request's candidates, from what is known of the user's past.

Few candidates repeat anything. Short checksums of the items' keys tell most of the others apart without their texts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from musenet.dataset.inputs.repeat_features import REPEAT_FEATURES, repeat_features
from musenet.dataset.roles import MICROSECONDS
from musenet.recipe.repeat import RepeatOptions
from musenet.serving.store.history import RepeatKey, RepeatStatistics, UserHistory, microseconds
from musenet.serving.store.rules import HistoryRules

Places = NDArray[np.int64]
_Counts = Mapping[RepeatKey, RepeatStatistics]
INCOMPLETE = 0
"""The checksum of a key with a missing column; others may share it."""


@dataclass(frozen=True)
class CandidateRepeats:
    """Of every candidate."""

    count: NDArray[np.int64]
    """(N,) how many events had its repeat key."""
    features: NDArray[np.float32]
    """(N, 3) as in `Batch.repeat_features`."""


def checksums(keys: Iterable[RepeatKey]) -> NDArray[np.uint32]:
    """(keys) a number of each; equal keys have equal ones, and a few others, too."""
    numbers = [
        INCOMPLETE if None in key else crc32("\0".join(key).encode("utf-8", "replace"))  # type: ignore[arg-type]
        for key in keys
    ]
    return np.array(numbers, dtype=np.uint32)


def may_be_among(found: NDArray[np.uint32], keys: Iterable[RepeatKey]) -> NDArray[np.bool_]:
    """(rows) whether a key may be among some, or incomplete, by its checksum; where it says no, it is neither."""
    wanted = np.sort(checksums([*keys, (None,)]))
    among: NDArray[np.bool_] = wanted[np.minimum(np.searchsorted(wanted, found), len(wanted) - 1)] == found
    return among


def count_repeats(
    rules: HistoryRules,
    candidates: int,
    keys: Callable[[], Sequence[Sequence[str | None]]],
    history: UserHistory,
    when: float,
    places: Places | None = None,
) -> CandidateRepeats:
    """Count the candidates' repeats.

    Args:
        rules: which columns of the key a candidate may lack.
        candidates: N.
        keys: gives the candidates' keys, column by column; not asked where nothing happened before.
        history: what is known of the user.
        when: the request's time, in seconds.
        places: of the candidates that `keys` speaks of, where no other repeats anything; of all, if left out.
    """
    count = np.zeros(candidates, dtype=np.int64)
    asked = range(candidates) if places is None else places.tolist()
    if rules.repeat is None or not history.repeats or not asked:
        return CandidateRepeats(count, np.zeros((candidates, REPEAT_FEATURES), dtype=np.float32))
    recency = np.full(candidates, np.nan, dtype=np.float32)
    for place, found in zip(asked, _found(rules.repeat, keys(), history.repeats), strict=True):
        if found is not None:
            count[place] = found.count
            if rules.repeat.recency and found.last_time is not None:
                recency[place] = (microseconds(when) - microseconds(found.last_time)) / MICROSECONDS
    return CandidateRepeats(count, repeat_features(count > 0, count, recency))


def _found(
    options: RepeatOptions, columns: Sequence[Sequence[str | None]], counts: _Counts
) -> Iterator[RepeatStatistics | None]:
    """What is known of each candidate's key."""
    if not any(None in column for column in columns):
        yield from map(counts.get, zip(*columns, strict=True))
        return
    optional = [name in options.optional for name in options.key]
    by_lacking: dict[tuple[bool, ...], _Counts] = {}
    for key in zip(*columns, strict=True):
        lacking = tuple(text is None for text in key)
        if any(lacks and not may for lacks, may in zip(lacking, optional, strict=True)):
            yield None
            continue
        if lacking not in by_lacking:
            by_lacking[lacking] = _without(counts, lacking)
        yield by_lacking[lacking].get(key)


def _without(counts: _Counts, lacking: tuple[bool, ...]) -> _Counts:
    """Counts by the columns that a candidate has alone; of an event, these must not be missing."""
    if not any(lacking):
        return counts
    merged: dict[RepeatKey, RepeatStatistics] = {}
    for key, found in counts.items():
        reduced = tuple(None if lacks else text for lacks, text in zip(lacking, key, strict=True))
        if any(text is None and not lacks for lacks, text in zip(lacking, reduced, strict=True)):
            continue
        known = merged.get(reduced)
        times = [one.last_time for one in (found, known) if one is not None and one.last_time is not None]
        merged[reduced] = RepeatStatistics(found.count + (known.count if known else 0), max(times, default=None))
    return merged
