"""Whether a simulated ad is clicked: a logit of the user, the ad, the page, and what the user did strictly before.

There are no planted scenarios here: `simulate hotels` has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musenet.simulators.ads.behaviour import Behaviour
from musenet.simulators.ads.pages import Pages
from musenet.simulators.ads.published import DAY, FIRST_EVENT, FIRST_IMPRESSION, LOG_DAYS
from musenet.simulators.ads.world import Ads, Categories, Population
from musenet.simulators.arrays import Doubles, Integers

BRAND_WEIGHT, CATEGORY_WEIGHT = 0.25, 0.05
"""Of log(1 + earlier events) of the ad's category and brand, and of its category."""
FATIGUE = 0.03
"""Of log(1 + impressions on earlier pages)."""
BUSY_WEIGHT = -0.3
"""Of the logarithm of the user's impressions: whoever is shown little clicks more of it."""
PRICE_WEIGHT = -0.07
ACTIVITY_WEIGHT = 0.3
"""Of the logarithm of the user's events."""
PID_WEIGHTS = (0.0, 0.07)
GENDER_WEIGHTS = (0.0, -0.04, 0.04)
AGE_WEIGHTS = (0.02, 0.07, 0.0, -0.01, -0.04, 0.01, 0.09)
SHOPPING_WEIGHTS = (0.0, 0.05, 0.01, 0.0)
DAY_WEIGHTS = (0.0,) * 6 + (-0.04, -0.02)
USER_DEVIATION, AD_DEVIATION, TASTE_DEVIATION = 0.7, 0.6, 0.9
"""Of what no column tells: how a user clicks, how an ad draws, and how the two suit each other."""
POPULARITY_WEIGHT = 0.12
"""Of the logarithm of an ad's impressions."""


@dataclass(frozen=True)
class AdAppeal:
    """What an ad adds to the log-odds (A)."""

    logit: Doubles

    @classmethod
    def draw(cls, ads: Ads, generator: np.random.Generator) -> AdAppeal:
        """Draw the appeal of each ad: by price, popularity and chance."""
        chance = generator.normal(0.0, AD_DEVIATION, len(ads.price))
        return cls(PRICE_WEIGHT * np.log(ads.price) + POPULARITY_WEIGHT * np.log(ads.popularity) + chance)


def click_log_odds(
    pages: Pages,
    behaviour: Behaviour,
    users: Population,
    ads: Ads,
    appeal: AdAppeal,
    categories: Categories,
    generator: np.random.Generator,
) -> Doubles:
    """Return the log-odds (N) of a click on each impression, but for the intercept."""
    of_user = (
        np.array(GENDER_WEIGHTS)[users.gender]
        + np.array(AGE_WEIGHTS)[users.age]
        + np.array(SHOPPING_WEIGHTS)[users.shopping]
        + BUSY_WEIGHT * np.log(users.rows)
        + ACTIVITY_WEIGHT * np.log1p(users.events)
        + generator.normal(0.0, USER_DEVIATION, len(users.rows))
    )
    taste = generator.normal(0.0, TASTE_DEVIATION, len(pages.ad))
    by_category, by_brand = earlier_events(pages, behaviour, ads, len(users.rows), len(categories.number))
    log_odds: Doubles = (
        of_user[pages.user]
        + appeal.logit[pages.ad]
        + np.array(PID_WEIGHTS)[pages.pid]
        + np.array(DAY_WEIGHTS)[(pages.seconds - FIRST_IMPRESSION) // DAY]
        - FATIGUE * np.log1p(pages.earlier)
        + CATEGORY_WEIGHT * np.log1p(by_category)
        + BRAND_WEIGHT * np.log1p(by_brand)
        + taste[pages.original]
    )
    return log_odds


def earlier_events(
    pages: Pages, behaviour: Behaviour, ads: Ads, users: int, categories: int
) -> tuple[Integers, Integers]:
    """Count the user's events in earlier seconds of each impression's category (N), and of its brand (N; 0 without)."""
    category = ads.category[pages.ad]
    shown = np.zeros((users, categories), np.bool_)
    shown[pages.user, category] = True
    some = np.flatnonzero(shown[behaviour.user, behaviour.category])  # the others count for nothing
    user, seconds = behaviour.user[some], behaviour.seconds[some]
    of_category = _count_before(
        user * categories + behaviour.category[some], seconds, pages.user * categories + category, pages.seconds
    )
    brand = ads.brand[pages.ad]
    brands = int(max(behaviour.brand.max(initial=0), brand.max(initial=0))) + 1
    of_brand = _count_before(user * brands + behaviour.brand[some], seconds, pages.user * brands + brand, pages.seconds)
    return of_category, np.where(brand >= 0, of_brand, 0)


def _count_before(key: Integers, seconds: Integers, asked_key: Integers, asked_seconds: Integers) -> Integers:
    """Count the entries of the same key in strictly earlier seconds."""
    span = LOG_DAYS * DAY
    entries = np.sort(key * span + seconds - FIRST_EVENT)
    start = asked_key * span
    return np.searchsorted(entries, start + asked_seconds - FIRST_EVENT) - np.searchsorted(entries, start)
