"""The simulated display ads' world: categories and their brands, ads, and the users with how much each of them does.

All of it is held in memory, some hundred bytes a user and an ad; what users do is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from musenet.simulators.ads.published import (
    AD_CATEGORIES,
    ADS,
    BRANDS,
    CAMPAIGNS,
    CATEGORIES,
    CUSTOMERS,
    HIGHEST_BRAND,
    HIGHEST_CATEGORY,
    NO_BRAND,
    ROWS_OF_ADS,
    ROWS_OF_USERS,
    USERS,
    quantiles,
)
from musenet.simulators.arrays import Booleans, Doubles, Integers

FEWEST_CATEGORIES = 200
MOST_ROWS = 3_756
EVENTS_LOG_MEAN, EVENTS_LOG_DEVIATION = 5.883, 1.0
"""Of a user's events without duplicates: 591.5 on average."""
BUSY_BOTH_WAYS = 0.44
"""Correlation of a user's impressions and events, in normal scores."""
NO_EVENTS = 0.0047
"""Share of the users that the behaviour log lacks."""
NO_PROFILE = 0.07
LEAST_POPULAR = 0.02
HIGHEST_PRICE, LOWEST_PRICE = 99_999_999.0, 0.01


@dataclass(frozen=True)
class Categories:
    """Categories (C), the most popular first, and their brands (B), a category's side by side."""

    number: Integers  # (C) as published: cate
    popularity: Doubles  # (C) cumulative
    with_ads: Integers  # some of the categories
    brand_number: Integers  # (B) as published
    first_brand: Integers  # (C + 1)

    def draw(self, how_many: int, generator: np.random.Generator) -> Integers:
        """Draw categories by popularity."""
        return np.searchsorted(self.popularity, generator.random(how_many), side="right").astype(np.int64)

    def draw_brand(self, category: Integers, generator: np.random.Generator) -> Integers:
        """Draw a brand (its place among all) of each category: the first ones most often."""
        size = self.first_brand[category + 1] - self.first_brand[category]
        place: Integers = self.first_brand[category] + (size * generator.random(len(category)) ** 3).astype(np.int64)
        return place


@dataclass(frozen=True)
class Ads:
    """Ads (A); an ad's number as published is its place plus one."""

    category: Integers
    brand: Integers  # its place among all, −1 for none
    campaign: Integers
    customer: Integers
    price: Doubles
    popularity: Doubles  # expected impressions
    by_category: Integers  # the ads, a category's side by side
    cumulative: Doubles  # (A) shares of the impressions, in that order
    category_edge: Doubles  # (C + 1) where a category begins in it

    def draw(self, low: Doubles, high: Doubles, generator: np.random.Generator) -> Integers:
        """Draw ads by popularity, each between two places of `cumulative`: 0 and 1, or a category's edges."""
        place = np.searchsorted(self.cumulative, low + (high - low) * generator.random(len(low)), side="right")
        ad: Integers = self.by_category[np.minimum(place, len(self.category) - 1)]
        return ad


@dataclass(frozen=True)
class Population:
    """Users (U) and how much each does; a user's number as published is the place plus one."""

    rows: Integers  # impressions
    events: Integers  # of the behaviour log, without duplicates
    gender: Integers  # 1 male, 2 female
    age: Integers
    shopping: Integers
    profiled: Booleans  # whether user_profile.csv has a row


def draw_categories(scale: float, generator: np.random.Generator) -> Categories:
    """Draw categories and brands; both grow with the square root of the scale, so small logs have enough."""
    number = max(FEWEST_CATEGORIES * 2, round(CATEGORIES * scale**0.5))
    advertised = max(FEWEST_CATEGORIES, round(AD_CATEGORIES * scale**0.5))
    weight = 1.0 / (np.arange(number) + 10.0)
    brands = max(number, round(BRANDS * scale**0.5))
    sizes = 1 + generator.multinomial(brands - number, weight**0.5 / (weight**0.5).sum())
    return Categories(
        number=1 + generator.permutation(HIGHEST_CATEGORY)[:number],
        popularity=_cumulative(weight),
        with_ads=np.sort(generator.choice(number, advertised, replace=False, p=weight**0.5 / (weight**0.5).sum())),
        brand_number=1 + generator.permutation(HIGHEST_BRAND)[:brands],
        first_brand=np.concatenate([[0], np.cumsum(sizes)]),
    )


def draw_ads(scale: float, categories: Categories, generator: np.random.Generator) -> Ads:
    """Draw ads in campaigns of customers; a customer sells one brand, or none, of one category."""
    number, campaigns, customers = (max(1, round(each * scale)) for each in (ADS, CAMPAIGNS, CUSTOMERS))
    campaign = _divide(number, campaigns, generator)
    customer = _divide(campaigns, customers, generator)[campaign]
    sells = _categories_sold(categories, customers, generator)
    brand_sold = categories.draw_brand(sells, generator)
    brand_sold[generator.random(customers) < NO_BRAND] = -1
    category = sells[customer]
    popularity = quantiles(ROWS_OF_ADS, _strata(number, generator), ADS)
    by_category = np.argsort(category, kind="stable")
    cumulative = _cumulative(np.maximum(popularity[by_category] - 1.0, LEAST_POPULAR))  # once is certain
    ends = np.searchsorted(category[by_category], np.arange(len(categories.number)), side="right")
    shuffled = generator.permutation(number)  # numbers tell nothing of campaigns
    where = np.empty(number, np.int64)
    where[shuffled] = np.arange(number)
    return Ads(
        category=category[shuffled],
        brand=brand_sold[customer][shuffled],
        campaign=campaign[shuffled],
        customer=customer[shuffled],
        price=_prices(category, len(categories.number), generator)[shuffled],
        popularity=popularity[shuffled],
        by_category=where[by_category],
        cumulative=cumulative,
        category_edge=np.concatenate([[0.0], np.concatenate([[0.0], cumulative])[ends]]),
    )


def draw_population(scale: float, generator: np.random.Generator) -> Population:
    """Draw the users and how much each does: about the same whatever the seed, since quantiles are stratified."""
    number = max(1, round(USERS * scale))
    busy = _strata(number, generator)
    score = ndtri(busy)
    other = ndtri(_strata(number, generator))
    wanted = BUSY_BOTH_WAYS * score + (1 - BUSY_BOTH_WAYS**2) ** 0.5 * other
    events = np.rint(np.exp(EVENTS_LOG_MEAN + EVENTS_LOG_DEVIATION * wanted)).astype(np.int64)
    events[generator.random(number) < NO_EVENTS] = 0
    rows = np.clip(np.rint(quantiles(ROWS_OF_USERS, busy, USERS)), 1, MOST_ROWS).astype(np.int64)
    return Population(
        rows=rows,
        events=events,
        gender=generator.choice([1, 2], number, p=[0.3556, 0.6444]),
        age=generator.choice(
            7, number, p=np.array([501, 65_568, 189_617, 307_340, 261_751, 214_462, 22_529]) / 1_061_768
        ),
        shopping=generator.choice([1, 2, 3], number, p=[0.0447, 0.1036, 0.8517]),
        # Who is shown more is better known: 7 % of the users, but 5.76 % of the impressions lack a profile.
        profiled=generator.random(number) >= NO_PROFILE * np.exp(-0.13 * score - 0.0085),
    )


def _strata(number: int, generator: np.random.Generator) -> Doubles:
    """Return as many shares in random order, one in each of as many equal parts of (0, 1)."""
    shares: Doubles = (generator.permutation(number) + 0.05 + 0.9 * generator.random(number)) / number
    return shares


def _cumulative(weights: Doubles) -> Doubles:
    shares: Doubles = np.cumsum(weights) / np.sum(weights)
    return shares


def _divide(number: int, groups: int, generator: np.random.Generator) -> Integers:
    """Return the group (from 0) of each member: every group has some, sizes are about geometric."""
    begins = np.zeros(number, np.int64)
    begins[1 + generator.choice(number - 1, groups - 1, replace=False)] = 1
    return np.cumsum(begins)


def _categories_sold(categories: Categories, customers: int, generator: np.random.Generator) -> Integers:
    """Return a category for each customer: every advertised one at least once, if there are customers enough."""
    weight = 1.0 / (np.arange(len(categories.with_ads)) + 10.0)
    sold = generator.choice(categories.with_ads, customers, p=weight / weight.sum())
    first = generator.permutation(customers)[: len(categories.with_ads)]
    sold[first] = categories.with_ads[: len(first)]
    return sold


def _prices(category: Integers, categories: int, generator: np.random.Generator) -> Doubles:
    """Lognormal about the category's own level; 0.7 % are placeholders above 10,000, a few the extremes."""
    number = len(category)
    level = 4.93 + generator.normal(0.0, 0.8, categories)
    price = np.exp(level[category] + generator.normal(0.0, 1.06, number))
    dear = generator.random(number) < 0.007
    price[dear] = np.minimum(10_000.0 * generator.random(np.count_nonzero(dear)) ** (-1 / 1.3), HIGHEST_PRICE)
    price = np.where(price < 100.0, np.round(price, 1), np.round(price))
    extremes = generator.choice(number, 2 * max(1, round(number * 1e-5)), replace=False)
    price[extremes[0::2]], price[extremes[1::2]] = LOWEST_PRICE, HIGHEST_PRICE
    return np.maximum(price, LOWEST_PRICE)
