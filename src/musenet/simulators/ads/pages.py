"""What simulated users are shown: pages of mostly three or ten different ads, all of one second.

Which ads: some showing repeats an earlier one of the user, some is of a category that the user is interested in, the
rest is drawn by popularity. Every ad is shown at least once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musenet.simulators.ads.published import DAY_SHARES, FIRST_IMPRESSION, LAST_IMPRESSION
from musenet.simulators.ads.times import Calendar, draw_moments, spread_out
from musenet.simulators.ads.world import Ads
from musenet.simulators.arrays import Booleans, Integers
from musenet.simulators.chains import originals

PIDS = ("430548_1007", "430539_1007")
"""Of pages of three and of ten ads."""
THREE, TEN = 0.768, 0.200
"""Shares of the pages; the rest has four to nine ads, and a user's last page has what is left."""
OTHERS_AS_THREE = 0.755
CALENDAR = Calendar(FIRST_IMPRESSION, LAST_IMPRESSION, np.cumsum(DAY_SHARES) / sum(DAY_SHARES), stay=0.35, gap=150.0)
OF_INTEREST = 0.4
REDRAWS = 2


@dataclass(frozen=True)
class Pages:
    """Impressions (N) of a block's users, by user and time; a page's lie side by side."""

    user: Integers  # row in the block
    page: Integers
    seconds: Integers
    ad: Integers
    pid: Integers  # place in PIDS
    earlier: Integers  # the user's impressions on earlier pages
    original: Integers  # the impression that this one repeats, or itself


def draw_pages(
    ads: Ads, interests: Integers, rows: Integers, once: Integers, copies: float, generator: np.random.Generator
) -> Pages:
    """Draw the given number of impressions of each user.

    Args:
        ads: all ads.
        interests: categories (users × interests).
        rows: impressions of each user.
        once: ads that must be among those shown, as far as there is room.
        copies: chance that an impression repeats one from an earlier page of its user.
        generator: of random numbers.
    """
    page_user, size, pid = _draw_sizes(rows, generator)
    moments, _ = draw_moments(page_user, CALENDAR, generator)
    moments = spread_out(page_user, moments, CALENDAR)
    page = np.repeat(np.arange(len(size)), size)
    user = page_user[page]
    first_of_page = (np.cumsum(size) - size)[page]
    earlier = first_of_page - (np.cumsum(rows) - rows)[user]
    ad, original = _choose(ads, interests, user, page, earlier, once, copies, generator)
    return Pages(user, page, moments[page], ad, pid[page], earlier, original)


def _draw_sizes(rows: Integers, generator: np.random.Generator) -> tuple[Integers, Integers, Integers]:
    """Return each page's user, size and place in PIDS; a user's sizes add up to the rows."""
    user = np.repeat(np.arange(len(rows)), rows)  # as many pages as there can be, of which the first are needed
    chance = generator.random(len(user))
    size = np.where(chance < THREE, 3, np.where(chance < THREE + TEN, 10, generator.integers(4, 10, len(user))))
    before = np.cumsum(size) - size
    before -= before[np.cumsum(rows) - rows][user]
    needed = before < rows[user]
    user = user[needed]
    size = np.minimum(size[needed], rows[user] - before[needed])
    size = size[np.lexsort((generator.random(len(user)), user))]  # the cut page is not always the last
    as_three = (size == 3) | ((size < 10) & (generator.random(len(user)) < OTHERS_AS_THREE))
    return user, size, 1 - as_three.astype(np.int64)


def _choose(
    ads: Ads,
    interests: Integers,
    user: Integers,
    page: Integers,
    earlier: Integers,
    once: Integers,
    copies: float,
    generator: np.random.Generator,
) -> tuple[Integers, Integers]:
    """Return the ad of each impression, and the impression that it repeats or itself."""
    number = len(user)
    place = np.arange(number)
    ad = _draw(ads, interests, user, generator)
    copied = (generator.random(number) < copies) & (earlier > 0)
    own = np.flatnonzero(~copied)
    fixed = np.zeros(number, np.bool_)
    chosen = generator.permutation(own)[: len(once)]
    ad[chosen], fixed[chosen] = once[: len(chosen)], True
    # A user meets an ad again by way of a repeat; chance alone would do it too often where there are few ads.
    for _ in range(REDRAWS):
        again = own[_repeated(user[own], ad[own], fixed[own])]
        ad[again] = _draw(ads, interests, user[again], generator)
    first_of_user = np.searchsorted(user, user)
    first_of_page = np.searchsorted(page, page)
    source = first_of_user + ((first_of_page - first_of_user) * generator.random(number)).astype(np.int64)
    original = originals(np.where(copied, source, place))
    ad = ad[original]
    while len(twice := np.flatnonzero(_repeated(page, ad, fixed))):
        ad[twice] = ads.draw(np.zeros(len(twice)), np.ones(len(twice)), generator)
        original[twice] = twice
    return ad, original


def _draw(ads: Ads, interests: Integers, user: Integers, generator: np.random.Generator) -> Integers:
    """Draw an ad for each user: of one of the interests, the first most often, or any."""
    which = (interests.shape[1] * generator.random(len(user)) ** 2).astype(np.int64)
    category = interests[user, which]
    interested = generator.random(len(user)) < OF_INTEREST
    low = np.where(interested, ads.category_edge[category], 0.0)
    high = np.where(interested, ads.category_edge[category + 1], 1.0)
    return ads.draw(low, high, generator)


def _repeated(group: Integers, ad: Integers, fixed: Booleans) -> Booleans:
    """Return which impressions show an ad that another one of the group does; one of them, fixed if any is, is not."""
    key = (group * 2**21 + ad) * 2 + ~fixed
    order = np.argsort(key, kind="stable")
    repeated = np.zeros(len(ad), np.bool_)
    repeated[order[1:]] = (key[order][1:] >> 1) == (key[order][:-1] >> 1)
    return repeated & ~fixed
