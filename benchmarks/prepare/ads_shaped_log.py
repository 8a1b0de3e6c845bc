"""A log of the shape of Ali Display Ads in plain Parquet: its counts and skews, but nothing to be learned from it.

Sizes follow the published files: 723,268,134 events, 26,557,961 impressions, 1,141,729 users, 846,811 ads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

EVENTS, IMPRESSIONS, USERS, ADS = 723_268_134, 26_557_961, 1_141_729, 846_811
FIRST_EVENT, FIRST_IMPRESSION, END = 1_492_790_400, 1_494_000_000, 1_494_691_200
CATEGORIES, BRANDS = 12_960, 461_497
LIKED = 60
"""Categories that a user looks at, the first far more often than the last."""
ROWS_AT_A_TIME = 2_000_000

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Size:
    """How many rows each file has."""

    events: int
    impressions: int

    @property
    def users(self) -> int:
        """As many as see 23 impressions each."""
        return max(100, round(self.impressions * USERS / IMPRESSIONS))

    @property
    def ads(self) -> int:
        """As many as are shown 31 times each."""
        return max(100, round(self.impressions * ADS / IMPRESSIONS))


def write_log(folder: Path, size: Size, seed: int = 1) -> None:
    """Write `events.parquet`, `impressions.parquet`, `users.parquet` and `ads.parquet`; rows are in no order."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    _write(folder / "events.parquet", _events(random, size))
    _write(folder / "impressions.parquet", _impressions(random, size))
    _write(folder / "users.parquet", [_users(random, size)])
    _write(folder / "ads.parquet", [_ads(random, size)])


def _write(path: Path, parts: Any) -> None:
    writer = None
    for part in parts:
        table = pa.table(part)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def _events(random: np.random.Generator, size: Size) -> Iterator[dict[str, Any]]:
    """Users are as active as lognormal(0, 1) says; 7 % of the rows are written twice."""
    users = _drawer(random.lognormal(0, 1, size.users))
    kinds = pa.array(["pv", "cart", "fav", "buy"])
    left = size.events
    while left:
        rows = min(left, ROWS_AT_A_TIME)
        user = users(random, rows)
        category, brand = _looked_at(random, user)
        kind = np.searchsorted([0.9525, 0.9745, 0.9874], random.random(rows), side="right")
        time = random.integers(FIRST_EVENT, END, rows)
        copies = rows * 7 // 100
        for column in (user, time, kind, category, brand):
            column[:copies] = column[-copies:]
        order = random.permutation(rows)
        yield {
            "user": user[order],
            "time_stamp": time[order],
            "btag": pa.DictionaryArray.from_arrays(kind[order].astype(np.int32), kinds).cast(pa.string()),
            "cate_id": category[order],
            "brand": brand[order],
        }
        left -= rows


def _impressions(random: np.random.Generator, size: Size) -> Iterator[dict[str, Any]]:
    """Pages of three ads and of ten; 5 % are clicked."""
    users, ads = _drawer(random.lognormal(0, 1.5, size.users)), _drawer(random.lognormal(0, 2, size.ads))
    left = size.impressions
    while left:
        pages = ROWS_AT_A_TIME // 4
        ten = random.random(pages) < 1 / 6
        # A user's pages of both kinds never meet in one second, where they would be one request.
        time = 2 * random.integers(FIRST_IMPRESSION // 2, END // 2, pages) + ten
        page = np.repeat(np.arange(pages), np.where(ten, 10, 3))[: min(left, ROWS_AT_A_TIME)]
        rows = len(page)
        yield {
            "user": users(random, pages)[page],
            "time_stamp": time[page],
            "adgroup_id": ads(random, rows),
            "pid": pa.array(np.where(ten[page], "430539_1007", "430548_1007")),
            "clk": (random.random(rows) < 0.0514).astype(np.int64),
        }
        left -= rows


def _users(random: np.random.Generator, size: Size) -> dict[str, Any]:
    """Seven in a hundred have no profile."""
    some = np.flatnonzero(random.random(size.users) >= 0.07) + 1
    highest = {"cms_segid": 97, "final_gender_code": 2, "age_level": 7, "shopping_level": 3}
    return {"user": some, **{name: random.integers(values, size=len(some)) for name, values in highest.items()}}


def _ads(random: np.random.Generator, size: Size) -> dict[str, Any]:
    category = _scattered(random.integers(1 << 40, size=size.ads), CATEGORIES)
    return {
        "adgroup_id": np.arange(1, size.ads + 1),
        "cate_id": category,
        "campaign_id": np.arange(size.ads) // 2 + 1,
        "brand": pa.array(_brand(random, category), mask=random.random(size.ads) < 0.2909),
        "price": random.lognormal(4.93, 1.33, size.ads).round(2),
    }


def _looked_at(random: np.random.Generator, user: Integers) -> tuple[Integers, Integers]:
    """Categories out of those that a user likes, and a brand of each."""
    place = (LIKED * random.random(len(user)) ** 2).astype(np.int64)
    category = _scattered(user * LIKED + place, CATEGORIES)
    return category, _brand(random, category)


def _brand(random: np.random.Generator, category: Integers) -> Integers:
    """One of up to 36 brands of a category, the first far more often than the last."""
    place = (36 * random.random(len(category)) ** 3).astype(np.int64)
    return (category * 36 + place) % BRANDS + 1


def _scattered(number: Integers, values: int) -> Integers:
    """A value from 1 on that belongs to a number; low ones are common, high ones rare."""
    mixed = (number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)
    return 1 + np.floor(values * (mixed.astype(np.float64) * 2.0**-53) ** 3).astype(np.int64)


def _drawer(weight: NDArray[np.float64]) -> Any:
    """Draws numbers from 1 on in proportion to their weights."""
    below = np.cumsum(weight) / weight.sum()
    return lambda random, rows: np.searchsorted(below, random.random(rows)).clip(max=len(below) - 1) + 1
