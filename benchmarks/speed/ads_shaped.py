"""A dataset of the shape of Ali Display Ads, written in musenet's own format, to measure speed on.

    python benchmarks/speed/ads_shaped.py FOLDER --pages mixed --requests 60000

Tables have their published sizes (1,141,729 users, 846,811 ads, …), every user fifty events of category and brand, and
requests are pages of three and ten candidates, or of one. What decides how many rows a step touches is drawn as
published: how unevenly users, ads, categories and brands occur. Everything else (labels, repeat statistics, profiles)
is drawn freely: nothing here can be learned, and it is not meant to be.
"""

from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import FIRST_VALUE, MISSING, UNSEEN, Field, holds_dataset
from musenet.dataset.writer import Arrays, write_dataset
from musenet.simulators.ads.published import ADS, BRANDS, CAMPAIGNS, CATEGORIES, CUSTOMERS, PROFILE_VALUES, USERS

Columns = dict[str, NDArray[Any]]
Pages = Literal["mixed", "single"]

HISTORY_LENGTH = 50
PAIRS_OF_A_USER = 131
"""Pairs of category and brand that a user's events hold on average, 591 of them; by Zipf's law some thirty in fifty."""
VALUES = {"cate_id": CATEGORIES, "campaign_id": CAMPAIGNS, "customer": CUSTOMERS, "brand": BRANDS}
CONTEXT = {"pid": 2, "hour": 24}
PAGES_OF_THREE = 0.83
"""Share of the requests; the others have ten."""
CLICK_RATE = 0.0514
REPEAT_SHARE = 0.2
UNBRANDED = 0.29


@dataclass(frozen=True)
class Shape:
    """How much of everything."""

    requests: int
    pages: Pages = "mixed"
    tables: float = 1.0
    """Times the published numbers of users, ads and values."""
    repeats: bool = True
    """Whether pairs of category and brand occur again in a history; else all fifty differ."""
    seed: int = 1

    @property
    def users(self) -> int:
        """Known users."""
        return round(USERS * self.tables)

    @property
    def items(self) -> int:
        """Known ads."""
        return round(ADS * self.tables)

    @property
    def values(self) -> dict[str, int]:
        """Number of values of each of the large vocabularies."""
        return {name: max(10, round(count * self.tables)) for name, count in VALUES.items()}

    @property
    def vocabularies(self) -> dict[str, int]:
        """Number of codes of each vocabulary."""
        ids = {"user": self.users, "adgroup_id": self.items}
        return {name: count + MISSING for name, count in (ids | PROFILE_VALUES | CONTEXT | self.values).items()}


def write_ads_shaped(folder: Path, shape: Shape) -> Dataset:
    """Write the dataset, unless it is there, and open it."""
    if holds_dataset(folder):
        return Dataset(folder)
    random = np.random.default_rng(shape.seed)
    users, items = _entities(random, shape)
    events = _events(random, shape)
    requests = _requests(random, shape, events["offset"])
    candidates = _candidates(random, shape, requests["candidate_offset"])
    # One period, which is trained on; its last tenth is also called validation and test, to have them.
    last = shape.requests - max(1, shape.requests // 10), shape.requests
    return write_dataset(
        folder,
        Arrays(users=users, items=items, events=events, requests=requests, candidates=candidates),
        fields(),
        {"train": (0, shape.requests), "valid": last, "test": last},
        shape.vocabularies,
        fingerprint=f"ads-shaped {shape}",
        protocol="generated at random to measure speed: nothing can be learned from it",
        history_length=HISTORY_LENGTH,
        user_column="user",
        item_column="adgroup_id",
    )


def fields() -> list[Field]:
    """The categories of configs/ads.yaml; numbers, which other implementations take in other ways, are left out."""

    def categorical(side: Any, *names: str) -> list[Field]:
        return [Field(name=name, side=side, kind="categorical", vocabulary=name) for name in names]

    return [
        Field(name="user", side="user", kind="categorical", vocabulary="user", is_id=True),
        *categorical("user", *PROFILE_VALUES),
        Field(name="adgroup_id", side="item", kind="categorical", vocabulary="adgroup_id", is_id=True),
        *categorical("item", *VALUES),
        *categorical("context", *CONTEXT),
        *categorical("history", "cate_id", "brand"),
    ]


def _entities(random: np.random.Generator, shape: Shape) -> tuple[Columns, Columns]:
    """Users and items; row 0 is the unseen one."""
    users, items = shape.users + 1, shape.items + 1
    of_users: Columns = {name: _any_code(random, count, users) for name, count in PROFILE_VALUES.items()}
    of_items: Columns = {name: _frequent_code(random, count, items) for name, count in shape.values.items()}
    of_items["brand"][random.random(items) < UNBRANDED] = MISSING
    of_users["user"] = np.arange(users, dtype=np.int32) + UNSEEN + (np.arange(users) > 0)
    of_items["adgroup_id"] = np.arange(items, dtype=np.int32) + UNSEEN + (np.arange(items) > 0)
    for column in (*of_users.values(), *of_items.values()):
        column[0] = UNSEEN
    return of_users, of_items


def _events(random: np.random.Generator, shape: Shape) -> Columns:
    """Fifty events for every known user, among the user's own pairs of category and brand, some more often."""
    count = shape.users * HISTORY_LENGTH
    pair = np.repeat(np.arange(shape.users) * PAIRS_OF_A_USER, HISTORY_LENGTH)
    if shape.repeats:
        pair += _zipf(PAIRS_OF_A_USER, random.random(count, dtype=np.float32))
    else:
        pair += np.tile(np.arange(HISTORY_LENGTH), shape.users)
    columns: Columns = {
        name: FIRST_VALUE + _zipf(shape.values[name], _scattered(pair, salt))
        for salt, name in enumerate(("cate_id", "brand"))
    }
    counts = np.full(shape.users + 1, HISTORY_LENGTH)
    counts[0] = 0
    columns["offset"] = np.concatenate([[0], np.cumsum(counts)])
    return columns


def _requests(random: np.random.Generator, shape: Shape, event_offset: NDArray[Any]) -> Columns:
    user = _by_weight(random, random.lognormal(2.0, 1.5, shape.users), shape.requests) + 1
    sizes = np.ones(shape.requests, dtype=np.int64)
    if shape.pages == "mixed":
        sizes = np.where(random.random(shape.requests) < PAGES_OF_THREE, 3, 10)
    return {
        "user": user.astype(np.int32),
        "time": np.arange(shape.requests, dtype=np.int64),
        "history_end": event_offset[user + 1],
        "candidate_offset": np.concatenate([[0], np.cumsum(sizes)]),
        "repeat_fraction": random.random(shape.requests, dtype=np.float32),
        **{name: _any_code(random, count, shape.requests) for name, count in CONTEXT.items()},
    }


def _candidates(random: np.random.Generator, shape: Shape, offset: NDArray[Any]) -> Columns:
    count = int(offset[-1])
    item = _by_weight(random, random.lognormal(0.0, 2.0, shape.items), count) + 1
    repeats = random.random(count) < REPEAT_SHARE
    return {
        "item": item.astype(np.int32),
        "label": (random.random(count) < CLICK_RATE).astype(np.int8),
        "repeat_indicator": repeats.astype(np.int8),
        "repeat_count": np.where(repeats, random.geometric(0.3, count), 0).astype(np.int32),
        "repeat_recency": np.where(repeats, random.exponential(1e5, count), np.nan).astype(np.float32),
    }


def _any_code(random: np.random.Generator, values: int, rows: int) -> NDArray[np.int32]:
    """Codes of values that are equally frequent."""
    return random.integers(FIRST_VALUE, FIRST_VALUE + values, rows, dtype=np.int32)


def _frequent_code(random: np.random.Generator, values: int, rows: int) -> NDArray[np.int32]:
    """Codes by Zipf's law."""
    return FIRST_VALUE + _zipf(values, random.random(rows, dtype=np.float32))


def _zipf(values: int, share: NDArray[np.float32]) -> NDArray[np.int32]:
    """From even shares in [0, 1) to ranks from 0, of which the r-th has a probability of about 1/r."""
    return np.minimum(np.exp(share * np.float32(np.log(values + 1))).astype(np.int32) - 1, values - 1)


def _scattered(numbers: NDArray[np.int64], salt: int) -> NDArray[np.float32]:
    """Shares in [0, 1) that look drawn, always the same one for a number."""
    mixed = (numbers.astype(np.uint64) + np.uint64(1 + salt)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    return ((mixed * np.uint64(0xD6E8FEB86659FD93)) >> np.uint64(40)).astype(np.float32) / np.float32(2**24)


def _by_weight(random: np.random.Generator, weight: NDArray[np.float64], rows: int) -> NDArray[np.int64]:
    until = np.cumsum(weight)
    return np.minimum(np.searchsorted(until, random.random(rows) * until[-1]), len(weight) - 1)


def main() -> None:
    parser = ArgumentParser(description="Write an ADS-shaped dataset to measure speed on.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--requests", type=int, default=60_000)
    parser.add_argument("--pages", choices=get_args(Pages), default="mixed")
    parser.add_argument(
        "--tables", type=float, default=1.0, help="times the published numbers of users, ads and values"
    )
    asked = parser.parse_args()
    write_ads_shaped(asked.folder, Shape(asked.requests, asked.pages, asked.tables))


if __name__ == "__main__":
    main()
