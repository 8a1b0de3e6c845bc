"""The simulated travellers' world: cities, hotels, users, and the requests that users make.

Nothing here depends on what is clicked, so all requests of a block of users are drawn at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musenet.simulators.arrays import Booleans, Doubles, Floats, Integers
from musenet.simulators.hotels.choice import Situation

DAY = 86_400
BURN_IN_DAYS = 28
LOG_DAYS = 56
# Requests of one user are at least this far apart, so that a click always comes before the next request.
REQUEST_GAP_SECONDS = 600

AGE_BANDS = ("18-29", "30-44", "45-59", "60+")
MEMBERSHIPS = ("none", "silver", "gold")
DEVICES = ("mobile", "desktop", "tablet")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
BRANDS = 12
TASTES = 4
FAVOURITES = 3
MAP_KILOMETRES = 900.0


@dataclass(frozen=True)
class World:
    """Cities (C) and their hotels (H = C × hotels per city; a city's hotels are neighbours in every array)."""

    hotels_per_city: int
    city_distance: Doubles  # (C, C) kilometres
    city_popularity: Doubles  # (C) cumulative
    gravity: Doubles  # (C, C) cumulative over destinations, per home city
    city_holidays: Integers  # (C) the week, of every three, in which the city's schools are closed
    popularity: Floats  # (H)
    price_level: Integers  # (H) 1..5
    list_price: Doubles  # (H)
    stars: Integers  # (H) 1..5
    distance_to_centre: Doubles  # (H) kilometres
    quality: Doubles  # (H) review score
    brand: Integers  # (H)
    brand_taste: Floats  # (BRANDS, TASTES)
    standardised: Floats  # (H, 3) stars, distance to the centre, quality
    price_mean: float
    price_scale: float

    @property
    def cities(self) -> int:
        """The number of cities."""
        return len(self.city_distance)


@dataclass(frozen=True)
class Users:
    """A block's users (B)."""

    home_city: Integers
    age_band: Integers
    membership: Integers
    family: Booleans
    prefers_mobile: Booleans
    favourites: Integers  # (B, FAVOURITES)
    brand_affinity: Floats  # (B, BRANDS)
    level_affinity: Floats  # (B, 5)


@dataclass(frozen=True)
class Requests:
    """A block's requests (R), by user and then time."""

    user: Integers  # row in the block
    first: Integers  # (B + 1) a user's first request
    seconds: Integers  # since the burn-in began
    destination: Integers
    days_ahead: Integers
    distance_travelled: Doubles
    weekday: Integers
    holiday: Booleans
    device: Integers
    situation: Situation

    @property
    def logged(self) -> Booleans:
        """Whether the request's impressions are written: it comes after the burn-in."""
        logged: Booleans = self.seconds >= BURN_IN_DAYS * DAY
        return logged


def draw_world(impressions: int, generator: np.random.Generator) -> World:
    """Draw cities and hotels; about 60 cities of 50 hotels for two million impressions, growing slowly with them."""
    size = impressions / 2_000_000
    cities, per_city = max(12, round(60 * size**0.25)), max(20, round(50 * size**0.1))
    hotels = cities * per_city
    place = generator.uniform(0.0, MAP_KILOMETRES, (cities, 2))
    distance = np.sqrt(((place[:, None] - place[None]) ** 2).sum(axis=2))
    popularity = generator.lognormal(0.0, 0.8, cities)
    gravity = popularity * np.exp(-distance / 150.0)
    np.fill_diagonal(gravity, 0.0)
    level = 1 + generator.binomial(4, 0.5, hotels)
    stars = np.clip(np.rint(3.0 + 0.5 * (level - 3) + generator.normal(0.0, 0.9, hotels)), 1, 5).astype(np.int64)
    list_price = np.round(60.0 * np.exp(0.35 * (level - 1) + generator.normal(0.0, 0.15, hotels)), 2)
    centre = np.round(generator.lognormal(0.9, 0.8, hotels), 1) + 0.1
    quality = np.round(np.clip(7.8 + 0.2 * (stars - 3) + generator.normal(0.0, 0.7, hotels), 5.0, 10.0), 1)
    facts = np.stack([stars, np.log(centre), quality], axis=1)
    return World(
        hotels_per_city=per_city,
        city_distance=distance,
        city_popularity=_cumulative(popularity),
        gravity=_cumulative(gravity),
        city_holidays=generator.integers(0, 3, cities),
        popularity=generator.lognormal(0.0, 0.6, hotels).astype(np.float32),
        price_level=level,
        list_price=list_price,
        stars=stars,
        distance_to_centre=centre,
        quality=quality,
        brand=generator.integers(0, BRANDS, hotels),
        brand_taste=generator.normal(0.0, 1.0, (BRANDS, TASTES)).astype(np.float32),
        standardised=((facts - facts.mean(axis=0)) / facts.std(axis=0)).astype(np.float32),
        price_mean=float(np.log(list_price).mean()),
        price_scale=float(np.log(list_price).std()),
    )


def _cumulative(weights: Doubles) -> Doubles:
    total: Doubles = np.cumsum(weights, axis=-1)
    return total / total[..., -1:]


def draw_users(world: World, number: int, generator: np.random.Generator) -> Users:
    """Draw a block's users."""
    home = np.searchsorted(world.city_popularity, generator.random(number))
    age = generator.choice(4, number, p=[0.25, 0.3, 0.25, 0.2])
    family = generator.random(number) < np.array([0.3, 0.65, 0.55, 0.3])[age]
    drawn = generator.random((number, FAVOURITES, 1))
    favourites = (world.gravity[home][:, None, :] < drawn).sum(axis=2)
    taste = generator.normal(0.0, 1.0, (number, TASTES)).astype(np.float32)
    liked_level = generator.uniform(1.0, 5.0, (number, 1))
    levels = -np.abs(np.arange(1, 6) - liked_level)
    brand_affinity = taste @ world.brand_taste.T / np.sqrt(TASTES)
    return Users(
        home_city=home,
        age_band=age,
        membership=generator.choice(3, number, p=[0.5, 0.3, 0.2]),
        family=family,
        prefers_mobile=generator.random(number) < 0.5,
        favourites=favourites,
        # Standardised together: about unit variance over users and hotels.
        brand_affinity=(0.8 * brand_affinity).astype(np.float32),
        level_affinity=(0.6 * (levels + 1.4)).astype(np.float32),
    )


def draw_requests(world: World, users: Users, logged: Integers, generator: np.random.Generator) -> Requests:
    """Draw the times and contexts of the users' requests: `logged` of them each, and half as many in the burn-in."""
    early = generator.poisson(logged * (BURN_IN_DAYS / LOG_DAYS))
    counts = early + logged
    first = np.concatenate([[0], np.cumsum(counts)])
    user = np.repeat(np.arange(len(counts)), counts)
    number = len(user)
    position = np.arange(number) - first[user]
    in_log = position >= early[user]
    seconds = _spread_times(user, position, in_log, np.stack([early, logged], axis=1), generator)
    destination = _draw_destinations(world, users, user, generator)
    home = users.home_city[user]
    days_ahead = np.minimum(generator.lognormal(1.8, 1.3, number).astype(np.int64), 60)
    local = generator.lognormal(2.0, 0.6, number)
    between = world.city_distance[home, destination] * generator.uniform(0.9, 1.1, number)
    distance: Doubles = np.hypot(between, local).round(1)
    arrival = seconds // DAY + days_ahead
    weekday = arrival % 7
    holiday = (arrival // 7 + world.city_holidays[home]) % 3 == 0
    mobile = generator.random(number) < 0.2 + 0.5 * users.prefers_mobile[user] + 0.1 * (days_ahead < 3)
    device = np.where(mobile, 0, 1 + (generator.random(number) < 0.25))
    situation = Situation(
        days_ahead=days_ahead,
        distance_travelled=distance.astype(np.float32),
        weekend=(weekday == 4) | (weekday == 5),
        holiday=holiday,
        family=users.family[user],
        mobile=mobile,
        member=users.membership[user] > 0,
        older=users.age_band[user] > 1,
    )
    return Requests(user, first, seconds, destination, days_ahead, distance, weekday, holiday, device, situation)


def _spread_times(
    user: Integers, position: Integers, in_log: Booleans, counts: Integers, generator: np.random.Generator
) -> Integers:
    """Return times in order per user, uniform over the burn-in and over the log, never closer than the gap."""
    period = in_log.astype(np.int64)
    start = np.array([0, BURN_IN_DAYS * DAY])[period]
    length = np.array([BURN_IN_DAYS, LOG_DAYS])[period] * DAY
    # Sorted uniforms over the period less all gaps, to which the gaps are then added back.
    drawn = generator.random(len(user))
    drawn = drawn[np.lexsort((drawn, period, user))]
    place = position - np.where(in_log, counts[user, 0], 0)
    free = length - REQUEST_GAP_SECONDS * counts[user, period]
    seconds: Integers = start + (drawn * free).astype(np.int64) + REQUEST_GAP_SECONDS * place
    return seconds


def _draw_destinations(world: World, users: Users, user: Integers, generator: np.random.Generator) -> Integers:
    """Return where each request wants to go: home, a favourite (the first most often), or any popular city."""
    number = len(user)
    reason = generator.choice(5, number, p=[0.3, 0.35, 0.15, 0.08, 0.12])
    popular = np.searchsorted(world.city_popularity, generator.random(number))
    favourite = users.favourites[user, np.clip(reason - 1, 0, FAVOURITES - 1)]
    destination: Integers = np.where(reason == 0, users.home_city[user], np.where(reason == 4, popular, favourite))
    return destination
