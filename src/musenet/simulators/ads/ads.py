"""`simulate ads`: the four files of Ali Display Ads, as published in schema, figures and traps, of any size.

The same seed gives the same bytes. Users are simulated block by block and set aside on disk, until impressions can be
written ad by ad and the behaviour log in no order at all. See docs/simulated-ads.md for what is invented, and how.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BufferedWriter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from musenet.simulators.ads.behaviour import DUPLICATED, KINDS
from musenet.simulators.ads.blocks import (
    EVENT_STREAM,
    ORDER_STREAM,
    PROFILE_STREAM,
    AdsOptions,
    Block,
    Plan,
    make_plan,
    simulate_blocks,
)
from musenet.simulators.ads.pages import PIDS
from musenet.simulators.ads.published import DAY, EVENTS, FIRST_EVENT, IMPRESSIONS, LAST_EVENT
from musenet.simulators.arrays import Integers
from musenet.simulators.new_folder import new_folder
from musenet.simulators.parts_on_disk import PartsOnDisk, Rows

__all__ = ["HEADERS", "AdsOptions", "simulate_ads"]

HEADERS = {
    "raw_sample": "user,time_stamp,adgroup_id,pid,nonclk,clk",
    "ad_feature": "adgroup_id,cate_id,campaign_id,customer,brand,price",
    "user_profile": "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,"
    "occupation,new_user_class_level ",
    "behavior_log": "user,time_stamp,btag,cate,brand",
}
"""As published: the last column of the profiles ends in a space."""
SHOWN = np.dtype([("user", "<i4"), ("time", "<i4"), ("ad", "<i4"), ("pid", "u1"), ("clicked", "u1")])
DONE = np.dtype([("user", "<i4"), ("time", "<i4"), ("kind", "u1"), ("category", "<i2"), ("brand", "<i4")])
ROWS_PER_PART = 2_000_000

WRONG_YEARS = (-2_100_000_000, -1_380_000_000, 1_470_000_000, 1_720_000_000, 1_970_000_000)
"""In 1903, 1926, 2016, 2024 and 2032."""
IN_WRONG_YEARS, DAYS_OFF = 4e-5, 2e-5
NO_SEGMENT = 0.556
SEGMENTS = 96
STUDENTS = 0.076
NO_SPENDING_LEVEL, SPENDING_SHARES = 0.5424, (0.3179, 0.6044, 0.0777)
NO_CITY_LEVEL, CITY_SHARES = 0.3249, (0.1124, 0.4526, 0.2414, 0.1936)

Progress = Callable[[int, int], None]


def simulate_ads(out: Path, options: AdsOptions, progress: Progress | None = None) -> dict[str, int]:
    """Write the four files into the new folder `out` and return the number of rows of each.

    `progress` is called with the portions of work done so far and in all. Nothing is left behind if writing fails.

    Raises:
        UserError: if `out` holds something, or the disk does not take the files.
    """
    with new_folder(out, "The display ads' files") as folder:
        return _write_files(folder, options, progress or (lambda done, total: None))


def _write_files(folder: Path, options: AdsOptions, progress: Progress) -> dict[str, int]:
    plan = make_plan(options)
    shown = PartsOnDisk(folder / "shown", _parts(IMPRESSIONS * options.size), SHOWN)
    done = PartsOnDisk(folder / "done", _parts(EVENTS * options.size), DONE)
    total = plan.blocks + shown.count + done.count
    for index, block in enumerate(simulate_blocks(plan, options)):
        _set_aside_impressions(shown, block, len(plan.ads.price))
        _set_aside_events(done, block, plan, options.generator(EVENT_STREAM, index))
        progress(index + 1, total)
    counts = dict.fromkeys(HEADERS, 0)

    def write(name: str, file: BufferedWriter, rows: pl.DataFrame) -> None:
        rows.write_csv(file, include_header=False, null_value="NULL" if name == "ad_feature" else "")
        counts[name] += rows.height

    for name, frame in (("ad_feature", _ad_rows(plan)), ("user_profile", _profile_rows(plan, options))):
        with _begin(folder, name) as file:
            write(name, file, frame)
    with _begin(folder, "raw_sample") as file:
        for number, rows in enumerate(shown.read()):
            write("raw_sample", file, _impression_rows(rows))
            progress(plan.blocks + number + 1, total)
    with _begin(folder, "behavior_log") as file:
        for number, rows in enumerate(done.read()):
            order = options.generator(ORDER_STREAM, number).permutation(len(rows))
            write("behavior_log", file, _event_rows(rows[order]))
            progress(plan.blocks + shown.count + number + 1, total)
    return counts


def _parts(rows: float) -> int:
    return max(1, round(rows / ROWS_PER_PART))


def _begin(folder: Path, name: str) -> BufferedWriter:
    file = (folder / f"{name}.csv").open("wb")
    file.write(HEADERS[name].encode() + b"\n")
    return file


def _set_aside_impressions(parts: PartsOnDisk, block: Block, ads: int) -> None:
    """By ad, since the rows of one ad lie together in the file."""
    pages = block.pages
    parts.add(
        pages.ad * parts.count // ads,
        user=1 + block.first_user + pages.user,
        time=pages.seconds,
        ad=1 + pages.ad,
        pid=pages.pid,
        clicked=block.clicked,
    )


def _set_aside_events(parts: PartsOnDisk, block: Block, plan: Plan, generator: np.random.Generator) -> None:
    """Anywhere, since the file is in no order: some of them twice, some at impossible times."""
    events, landings = block.behaviour, block.landings
    kind = np.concatenate([events.kind, landings.kind])
    copies = 1 + (generator.random(len(kind), np.float32) < np.array(DUPLICATED, np.float32)[kind])
    place = np.repeat(np.arange(len(kind)), copies)
    user = np.concatenate([events.user, landings.user])
    time = _spoil(np.concatenate([events.seconds, landings.seconds]), generator)
    category = plan.categories.number[np.concatenate([events.category, landings.category])]
    brand = plan.categories.brand_number[np.concatenate([events.brand, landings.brand])]
    parts.add(
        generator.integers(parts.count, size=len(place)),
        user=1 + block.first_user + user[place],
        time=time[place],
        kind=kind[place],
        category=category[place],
        brand=brand[place],
    )


def _spoil(seconds: Integers, generator: np.random.Generator) -> Integers:
    """Return the times with some in other years, and some just before or after the 22 days."""
    chance = generator.random(len(seconds))
    years = np.flatnonzero(chance < IN_WRONG_YEARS)
    seconds[years] = generator.choice(WRONG_YEARS, len(years)) + generator.integers(DAY, size=len(years))
    days = np.flatnonzero((chance >= IN_WRONG_YEARS) & (chance < IN_WRONG_YEARS + DAYS_OFF))
    off = 1 + generator.integers(DAY, size=len(days))
    seconds[days] = np.where(generator.random(len(days)) < 0.5, FIRST_EVENT - off, LAST_EVENT + off)
    return seconds


def _impression_rows(rows: Rows) -> pl.DataFrame:
    rows = rows[np.argsort(rows["ad"], kind="stable")]
    columns = {"user": rows["user"], "time_stamp": rows["time"], "adgroup_id": rows["ad"]}
    pid = _named(PIDS, rows["pid"])
    return pl.DataFrame(
        {**_apart(columns), "pid": pid, **_apart({"nonclk": 1 - rows["clicked"], "clk": rows["clicked"]})}
    )


def _event_rows(rows: Rows) -> pl.DataFrame:
    before, after = (
        {"user": rows["user"], "time_stamp": rows["time"]},
        {"cate": rows["category"], "brand": rows["brand"]},
    )
    return pl.DataFrame({**_apart(before), "btag": _named(KINDS, rows["kind"]), **_apart(after)})


def _apart(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Columns of rows that lie side by side, each on its own."""
    return {name: np.ascontiguousarray(values) for name, values in columns.items()}


def _named(names: tuple[str, ...], place: NDArray[Any]) -> pl.Series:
    return pl.Series(names).gather(np.ascontiguousarray(place))


def _ad_rows(plan: Plan) -> pl.DataFrame:
    ads, categories = plan.ads, plan.categories
    brand = pl.Series(categories.brand_number[ads.brand])
    return pl.DataFrame(
        {
            "adgroup_id": np.arange(1, len(ads.price) + 1),
            "cate_id": categories.number[ads.category],
            "campaign_id": 1 + ads.campaign,
            "customer": 1 + ads.customer,
            "brand": brand.set(pl.Series(ads.brand < 0), None),
            "price": ads.price,
        }
    )


def _profile_rows(plan: Plan, options: AdsOptions) -> pl.DataFrame:
    """The profiles of those who have one, empty where unknown; the group follows from gender and age."""
    generator = options.generator(PROFILE_STREAM)
    users = np.flatnonzero(plan.population.profiled)
    gender, age = plan.population.gender[users], plan.population.age[users]

    def levels(unknown: float, shares: tuple[float, ...]) -> pl.Series:
        drawn = pl.Series(1 + generator.choice(len(shares), len(users), p=np.array(shares) / sum(shares)))
        return drawn.set(pl.Series(generator.random(len(users)) < unknown), None)

    segment = generator.integers(1, SEGMENTS + 1, len(users))
    return pl.DataFrame(
        {
            "userid": 1 + users,
            "cms_segid": np.where(generator.random(len(users)) < NO_SEGMENT, 0, segment),
            "cms_group_id": np.where(age == 0, 0, age + 6 * (gender == 1)),
            "final_gender_code": gender,
            "age_level": age,
            "pvalue_level": levels(NO_SPENDING_LEVEL, SPENDING_SHARES),
            "shopping_level": plan.population.shopping[users],
            "occupation": (generator.random(len(users)) < STUDENTS).astype(np.int64),
            "new_user_class_level": levels(NO_CITY_LEVEL, CITY_SHARES),
        }
    )
