"""What simulated users do on Taobao: they look at, keep, and buy things of categories and brands they return to.

An event continues the one before (a burst), returns to the category of any earlier one, with the same brand or
another, or opens a new category. The chance of something new falls as events grow in number, so that the categories of
a user grow with a power of them; the first are the user's interests, which therefore stay the most frequent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musenet.simulators.ads.published import FIRST_EVENT, LAST_EVENT, LOG_DAYS
from musenet.simulators.ads.times import Calendar, draw_moments
from musenet.simulators.ads.world import Categories
from musenet.simulators.arrays import Integers
from musenet.simulators.chains import originals

KINDS = ("pv", "cart", "fav", "buy")
KIND_SHARES = (0.949982, 0.023720, 0.013837, 0.012461)
"""Without duplicates."""
DUPLICATED = (0.0789, 0.0, 0.0, 0.0882)
"""Share of the events of each kind that the file holds twice."""
INTERESTS = 3

CALENDAR = Calendar(FIRST_EVENT, LAST_EVENT, np.arange(1, LOG_DAYS + 1) / LOG_DAYS, stay=0.92, gap=40.0)
BURST = 0.4
NEW_CATEGORY, NEW_CATEGORY_EXPONENT = 1.3, 0.62
NEW_BRAND = 0.26


@dataclass(frozen=True)
class Behaviour:
    """Events (E) of a block's users, by user and about in order of time, without duplicates."""

    user: Integers  # row in the block
    seconds: Integers
    kind: NDArray[np.uint8]
    category: Integers
    brand: Integers


def draw_behaviour(
    categories: Categories, interests: Integers, events: Integers, generator: np.random.Generator
) -> Behaviour:
    """Draw the given number of events of each user, whose interests (users × INTERESTS) are categories."""
    first = np.cumsum(events) - events
    user = np.repeat(np.arange(len(events)), events)
    number = len(user)
    place = np.arange(number)
    position = place - first[user]
    seconds, begins = draw_moments(user, CALENDAR, generator)
    burst = (generator.random(number, np.float32) < BURST) & ~begins
    returns = first[user] + (position * generator.random(number)).astype(np.int64)
    earlier = np.where(burst, place - 1, returns)
    chance = np.minimum(NEW_CATEGORY * (position + 1.0) ** (NEW_CATEGORY_EXPONENT - 1.0), 1.0)
    opens = (position < INTERESTS) | (~burst & (generator.random(number, np.float32) < chance))
    opened = originals(np.where(opens, place, earlier))
    found = np.zeros(number, np.int64)
    new = np.flatnonzero(opens)
    found[new] = categories.draw(len(new), generator)
    led = np.flatnonzero(position < INTERESTS)
    found[led] = interests[user[led], position[led]]
    category = found[opened]
    rebrands = opens | (~burst & (generator.random(number, np.float32) < NEW_BRAND))
    branded = originals(np.where(rebrands, place, earlier))
    new = np.flatnonzero(rebrands)
    found[new] = categories.draw_brand(category[new], generator)
    thresholds = np.cumsum(KIND_SHARES)[:-1]
    kind = np.searchsorted(thresholds, generator.random(number), side="right").astype(np.uint8)
    return Behaviour(user, seconds, kind, category, found[branded])
