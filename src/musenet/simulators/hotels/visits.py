"""What happens in the simulated hotel log: users visit in rounds, see hotels, and click.

Users are simulated in independent blocks, so memory does not grow with the log. Within a block, round n is every
user's n-th request: what a user clicked in round n makes hotels repeats later on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from musenet.simulators.arrays import Booleans, Doubles, Floats, Integers
from musenet.simulators.calibration import shift_to_mean
from musenet.simulators.hotels.choice import FEATURES, ClickModel, ScenarioRule
from musenet.simulators.hotels.drift import Drift, Drifting
from musenet.simulators.hotels.world import LOG_DAYS, Requests, Users, World, draw_requests, draw_users, draw_world

CANDIDATES = 10
REQUESTS_PER_USER = 20
USERS_PER_BLOCK = 1024
PILOT_USERS = 1024
CLICK_RATE = 0.06
BOOKING_SHARE = 0.25
KNOWN_HOTEL_BOOST = 12.0  # a hotel clicked before is shown this many times as readily

# What the number after the seed stands for, so that no two parts share random numbers.
WORLD_STREAM, ACTIVITY_STREAM, PILOT_STREAM, PILOT_CHOICE_STREAM, BLOCK_STREAM = range(5)


class HotelOptions(BaseModel, extra="forbid", frozen=True):
    """What can be chosen about a simulated hotel log.

    `noise` scales the chance in which scenario applies, `strength` how much scenarios differ (0: in nothing), `shift`
    how much changes in the last `drift_days`, and `drift` says what.
    """

    impressions: int = Field(default=2_000_000, ge=20_000, le=100_000_000)
    seed: int = Field(default=1, ge=0)
    scenarios: int = Field(default=4, ge=1, le=12)
    noise: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    strength: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    shift: float = Field(default=0.0, ge=0.0, le=1.0)
    drift: Drift = "sudden"
    drift_days: int = Field(default=7, ge=1, le=LOG_DAYS)

    @model_validator(mode="after")
    def _drifts_somewhere(self) -> HotelOptions:
        if not self.shift and (self.drift, self.drift_days) != ("sudden", 7):
            raise ValueError("a drift needs a shift above 0, which says how much changes")
        return self


@dataclass(frozen=True)
class Block:
    """Some users and everything that happened to them; candidates are (R × CANDIDATES)."""

    users: Users
    requests: Requests
    scenario: Integers  # (R)
    hotel: Integers
    price: Doubles
    features: Floats  # (R, CANDIDATES, features), as the click model saw them
    earlier_clicks: Integers  # the user's clicks on this hotel before the request
    probability: Floats
    clicked: Booleans
    click_seconds: Integers  # when it was or would have been clicked
    booking_seconds: Integers
    booked: Booleans


@dataclass(frozen=True)
class Plan:
    """All that the blocks have in common."""

    world: World
    rule: ScenarioRule
    clicks: ClickModel
    drift: Drifting = field(default_factory=Drifting)


def make_plan(options: HotelOptions) -> Plan:
    """Draw the world and fit, on a pilot block, the scenarios' shares and the intercept that gives the click rate.

    The pilot knows no drift: logs that differ in that alone are the same until it begins.
    """
    world = draw_world(options.impressions, np.random.default_rng([options.seed, WORLD_STREAM]))
    generator = np.random.default_rng([options.seed, PILOT_STREAM])
    activity = draw_activity(PILOT_USERS, PILOT_USERS * REQUESTS_PER_USER, generator)
    users = draw_users(world, PILOT_USERS, generator)
    requests = draw_requests(world, users, activity, generator)
    rule = ScenarioRule.create(options.scenarios, options.noise).balanced(requests.situation, generator)
    clicks = ClickModel.create(options.scenarios, options.strength)
    for _ in range(4):  # clicks make repeats, and repeats make clicks: a fixed point
        choices = np.random.default_rng([options.seed, PILOT_CHOICE_STREAM])
        block = simulate_choices(Plan(world, rule, clicks), users, requests, choices)
        log_odds = clicks.log_odds(block.scenario, block.features, block.earlier_clicks)[requests.logged]
        clicks = replace(clicks, intercept=clicks.intercept + shift_to_mean(log_odds, CLICK_RATE))
    return Plan(world, rule, clicks, Drifting(options.drift, options.shift, options.drift_days))


def draw_activity(users: int, requests: int, generator: np.random.Generator) -> Integers:
    """Return how many logged requests each user makes: at least one, long-tailed, and `requests` in all."""
    appetite = np.minimum(generator.lognormal(0.0, 0.8, users), 12.0)
    ends = np.rint(np.cumsum(appetite) / appetite.sum() * (requests - users)).astype(np.int64)
    activity: Integers = 1 + np.diff(ends, prepend=0)
    return activity


def simulate_blocks(plan: Plan, options: HotelOptions) -> Iterator[Block]:
    """Yield the log block by block; a block depends on the plan, the seed and its number alone."""
    requests = options.impressions // CANDIDATES
    number = max(1, requests // REQUESTS_PER_USER)
    activity = draw_activity(number, requests, np.random.default_rng([options.seed, ACTIVITY_STREAM]))
    for index, start in enumerate(range(0, number, USERS_PER_BLOCK)):
        generator = np.random.default_rng([options.seed, BLOCK_STREAM, index])
        logged = activity[start : start + USERS_PER_BLOCK]
        users = draw_users(plan.world, len(logged), generator)
        yield simulate_choices(plan, users, draw_requests(plan.world, users, logged, generator), generator)


def simulate_choices(plan: Plan, users: Users, requests: Requests, generator: np.random.Generator) -> Block:
    """Show hotels and draw clicks, round by round, so that clicks become repeats in later rounds."""
    world = plan.world
    shape = (len(requests.user), CANDIDATES)
    scenario = plan.rule.assign(requests.situation, plan.drift.of_shares(requests.seconds), generator)
    scenario = plan.drift.with_unseen(scenario, plan.rule.scenarios, requests.seconds, generator)
    price_factor = _price_factors(requests, generator)
    luck = generator.random(shape, np.float32)
    hotel, earlier = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    price, probability = np.zeros(shape), np.zeros(shape, np.float32)
    features = np.zeros((*shape, len(FEATURES)), np.float32)
    clicks = np.zeros((len(users.family), world.cities, world.hotels_per_city), np.uint16)
    counts = np.diff(requests.first)
    busiest = np.argsort(-counts, kind="stable")
    for turn in range(int(counts.max(initial=0))):
        active = busiest[: np.count_nonzero(counts > turn)]
        rows = requests.first[active] + turn
        city = requests.destination[rows]
        shown, earlier[rows] = _choose_candidates(world, city, clicks[active, city], generator)
        hotel[rows] = city[:, None] * world.hotels_per_city + shown
        price[rows] = np.round(world.list_price[hotel[rows]] * price_factor[rows], 2)
        seen = _features(world, users, active, hotel[rows], price[rows])
        features[rows] = plan.drift.of_tastes(seen, requests.seconds[rows])
        probability[rows] = plan.clicks.probability(scenario[rows], features[rows], earlier[rows])
        request, candidate = np.nonzero(luck[rows] < probability[rows])
        clicks[active[request], city[request], shown[request, candidate]] += 1
    click_seconds = requests.seconds[:, None] + generator.integers(5, 300, shape)
    booking_seconds = click_seconds + generator.integers(60, 2400, shape)
    booked = generator.random(shape, np.float32) < BOOKING_SHARE
    clicked = luck < probability
    return Block(
        users, requests, scenario, hotel, price, features, earlier, probability, clicked,
        click_seconds, booking_seconds, booked & clicked,
    )  # fmt: skip


def _price_factors(requests: Requests, generator: np.random.Generator) -> Doubles:
    """Return today's price over the list price: dearer at weekends and in holidays, cheaper when booked early."""
    situation = requests.situation
    season = 0.1 * situation.weekend + 0.1 * situation.holiday - 0.03 * np.log1p(requests.days_ahead)
    noise = generator.normal(0.0, 0.08, (len(requests.user), CANDIDATES))
    factors: Doubles = np.exp(season[:, None] + noise)
    return factors


def _choose_candidates(
    world: World, city: Integers, clicks: NDArray[np.uint16], generator: np.random.Generator
) -> tuple[Integers, Integers]:
    """Draw distinct hotels of each city, popular and known ones more often: an exponential race.

    `clicks` counts the user's earlier clicks on all hotels of the city (R × hotels per city). Returns the places of
    the shown hotels within the city, in the order of the page, and the earlier clicks on them.
    """
    weight = world.popularity.reshape(world.cities, -1)[city]
    weight = weight * np.where(clicks > 0, np.float32(KNOWN_HOTEL_BOOST), np.float32(1))
    arrival = generator.standard_exponential(weight.shape, np.float32) / weight
    shown = np.argpartition(arrival, CANDIDATES, axis=1)[:, :CANDIDATES]
    order = np.argsort(np.take_along_axis(arrival, shown, axis=1), axis=1)
    shown = np.take_along_axis(shown, order, axis=1)
    return shown, np.take_along_axis(clicks, shown, axis=1).astype(np.int64)


def _features(world: World, users: Users, active: Integers, hotel: Integers, price: Doubles) -> Floats:
    """Return the standardised price, stars, distance to the centre, affinity and quality (R × candidates × 5)."""
    features = np.empty((*hotel.shape, len(FEATURES)), np.float32)
    features[..., 0] = (np.log(price) - world.price_mean) / world.price_scale
    features[..., [1, 2, 4]] = world.standardised[hotel]
    features[..., 3] = (
        users.brand_affinity[active[:, None], world.brand[hotel]]
        + users.level_affinity[active[:, None], world.price_level[hotel] - 1]
    )
    return features
