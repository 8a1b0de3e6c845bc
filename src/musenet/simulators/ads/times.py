"""When simulated users do things: in sessions, some seconds apart, mostly in the evening."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musenet.simulators.ads.published import DAY, HOUR_WEIGHTS
from musenet.simulators.arrays import Booleans, Doubles, Integers

HOURS = np.cumsum(HOUR_WEIGHTS) / np.sum(HOUR_WEIGHTS)


@dataclass(frozen=True)
class Calendar:
    """When sessions begin and how they go on; seconds are those of the epoch."""

    first: int  # midnight of the first day
    last: int  # no second lies behind it
    days: Doubles  # cumulative shares
    stay: float  # probability that something is in the same session as what was done before
    gap: float  # mean seconds between two things of a session


def draw_moments(user: Integers, calendar: Calendar, generator: np.random.Generator) -> tuple[Integers, Booleans]:
    """Return the second of each of n things (n), and which begin a session, given each one's user in ascending order.

    A user's sessions are in order; one that lasts long may overlap the next.
    """
    begins = generator.random(len(user), np.float32) >= calendar.stay
    begins[0] = True
    np.logical_or(begins[1:], user[1:] != user[:-1], out=begins[1:])
    first = np.flatnonzero(begins)
    day = np.searchsorted(calendar.days, generator.random(len(first)), side="right")
    hour = np.searchsorted(HOURS, generator.random(len(first)), side="right")
    start = day * DAY + hour * 3600 + generator.integers(3600, size=len(first))
    span = len(calendar.days) * DAY
    start = np.sort(user[first] * span + start) - user[first] * span
    gap = generator.standard_exponential(len(user), np.float32)
    gap[first] = 0.0
    elapsed = np.cumsum(gap, dtype=np.float64)
    session = np.cumsum(begins) - 1
    within = ((elapsed - elapsed[first][session]) * calendar.gap).astype(np.int64)
    seconds = calendar.first + start[session] + within
    return np.minimum(seconds, calendar.last), begins


def spread_out(user: Integers, seconds: Integers, calendar: Calendar) -> Integers:
    """Return the seconds in order for each user (ascending), moved so that no two of one user are the same."""
    place = np.arange(len(user))
    base = user * (2 * len(calendar.days) * DAY) - calendar.first  # users are further apart than their times can be
    ordered = np.sort(seconds + base)
    forwards = np.maximum.accumulate(ordered - place) + place - base
    ends = np.flatnonzero(np.append(user[1:] != user[:-1], True))
    after = np.repeat(ends, np.diff(ends, prepend=-1)) - place
    spread: Integers = np.minimum(forwards, calendar.last - after)
    return spread
