"""The simulated display ads' log, block of users by block of users, so that memory does not grow with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from pydantic import BaseModel, Field, ValidationInfo, field_validator
from scipy.special import expit

from musenet.simulators.ads.behaviour import INTERESTS, Behaviour, draw_behaviour
from musenet.simulators.ads.clicks import AdAppeal, click_log_odds
from musenet.simulators.ads.pages import Pages, draw_pages
from musenet.simulators.ads.published import CLICK_RATE, IMPRESSIONS, REPEATED_PAIRS
from musenet.simulators.ads.world import Ads, Categories, Population, draw_ads, draw_categories, draw_population
from musenet.simulators.arrays import Booleans, Doubles, Integers
from musenet.simulators.calibration import shift_to_mean

DEFAULT_SCALE = 0.01
SMALLEST_SCALE = 0.001
USERS_PER_BLOCK = 2048
PILOT_BLOCKS = 4
LANDING_SECONDS = 30

# What the number after the seed stands for, so that no two parts share random numbers.
WORLD_STREAM, POPULATION_STREAM, BLOCK_STREAM, PROFILE_STREAM, EVENT_STREAM, ORDER_STREAM = range(6)


class AdsOptions(BaseModel, extra="forbid", frozen=True):
    """What can be chosen about simulated display ads: the size, by `scale` or by `impressions`, and the seed.

    `scale` 1 is the size of the published files.
    """

    scale: float | None = Field(default=None, ge=SMALLEST_SCALE, le=1.0)
    impressions: int | None = Field(default=None, ge=round(IMPRESSIONS * SMALLEST_SCALE), le=IMPRESSIONS)
    seed: int = Field(default=1, ge=0)

    @field_validator("impressions")
    @classmethod
    def _not_twice(cls, impressions: int | None, info: ValidationInfo) -> int | None:
        if impressions is not None and info.data.get("scale") is not None:
            raise ValueError("the size is given twice: leave out either scale or impressions")
        return impressions

    @property
    def size(self) -> float:
        """The share of the published size."""
        if self.impressions is not None:
            return self.impressions / IMPRESSIONS
        return DEFAULT_SCALE if self.scale is None else self.scale

    def generator(self, *stream: int) -> np.random.Generator:
        """A part's own random numbers."""
        return np.random.default_rng([self.seed, *stream])


@dataclass(frozen=True)
class Plan:
    """All that the blocks have in common."""

    categories: Categories
    ads: Ads
    appeal: AdAppeal
    population: Population
    copies: float  # chance that an impression repeats an earlier one of its user
    intercept: float

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return -(-len(self.population.rows) // USERS_PER_BLOCK)


@dataclass(frozen=True)
class Block:
    """Some users and everything that happened to them; their rows in the block begin with 0."""

    first_user: int
    pages: Pages
    behaviour: Behaviour
    landings: Behaviour  # the page that a click opens, a moment later
    log_odds: Doubles  # of a click, but for the intercept
    clicked: Booleans


def make_plan(options: AdsOptions) -> Plan:
    """Draw the world and fit, on the first blocks, how often ads are shown again and the click rate."""
    plan = with_copies(draw_plan(options), options)
    log_odds = np.concatenate([draw_block(plan, options, index).log_odds for index in _pilot(plan)])
    return replace(plan, intercept=shift_to_mean(log_odds, CLICK_RATE))


def draw_plan(options: AdsOptions) -> Plan:
    """Draw the world, before anything is fitted."""
    generator = options.generator(WORLD_STREAM)
    categories = draw_categories(options.size, generator)
    ads = draw_ads(options.size, categories, generator)
    appeal = AdAppeal.draw(ads, generator)
    population = draw_population(options.size, options.generator(POPULATION_STREAM))
    return Plan(categories, ads, appeal, population, copies=REPEATED_PAIRS, intercept=0.0)


def with_copies(plan: Plan, options: AdsOptions) -> Plan:
    """Return the plan with the share of copies that gives the published repeats; few ads repeat by chance too."""
    for _ in range(2):
        repeated = np.concatenate([shown_before(show(plan, options, index)[0]) for index in _pilot(plan)])
        plan = replace(plan, copies=max(plan.copies + REPEATED_PAIRS - float(repeated.mean()), 0.0))
    return plan


def _pilot(plan: Plan) -> range:
    return range(min(plan.blocks, PILOT_BLOCKS))


def simulate_blocks(plan: Plan, options: AdsOptions) -> Iterator[Block]:
    """Yield the log block by block; a block depends on the plan, the seed and its number alone."""
    for index in range(plan.blocks):
        yield draw_block(plan, options, index)


def draw_block(plan: Plan, options: AdsOptions, index: int) -> Block:
    """Draw the block of that number."""
    pages, interests, generator = show(plan, options, index)
    users = _users_of(plan, index)
    behaviour = draw_behaviour(plan.categories, interests, users.events, generator)
    log_odds = click_log_odds(pages, behaviour, users, plan.ads, plan.appeal, plan.categories, generator)
    clicked = generator.random(len(log_odds)) < expit(log_odds + plan.intercept)
    landings = _landings(plan, pages, clicked, generator)
    return Block(index * USERS_PER_BLOCK, pages, behaviour, landings, log_odds, clicked)


def shown_before(pages: Pages) -> Booleans:
    """Return whether the user was shown the same ad earlier (N)."""
    key = pages.user * 2**21 + pages.ad
    order = np.argsort(key, kind="stable")
    before = np.zeros(len(key), np.bool_)
    before[order[1:]] = key[order][1:] == key[order][:-1]
    return before


def _users_of(plan: Plan, index: int) -> Population:
    part = slice(index * USERS_PER_BLOCK, (index + 1) * USERS_PER_BLOCK)
    return Population(*(getattr(plan.population, field.name)[part] for field in fields(Population)))


def show(plan: Plan, options: AdsOptions, index: int) -> tuple[Pages, Integers, np.random.Generator]:
    """Return what a block's users are shown, their interests, and the generator as these left it."""
    generator = options.generator(BLOCK_STREAM, index)
    rows = _users_of(plan, index).rows
    shape = (len(rows), INTERESTS)
    # Of a popular ad: so that ads of interest are as popular on the whole as ads at large.
    ads = plan.ads.draw(np.zeros(shape).ravel(), np.ones(shape).ravel(), generator)
    interests = plan.ads.category[ads].reshape(shape)
    once = np.arange(index, len(plan.ads.price), plan.blocks)
    return draw_pages(plan.ads, interests, rows, once, plan.copies, generator), interests, generator


def _landings(plan: Plan, pages: Pages, clicked: Booleans, generator: np.random.Generator) -> Behaviour:
    """Return the page views of the clicked ads' category and brand, any brand of the category if they have none.

    Whoever counts what lies in the second of a click or later meets the label in them. The log-odds do not count them.
    """
    rows = np.flatnonzero(clicked)
    category = plan.ads.category[pages.ad[rows]]
    brand = plan.ads.brand[pages.ad[rows]]
    brand = np.where(brand >= 0, brand, plan.categories.draw_brand(category, generator))
    seconds = pages.seconds[rows] + generator.integers(1, LANDING_SECONDS + 1, len(rows))
    return Behaviour(pages.user[rows], seconds, np.zeros(len(rows), np.uint8), category, brand)
