"""`simulate hotels`: an online travel log with planted scenarios, written as ordinary Parquet files.

Users are simulated in independent blocks, so memory does not grow with the log and the same seed gives the same bytes.
Within a block, round n is every user's n-th request: what a user clicked in round n makes hotels repeats later on.
See docs/hotels.md for the columns, the scenarios and the measured figures.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from musenet.errors import UserError
from musenet.simulate.hotel_choice import Booleans, ClickModel, Floats, Integers, ScenarioRule, sigmoid
from musenet.simulate.hotel_world import (
    AGE_BANDS,
    BRANDS,
    DEVICES,
    MEMBERSHIPS,
    WEEKDAYS,
    Doubles,
    Requests,
    Users,
    World,
    draw_requests,
    draw_users,
    draw_world,
)

CANDIDATES = 10
REQUESTS_PER_USER = 20
USERS_PER_BLOCK = 1024
PILOT_USERS = 1024
CLICK_RATE = 0.06
BOOKING_SHARE = 0.25
KNOWN_HOTEL_BOOST = 12.0  # a hotel clicked before is shown this many times as readily
BURN_IN_START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())

# What the first number after the seed stands for, so that no two parts share random numbers.
WORLD_STREAM, ACTIVITY_STREAM, PILOT_STREAM, BLOCK_STREAM = range(4)

_TIME = pa.timestamp("us", tz="UTC")
SCHEMAS = {
    "impressions": pa.schema(
        {
            "user_id": pa.string(),
            "hotel_id": pa.string(),
            "shown_at": _TIME,
            "clicked": pa.int8(),
            "search_id": pa.int64(),
            "price": pa.float64(),
            "rank": pa.int32(),
            "days_ahead": pa.int32(),
            "distance_travelled": pa.float64(),
            "same_city": pa.bool_(),
            "same_day": pa.bool_(),
            "holiday": pa.bool_(),
            "weekday": pa.string(),
            "device": pa.string(),
            "destination": pa.string(),
            "true_scenario": pa.int32(),
            "true_probability": pa.float32(),
        }
    ),
    "clicks": pa.schema({"user_id": pa.string(), "hotel_id": pa.string(), "clicked_at": _TIME, "action": pa.string()}),
    "users": pa.schema(
        {
            "user_id": pa.string(),
            "age_band": pa.string(),
            "home_city": pa.string(),
            "membership": pa.string(),
            "family": pa.bool_(),
        }
    ),
    "hotels": pa.schema(
        {
            "hotel_id": pa.string(),
            "city": pa.string(),
            "price_level": pa.int32(),
            "list_price": pa.float64(),
            "stars": pa.int32(),
            "distance_to_centre": pa.float64(),
            "quality": pa.float64(),
            "brand": pa.string(),
        }
    ),
}


class HotelOptions(BaseModel, extra="forbid", frozen=True):
    """What can be chosen about a simulated hotel log.

    `noise` scales the chance in which scenario applies, `strength` how much scenarios differ (0: in nothing), and
    `shift` how much the scenarios' shares change in the last seven days.
    """

    impressions: int = Field(default=2_000_000, ge=20_000, le=100_000_000)
    seed: int = Field(default=1, ge=0)
    scenarios: int = Field(default=4, ge=1, le=12)
    noise: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    strength: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    shift: float = Field(default=0.0, ge=0.0, le=1.0)


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


def simulate_hotels(
    out: Path, options: HotelOptions, progress: Callable[[int, int], None] | None = None
) -> dict[str, int]:
    """Write a hotel log into the new folder `out` and return the number of rows of each file.

    `progress` is called with the impressions written so far and in all. Nothing is left behind if writing fails.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} already exists and is not an empty folder: name another, or remove it first.")
    partial = out.parent / f".{out.name}.{os.getpid()}.partial"
    try:
        partial.mkdir(parents=True)
        counts = _write_log(partial, options, progress)
        os.replace(partial, out)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"The hotel log could not be written to {out}: {error}.") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return counts


def _write_log(folder: Path, options: HotelOptions, progress: Callable[[int, int], None] | None) -> dict[str, int]:
    counts = dict.fromkeys(SCHEMAS, 0)
    plan = make_plan(options)
    writers = {name: pq.ParquetWriter(folder / f"{name}.parquet", schema) for name, schema in SCHEMAS.items()}

    def write(name: str, columns: dict[str, object]) -> None:
        table = pa.table(columns, schema=SCHEMAS[name])
        writers[name].write_table(table)
        counts[name] += table.num_rows

    try:
        names = _Names(plan.world)
        write("hotels", _hotel_columns(plan.world, names))
        for block in simulate_blocks(plan, options):
            first_user = counts["users"]
            write("users", _user_columns(block, first_user, names))
            write("clicks", _event_columns(block, first_user, names))
            write("impressions", _impression_columns(block, first_user, counts["impressions"], names))
            if progress is not None:
                progress(counts["impressions"], options.impressions // CANDIDATES * CANDIDATES)
    finally:
        for writer in writers.values():
            writer.close()
    return counts


# ---- simulating ----


def make_plan(options: HotelOptions) -> Plan:
    """Draw the world and fit, on a pilot block, the scenarios' shares and the intercept that gives the click rate.

    The pilot knows no shift: logs that differ in `shift` alone are the same up to the last week.
    """
    world = draw_world(options.impressions, np.random.default_rng([options.seed, WORLD_STREAM]))
    generator = np.random.default_rng([options.seed, PILOT_STREAM])
    activity = draw_activity(PILOT_USERS, PILOT_USERS * REQUESTS_PER_USER, generator)
    users = draw_users(world, PILOT_USERS, generator)
    requests = draw_requests(world, users, activity, generator)
    rule = ScenarioRule.create(options.scenarios, options.noise, options.shift)
    rule = rule.balanced(requests.situation, generator)
    clicks = ClickModel.create(options.scenarios, options.strength)
    for _ in range(4):  # clicks make repeats, and repeats make clicks: a fixed point
        pilot_rule = replace(rule, shift=0.0)
        block = simulate_choices(Plan(world, pilot_rule, clicks), users, requests, np.random.default_rng(options.seed))
        probability = block.probability[requests.logged].astype(np.float64)
        log_odds = np.log(probability) - np.log1p(-probability)
        clicks = replace(clicks, intercept=clicks.intercept + _shift_to_mean(log_odds, CLICK_RATE))
    return Plan(world, rule, clicks)


def _shift_to_mean(log_odds: Doubles, target: float) -> float:
    """Return what must be added to all log-odds for their mean probability to be the target, by bisection."""
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if (1.0 / (1.0 + np.exp(-log_odds - middle))).mean() < target else (low, middle)
    return (low + high) / 2


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
    scenario = plan.rule.assign(requests.situation, requests.tested, generator)
    price_factor = _price_factors(requests, generator)
    luck = generator.random(shape, np.float32)
    hotel, earlier = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    price, probability = np.zeros(shape), np.zeros(shape, np.float32)
    features = np.zeros((*shape, 5), np.float32)
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
        features[rows] = _features(world, users, active, hotel[rows], price[rows])
        probability[rows] = sigmoid(plan.clicks.log_odds(scenario[rows], features[rows], earlier[rows]))
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
    features = np.empty((*hotel.shape, 5), np.float32)
    features[..., 0] = (np.log(price) - world.price_mean) / world.price_scale
    features[..., [1, 2, 4]] = world.standardised[hotel]
    features[..., 3] = (
        users.brand_affinity[active[:, None], world.brand[hotel]]
        + users.level_affinity[active[:, None], world.price_level[hotel] - 1]
    )
    return features


# ---- writing ----


class _Names:
    """The identifiers and category names of a world, as Arrow arrays from which columns are taken."""

    def __init__(self, world: World) -> None:
        self.city = pa.array([f"c{city:03d}" for city in range(world.cities)])
        self.hotel = pa.array([f"h{hotel:06d}" for hotel in range(len(world.stars))])
        self.brand = pa.array([f"brand-{brand:02d}" for brand in range(BRANDS)])
        self.weekday, self.device = pa.array(WEEKDAYS), pa.array(DEVICES)
        self.age_band, self.membership = pa.array(AGE_BANDS), pa.array(MEMBERSHIPS)
        self.action = pa.array(["click", "booking"])


def _user_names(first: int, number: int) -> pa.Array:
    return pa.array([f"u{user:07d}" for user in range(first, first + number)])


def _timestamps(seconds: Integers) -> pa.Array:
    return pa.array((BURN_IN_START + seconds) * 1_000_000).cast(pa.timestamp("us")).cast(_TIME)


def _hotel_columns(world: World, names: _Names) -> dict[str, object]:
    hotels = len(world.stars)
    return {
        "hotel_id": names.hotel,
        "city": names.city.take(np.arange(hotels) // world.hotels_per_city),
        "price_level": world.price_level.astype(np.int32),
        "list_price": world.list_price,
        "stars": world.stars.astype(np.int32),
        "distance_to_centre": world.distance_to_centre,
        "quality": world.quality,
        "brand": names.brand.take(world.brand),
    }


def _user_columns(block: Block, first_user: int, names: _Names) -> dict[str, object]:
    users = block.users
    return {
        "user_id": _user_names(first_user, len(users.family)),
        "age_band": names.age_band.take(users.age_band),
        "home_city": names.city.take(users.home_city),
        "membership": names.membership.take(users.membership),
        "family": users.family,
    }


def _event_columns(block: Block, first_user: int, names: _Names) -> dict[str, object]:
    """Return clicks and bookings, of the burn-in too, by user and then time."""
    user_of = np.broadcast_to(block.requests.user[:, None], block.hotel.shape)
    kinds = [(block.clicked, block.click_seconds), (block.booked, block.booking_seconds)]
    user = np.concatenate([user_of[chosen] for chosen, _ in kinds])
    hotel = np.concatenate([block.hotel[chosen] for chosen, _ in kinds])
    seconds = np.concatenate([time[chosen] for chosen, time in kinds])
    action = np.repeat([0, 1], [np.count_nonzero(chosen) for chosen, _ in kinds])
    order = np.lexsort((action, hotel, seconds, user))
    return {
        "user_id": _user_names(first_user, len(block.users.family)).take(user[order]),
        "hotel_id": names.hotel.take(hotel[order]),
        "clicked_at": _timestamps(seconds[order]),
        "action": names.action.take(action[order]),
    }


def _impression_columns(block: Block, first_user: int, first_impression: int, names: _Names) -> dict[str, object]:
    """Return the impressions after the burn-in, by user, time and rank."""
    requests, logged = block.requests, np.flatnonzero(block.requests.logged)

    def spread(values: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(values[logged], CANDIDATES)

    search = first_impression // CANDIDATES + np.arange(len(logged))
    return {
        "user_id": _user_names(first_user, len(block.users.family)).take(spread(requests.user)),
        "hotel_id": names.hotel.take(block.hotel[logged].ravel()),
        "shown_at": _timestamps(np.repeat(requests.seconds[logged], CANDIDATES)),
        "clicked": block.clicked[logged].ravel().astype(np.int8),
        "search_id": np.repeat(search, CANDIDATES),
        "price": block.price[logged].ravel(),
        "rank": np.tile(np.arange(1, CANDIDATES + 1, dtype=np.int32), len(logged)),
        "days_ahead": spread(requests.days_ahead).astype(np.int32),
        "distance_travelled": spread(requests.distance_travelled),
        "same_city": spread(block.users.home_city[requests.user] == requests.destination),
        "same_day": spread(requests.days_ahead == 0),
        "holiday": spread(requests.holiday),
        "weekday": names.weekday.take(spread(requests.weekday)),
        "device": names.device.take(spread(requests.device)),
        "destination": names.city.take(spread(requests.destination)),
        "true_scenario": spread(block.scenario).astype(np.int32),
        "true_probability": block.probability[logged].ravel(),
    }
