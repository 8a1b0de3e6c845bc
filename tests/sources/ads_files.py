"""Small files of the schema of Ali Display Ads, with the traps of the published ones, for the tests."""

from bisect import bisect_left
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

FIRST_EVENT, FIRST_IMPRESSION, LAST = 1_492_790_400, 1_494_000_000, 1_494_691_186
BAD_STAMPS = [-2_100_000_000, 1_470_000_000, 1_720_000_000, 1_970_000_000, FIRST_EVENT - 1, 1_494_691_200]
PAGES = {3: "430548_1007", 10: "430539_1007"}
KINDS, KIND_SHARES = ["pv", "cart", "fav", "buy"], [0.9525, 0.022, 0.0129, 0.0126]
CATEGORIES, BRANDS_EACH, LIKES = 200, 4, 3
"""Categories in all, brands of each, and categories that a user prefers."""

Ints = NDArray[np.int64]


def write_ads(folder: Path, *, impressions: int = 20_000, events: int = 200_000, seed: int = 0) -> Path:
    """The four files of a log in which users rather click on ads of brands that they have met."""
    random = np.random.default_rng(seed)
    users, ads = max(impressions // 25, 4), max(impressions // 25, 60)
    likes = random.integers(CATEGORIES, size=(users, LIKES))
    catalogue = _catalogue(random, ads)
    shown = _pages(random, impressions, likes, catalogue).join(catalogue, on="adgroup_id", how="left")
    log = _behaviour(random, events, likes)
    # What is looked at in the very second of an impression did not happen before it.
    log = pl.concat([log, _visits(shown.sample(fraction=0.02, seed=seed))])
    shown = shown.with_columns(clk=_clicks(random, shown, log))
    # A click loads a page of the ad's brand a moment later.
    landed = _visits(shown.filter(pl.col("clk") == 1)).with_columns(pl.col("time_stamp") + 1)
    folder.mkdir(parents=True, exist_ok=True)
    _write_shown(folder, shown)
    catalogue.write_csv(folder / "ad_feature.csv", null_value="NULL")
    _write_profiles(folder, random, users)
    _write_log(folder, pl.concat([log, landed]), seed)
    return folder


def _catalogue(random: np.random.Generator, ads: int) -> pl.DataFrame:
    category = random.integers(CATEGORIES, size=ads)
    price = np.round(random.lognormal(4.93, 1.33, ads), 1)
    price[:2] = [0.01, 99_999_999.0]
    return pl.DataFrame(
        {
            "adgroup_id": np.arange(1, ads + 1),
            "cate_id": category,
            "campaign_id": np.arange(ads) // 2 + 1,
            "customer": np.arange(ads) // 4 + 1,
            "brand": _brand_of(random, category),
            "price": price,
        }
    ).with_columns(pl.when(pl.Series(random.random(ads) >= 0.29)).then("brand").alias("brand"))


def _brand_of(random: np.random.Generator, category: Ints) -> Ints:
    return category * BRANDS_EACH + random.integers(BRANDS_EACH, size=len(category))


def _pages(random: np.random.Generator, impressions: int, likes: Ints, catalogue: pl.DataFrame) -> pl.DataFrame:
    """Loads of three or ten distinct ads, half of them of categories that the user prefers."""
    category, every = catalogue["cate_id"].to_numpy(), catalogue["adgroup_id"].to_numpy()
    popularity = random.lognormal(0, 1.5, len(likes))
    popularity /= popularity.sum()
    pages: dict[tuple[int, int], Ints] = {}
    rows = 0
    while rows < impressions:
        user, time = int(random.choice(len(likes), p=popularity)), int(random.integers(FIRST_IMPRESSION, LAST + 1))
        size = 3 if random.random() < 0.85 else 10
        liked = every[np.isin(category, likes[user])]
        if (user, time) not in pages:
            pool = liked if random.random() < 0.5 and len(liked) >= size else every
            pages[user, time] = random.choice(pool, size, replace=False)
            rows += size
    frame = pl.DataFrame([(user, time, ads) for (user, time), ads in pages.items()], orient="row").explode("column_2")
    return frame.rename({"column_0": "user", "column_1": "time_stamp", "column_2": "adgroup_id"})


def _behaviour(random: np.random.Generator, events: int, likes: Ints) -> pl.DataFrame:
    user = random.integers(len(likes), size=events)
    liked = likes[user, random.integers(LIKES, size=events)]
    category = np.where(random.random(events) < 0.7, liked, random.integers(CATEGORIES, size=events))
    return pl.DataFrame(
        {
            "user": user,
            "time_stamp": random.integers(FIRST_EVENT, LAST + 1, size=events),
            "btag": random.choice(KINDS, events, p=KIND_SHARES),
            "cate": category,
            "brand": _brand_of(random, category),
        }
    )


def _visits(shown: pl.DataFrame) -> pl.DataFrame:
    """Page views of the ads shown, at the second of the impression."""
    return shown.filter(pl.col("brand").is_not_null()).select(
        "user", "time_stamp", pl.lit("pv").alias("btag"), pl.col("cate_id").alias("cate"), "brand"
    )


def _clicks(random: np.random.Generator, shown: pl.DataFrame, log: pl.DataFrame) -> pl.Series:
    met: dict[tuple[int, int], list[int]] = {}
    for user, brand, time in log.sort("time_stamp").select("user", "brand", "time_stamp").iter_rows():
        met.setdefault((user, brand), []).append(time)
    rows = shown.select("user", "brand", "time_stamp").iter_rows()
    before = np.array([bisect_left(met.get((user, brand), []), time) for user, brand, time in rows])
    logit = -3.0 + 0.8 * np.log1p(before) + 0.3 * np.sin(shown["cate_id"].to_numpy())
    return pl.Series(random.random(len(shown)) < 1 / (1 + np.exp(-logit))).cast(pl.Int64)


def _write_shown(folder: Path, shown: pl.DataFrame) -> None:
    """As published, the rows of one ad lie together."""
    columns = shown.sort("adgroup_id", "user").select(
        "user",
        "time_stamp",
        "adgroup_id",
        pl.len().over("user", "time_stamp").replace_strict(PAGES).alias("pid"),
        (1 - pl.col("clk")).alias("nonclk"),
        "clk",
    )
    columns.write_csv(folder / "raw_sample.csv")


def _write_profiles(folder: Path, random: np.random.Generator, users: int) -> None:
    """Seven in a hundred users have none; the last column's name ends in a space."""
    some = np.flatnonzero(random.random(users) >= 0.07)

    def codes(first: int, last: int, empty: float = 0.0) -> pl.Series:
        values = pl.Series(random.integers(first, last + 1, len(some)))
        return pl.select(pl.when(pl.Series(random.random(len(some)) >= empty)).then(values)).to_series()

    profiles = {
        "userid": some,
        "cms_segid": codes(0, 96),
        "cms_group_id": codes(0, 12),
        "final_gender_code": codes(1, 2),
        "age_level": codes(0, 6),
        "pvalue_level": codes(1, 3, 0.54),
        "shopping_level": codes(1, 3),
        "occupation": codes(0, 1),
        "new_user_class_level ": codes(1, 4, 0.32),
    }
    pl.DataFrame(profiles).write_csv(folder / "user_profile.csv")


def _write_log(folder: Path, log: pl.DataFrame, seed: int) -> None:
    """Not in order, some rows twice, some at impossible times."""
    bad = log.head(len(BAD_STAMPS)).with_columns(time_stamp=pl.Series(BAD_STAMPS))
    log = pl.concat([log, log.sample(fraction=0.07, seed=seed), bad])
    log.sample(fraction=1.0, shuffle=True, seed=seed).write_csv(folder / "behavior_log.csv")
