"""The published figures of Ali Display Ads that the simulated files keep; docs/simulated-ads.md has both side by side.

They were gathered from what others published about the files.
"""

from __future__ import annotations

import numpy as np

from musenet.simulators.arrays import Doubles

DAY = 86_400
FIRST_EVENT, FIRST_IMPRESSION = 1_492_790_400, 1_494_000_000
"""Midnights in China: 22 April and 6 May 2017."""
LAST_EVENT, LAST_IMPRESSION = 1_494_691_199, 1_494_691_186
LOG_DAYS = 22
DAY_SHARES = (0.1256,) * 6 + (0.1218, 0.1246)
"""Of the impressions, by day."""
HOUR_WEIGHTS = (
    3,
    1.6,
    0.9,
    0.5,
    0.4,
    0.5,
    1,
    2,
    3.2,
    4.2,
    4.8,
    4.8,
    4.8,
    4.9,
    4.9,
    4.9,
    4.8,
    4.6,
    4.8,
    5.6,
    6.8,
    7.4,
    7,
    5,
)
"""Busiest from 20 to 22 o'clock, quietest from 3 to 6; the rest is free."""

IMPRESSIONS, USERS, ADS = 26_557_961, 1_141_729, 846_811
EVENTS = 672_172_988
"""Of the behaviour log, without duplicates and impossible times."""
CAMPAIGNS, CUSTOMERS = 423_436, 255_875
AD_CATEGORIES, CATEGORIES, HIGHEST_CATEGORY = 6_769, 12_968, 12_980
BRANDS, HIGHEST_BRAND = 460_561, 461_497
PROFILE_VALUES = {
    "cms_segid": 97,
    "cms_group_id": 13,
    "final_gender_code": 2,
    "age_level": 7,
    "pvalue_level": 3,
    "shopping_level": 3,
    "occupation": 2,
    "new_user_class_level": 4,
}
"""How many values each column of the profiles has."""
NO_BRAND = 0.2909
CLICK_RATE = 0.051437
REPEATED_PAIRS = 0.1266
"""Share of the impressions whose user has been shown the ad before."""

ROWS_OF_USERS = (
    (0.0, 0.0388, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0),
    (1.0, 1.5, 3.4, 7.2, 20.3, 49.0, 80.4, 299.0, 924.0, 3756.0),
)
ROWS_OF_ADS = (
    (0.0, 0.2, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0),
    (1.0, 1.2, 4.1, 15.0, 59.4, 115.6, 494.4, 1875.0, 9188.0, 25600.0),
)
"""Quantiles of the impressions of a user and of an ad, fitted to the published quartiles and shares of the busiest."""


def quantiles(table: tuple[tuple[float, ...], tuple[float, ...]], shares: Doubles, longest: int) -> Doubles:
    """Return the values at the given shares (each below 1) of a table of shares and values.

    The logarithm of the value is linear in that of the share above it, so that between two knots lies a power law.
    `longest` is how many there are in the published files: the table's last value is the highest of so many.
    """
    knots = -np.log(np.maximum(1.0 - np.array(table[0]), 1.0 / longest))
    values: Doubles = np.exp(np.interp(-np.log1p(-shares), knots, np.log(table[1])))
    return values
