"""`simulate hotels`: an online travel log with planted scenarios, written as ordinary Parquet files.

The same seed gives the same bytes, and blocks of users are written as they are simulated. See docs/hotels.md for the
columns, the scenarios and the measured figures.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from musenet.simulators.arrays import Integers
from musenet.simulators.hotels.visits import CANDIDATES, Block, HotelOptions, make_plan, simulate_blocks
from musenet.simulators.hotels.world import AGE_BANDS, BRANDS, DEVICES, MEMBERSHIPS, WEEKDAYS, World
from musenet.simulators.new_folder import new_folder

__all__ = ["SCHEMAS", "HotelOptions", "simulate_hotels"]

BURN_IN_START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())

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


def simulate_hotels(
    out: Path, options: HotelOptions, progress: Callable[[int, int], None] | None = None
) -> dict[str, int]:
    """Write a hotel log into the new folder `out` and return the number of rows of each file.

    `progress` is called with the impressions written so far and in all. Nothing is left behind if writing fails.
    """
    with new_folder(out, "The hotel log") as folder:
        return _write_log(folder, options, progress)


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
