"""Context that preparation derives from the time, where the log has no column of that name."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from musenet.dataset.roles import MICROSECONDS
from musenet.serving.scorer.messages import EPOCH
from musenet.serving.store.history import microseconds

Times = NDArray[np.int64]
_HOUR = 3600 * MICROSECONDS
_MINUTES_15 = _HOUR // 4
"""Zones change what they differ from UTC by at full quarters of an hour."""


def _local(times: Times, zone: str) -> Times:
    """(rows,) microseconds on the local clock."""
    quarters, places = np.unique(times // _MINUTES_15, return_inverse=True)
    told = ZoneInfo(zone)
    offsets = []
    for quarter in quarters.tolist():
        moment = EPOCH + timedelta(microseconds=quarter * _MINUTES_15)
        try:
            offset = moment.astimezone(told).utcoffset() or timedelta()
        except OverflowError:  # on the calendar's first day, or its last
            offset = timedelta()
        offsets.append(offset // timedelta(microseconds=1))
    return times + np.array(offsets, dtype=np.int64)[places]


def _hour(times: Times, zone: str) -> NDArray[np.int64]:
    return _local(times, zone) // _HOUR % 24


def _weekday(times: Times, zone: str) -> NDArray[np.int64]:
    return (_local(times, zone) // (24 * _HOUR) + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0


CLOCK: Mapping[str, Callable[[Times, str], NDArray[np.int64]]] = {"hour": _hour, "weekday": _weekday}
"""The columns, from UTC microseconds and the log's time zone."""


def told_by_clock(names: Iterable[str], when: float, zone: str) -> dict[str, int]:
    """These columns at one moment, in seconds."""
    moment = np.array([microseconds(when)], dtype=np.int64)
    return {name: int(CLOCK[name](moment, zone)[0]) for name in names}
