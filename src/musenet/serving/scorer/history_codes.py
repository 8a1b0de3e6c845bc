"""A user's last events as codes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from musenet.dataset.codes import sort_ties
from musenet.serving.scorer.encoder import Encoder
from musenet.serving.store.history import PastEvent, microseconds


def encode_events(encoder: Encoder, events: Sequence[PastEvent], length: int) -> NDArray[np.int64]:
    """(L, history fields) rows of the embedding table of the last events; one row of padding where there is none.

    What happened at once is ordered by its codes, as in a prepared dataset; events without a time keep their order.

    Args:
        encoder: of the export.
        events: oldest first.
        length: the most that a history holds.
    """
    attributes = [event.attributes for event in events]
    codes = encoder.encode("history", attributes, lambda place, name: f"history.{place}.{name}").codes
    if not len(codes) or not codes.shape[1]:
        return np.zeros((1, codes.shape[1]), dtype=np.int64)
    first = np.iinfo(np.int64).min
    times = [first + place if e.time is None else microseconds(e.time) for place, e in enumerate(events)]
    columns = list(codes.T.copy())
    sort_ties(np.zeros(len(times), dtype=np.int64), np.array(times, dtype=np.int64), columns)
    return np.stack(columns, axis=1)[-length:] if length else np.zeros((1, codes.shape[1]), dtype=np.int64)
