"""Simulated display ads: the published schema, figures and traps; the same again; readable by the source."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from musenet.engines.engine import Engine
from musenet.errors import UserError
from musenet.recipe.recipe import Recipe
from musenet.simulators.ads import ads
from musenet.simulators.ads import blocks as ads_blocks
from musenet.simulators.ads.ads import HEADERS, AdsOptions, simulate_ads
from musenet.simulators.ads.blocks import (
    USERS_PER_BLOCK,
    Block,
    Plan,
    draw_block,
    draw_plan,
    make_plan,
    show,
    shown_before,
    simulate_blocks,
    with_copies,
)
from musenet.simulators.ads.clicks import earlier_events
from musenet.simulators.ads.pages import Pages
from musenet.simulators.ads.published import (
    DAY,
    FIRST_EVENT,
    FIRST_IMPRESSION,
    LAST_EVENT,
    LAST_IMPRESSION,
    ROWS_OF_ADS,
    ROWS_OF_USERS,
    quantiles,
)
from musenet.simulators.ads.times import Calendar, draw_moments, spread_out
from musenet.simulators.chains import originals
from musenet.simulators.parts_on_disk import PartsOnDisk
from musenet.sources.ali_ads import AliAds, AliAdsOptions

pytestmark = pytest.mark.slow

SCALE = 0.002
TINY = AdsOptions(scale=0.001)


@dataclass(frozen=True)
class Log:
    folder: Path
    counts: dict[str, int]
    progress: list[tuple[int, int]] = field(default_factory=list)

    def read(self, name: str) -> pl.DataFrame:
        return pl.read_csv(self.folder / f"{name}.csv", null_values="NULL")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = tmp_path_factory.mktemp("ads") / "log"
    return Log(folder, simulate_ads(folder, AdsOptions(scale=SCALE)))


@pytest.fixture(scope="module")
def shown(log: Log) -> pl.DataFrame:
    return log.read("raw_sample").with_columns(day=(pl.col("time_stamp") - FIRST_IMPRESSION) // DAY)


@pytest.fixture(scope="module")
def done(log: Log) -> pl.DataFrame:
    return log.read("behavior_log")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder, told = tmp_path_factory.mktemp("ads") / "small", list[tuple[int, int]]()
    counts = simulate_ads(folder, TINY, lambda done, total: told.append((done, total)))
    return Log(folder, counts, told)


@pytest.fixture(scope="module")
def tiny() -> tuple[Plan, Block]:
    plan = make_plan(TINY)
    return plan, draw_block(plan, TINY, 0)


# ---- the files ----


@pytest.mark.parametrize("name", HEADERS)
def test_a_file_has_its_header_and_rows(log: Log, name: str) -> None:
    with (log.folder / f"{name}.csv").open(newline="") as file:
        assert file.readline() == HEADERS[name] + "\n"
        assert sum(1 for _ in file) == log.counts[name]


def test_values_are_spelt_as_published(log: Log) -> None:
    line = {
        "raw_sample": r"^\d+,149[34]\d{6},\d+,(430548_1007|430539_1007),[01],[01]$",
        "ad_feature": r"^\d+,\d+,\d+,\d+,(NULL|\d+),\d+\.\d+$",
        "user_profile": r"^\d+,\d+,\d+,[12],[0-6],[123]?,[123],[01],[1-4]?$",
        "behavior_log": r"^\d+,-?\d+,(pv|cart|fav|buy),\d+,\d+$",
    }
    for name, pattern in line.items():
        rows = pl.Series((log.folder / f"{name}.csv").read_text().splitlines()[1:])
        assert rows.str.contains(pattern).all(), name


def test_ids_are_dense_and_every_ad_is_shown(log: Log, shown: pl.DataFrame) -> None:
    catalogue = log.read("ad_feature")
    assert catalogue["adgroup_id"].to_list() == list(range(1, round(846_811 * SCALE) + 1))
    assert set(shown["adgroup_id"]) == set(catalogue["adgroup_id"])
    assert set(shown["user"]) == set(range(1, round(1_141_729 * SCALE) + 1))
    for column, whole in (("campaign_id", 423_436), ("customer", 255_875)):
        assert set(catalogue[column]) == set(range(1, round(whole * SCALE) + 1))
    assert catalogue.group_by("campaign_id").agg(pl.col("customer").n_unique())["customer"].max() == 1
    assert catalogue["cate_id"].n_unique() == round(6_769 * SCALE**0.5)


def test_a_page_is_different_ads_at_one_place_and_second(shown: pl.DataFrame) -> None:
    pages = shown.group_by("user", "time_stamp").agg(
        pl.len(), pl.col("adgroup_id").n_unique().alias("ads"), pl.col("pid").n_unique().alias("places")
    )
    assert (pages["len"] == pages["ads"]).all()
    assert (pages["places"] == 1).all()
    assert pages["len"].max() == 10


def test_rows_of_an_ad_lie_together_and_the_log_is_in_no_order(shown: pl.DataFrame, done: pl.DataFrame) -> None:
    assert shown["adgroup_id"].is_sorted()
    assert not shown["time_stamp"].is_sorted()
    for column in ("user", "time_stamp"):
        ascending = (done[column].diff().drop_nulls() >= 0).mean()
        assert ascending == pytest.approx(0.5, abs=0.01)


def test_the_group_follows_from_gender_and_age(log: Log) -> None:
    group = pl.when(pl.col("age_level") == 0).then(0).otherwise(
        pl.col("age_level") + 6 * (pl.col("final_gender_code") == 1)
    )  # fmt: skip
    assert log.read("user_profile").select((pl.col("cms_group_id") == group).all()).item()


# ---- the published figures: docs/simulated-ads.md has them at a larger scale ----


def test_the_size_is_the_published_one(log: Log) -> None:
    wanted = {"raw_sample": 26_557_961, "ad_feature": 846_811, "user_profile": 1_061_768, "behavior_log": 723_268_134}
    for name, rows in wanted.items():
        assert log.counts[name] == pytest.approx(rows * SCALE, rel=0.06), name


def test_clicks_come_as_often_as_published(log: Log, shown: pl.DataFrame) -> None:
    assert (shown["nonclk"] == 1 - shown["clk"]).all()
    assert shown["clk"].mean() == pytest.approx(0.0514, abs=0.004)
    profiles = log.read("user_profile").select(pl.col("userid").alias("user"), pl.lit(True).alias("known"))
    known = shown.join(profiles, on="user", how="left")["known"].fill_null(False)
    assert (~known).mean() == pytest.approx(0.0576, abs=0.025)


def test_pages_are_as_published(shown: pl.DataFrame) -> None:
    sizes = shown.group_by("user", "time_stamp").len()["len"]
    assert len(sizes) / shown.height == pytest.approx(0.2475, abs=0.01)
    assert (sizes == 3).mean() == pytest.approx(0.707, abs=0.03)
    assert (sizes == 10).mean() == pytest.approx(0.141, abs=0.015)
    assert (sizes == 1).sum() / shown.height == pytest.approx(0.013, abs=0.005)
    assert (shown["pid"] == "430539_1007").mean() == pytest.approx(0.380, abs=0.03)


def test_days_are_about_alike_and_evenings_busy(shown: pl.DataFrame) -> None:
    assert shown["time_stamp"].is_between(FIRST_IMPRESSION, LAST_IMPRESSION).all()
    shares = shown.group_by("day").len().sort("day")["len"] / shown.height
    assert len(shares) == 8
    assert shares.to_numpy() == pytest.approx(0.125, abs=0.015)
    hours = (shown["time_stamp"] + 8 * 3600) // 3600 % 24
    assert hours.is_between(20, 22).sum() > 6 * hours.is_between(3, 5).sum()


def test_users_are_shown_as_many_ads_as_published(shown: pl.DataFrame) -> None:
    rows = shown.group_by("user").len()["len"]
    assert rows.mean() == pytest.approx(23.26, rel=0.06)
    assert [rows.quantile(share) for share in (0.25, 0.5, 0.75)] == [3, 7, 20]
    assert (rows == 1).mean() == pytest.approx(0.0388, abs=0.004)
    ordered = rows.sort(descending=True)
    assert ordered.head(len(rows) // 10).sum() / shown.height == pytest.approx(0.591, abs=0.03)


def test_users_meet_an_ad_again_as_often_as_published() -> None:
    options = AdsOptions(scale=0.02)  # where ads are fewer, chance alone brings them back more often
    plan = with_copies(draw_plan(options), options)
    repeated = [shown_before(show(plan, options, index)[0]).mean() for index in (0, 5, plan.blocks - 2)]
    assert np.mean(repeated) == pytest.approx(0.1266, abs=0.01)


def test_ads_lack_brands_and_cost_what_is_published(log: Log) -> None:
    catalogue = log.read("ad_feature")
    assert catalogue["brand"].is_null().mean() == pytest.approx(0.2909, abs=0.07)
    assert catalogue["price"].median() == pytest.approx(np.exp(4.93), rel=0.3)
    assert (catalogue["price"].min(), catalogue["price"].max()) == (0.01, 99_999_999.0)
    assert (catalogue["price"] > 10_000).mean() == pytest.approx(0.0077, abs=0.006)


def test_profiles_have_the_published_shares(log: Log) -> None:
    profiles = log.read("user_profile")
    shares: dict[str, dict[int | None, float]] = {
        "final_gender_code": {1: 0.3556, 2: 0.6444},
        "pvalue_level": {None: 0.5424, 1: 0.1455, 2: 0.2766, 3: 0.0356},
        "new_user_class_level ": {None: 0.3249, 1: 0.0759, 2: 0.3055, 3: 0.1630, 4: 0.1308},
        "age_level": {1: 0.0618, 2: 0.1786, 3: 0.2895, 4: 0.2465, 5: 0.2020, 6: 0.0212},
    }
    for column, wanted in shares.items():
        found = dict(profiles[column].value_counts(normalize=True).rows())
        for value, share in wanted.items():
            assert found[value] == pytest.approx(share, abs=0.04), (column, value)


def test_the_log_holds_the_published_kinds_duplicates_and_impossible_times(done: pl.DataFrame) -> None:
    shares = dict(done["btag"].value_counts(normalize=True).rows())
    for kind, share in {"pv": 0.9525, "cart": 0.0220, "fav": 0.0129, "buy": 0.0126}.items():
        assert shares[kind] == pytest.approx(share, abs=0.001)
    inside = done.filter(pl.col("time_stamp").is_between(FIRST_EVENT, LAST_EVENT))
    assert 1 - inside.height / done.height == pytest.approx(6e-5, abs=3e-5)
    outside = done.filter(~pl.col("time_stamp").is_between(FIRST_EVENT, LAST_EVENT))["time_stamp"]
    assert (outside < 0).any()
    assert (outside > 1_700_000_000).any()
    assert (outside.is_between(FIRST_EVENT - DAY, LAST_EVENT + DAY)).any()
    distinct = inside.unique()
    assert 1 - distinct.height / inside.height == pytest.approx(0.072, abs=0.005)
    users = distinct["user"].n_unique()
    assert distinct.height / users == pytest.approx(591.5, rel=0.05)
    assert users / round(1_141_729 * SCALE) == pytest.approx(0.9953, abs=0.004)
    assert distinct.select("user", "cate").n_unique() / users == pytest.approx(50.4, rel=0.1)
    assert distinct.select("user", "brand").n_unique() / users == pytest.approx(129.7, rel=0.1)


def test_a_brand_is_of_one_category_in_ads_and_log_alike(log: Log, done: pl.DataFrame) -> None:
    of_ads = log.read("ad_feature").select("brand", pl.col("cate_id").alias("cate")).drop_nulls()
    both = pl.concat([of_ads, done.select("brand", "cate")])
    assert both.group_by("brand").agg(pl.col("cate").n_unique())["cate"].max() == 1


def test_a_click_opens_a_page_a_moment_later(log: Log, shown: pl.DataFrame, done: pl.DataFrame) -> None:
    clicks = shown.filter(pl.col("clk") == 1).join(log.read("ad_feature"), on="adgroup_id")
    views = done.filter(pl.col("btag") == "pv").select("user", "time_stamp", pl.col("cate").alias("cate_id"))
    following = clicks.sort("time_stamp").join_asof(
        views.sort("time_stamp").with_columns(opened=pl.col("time_stamp")),
        on="time_stamp", by=["user", "cate_id"], strategy="forward", tolerance=30, check_sortedness=False,
        allow_exact_matches=False,
    )  # fmt: skip
    assert following["opened"].is_not_null().sum() > 0.999 * len(following)


# ---- what clicks depend on ----


def test_earlier_events_are_counted_in_strictly_earlier_seconds(tiny: tuple[Plan, Block]) -> None:
    plan, block = tiny
    pages, behaviour = block.pages, block.behaviour
    by_category, by_brand = earlier_events(pages, behaviour, plan.ads, USERS_PER_BLOCK, len(plan.categories.number))
    assert 0.01 < (by_brand > 0).mean() < (by_category > 0).mean() < 1
    for row in np.random.default_rng(0).choice(len(pages.ad), 300, replace=False):
        of_user = (behaviour.user == pages.user[row]) & (behaviour.seconds < pages.seconds[row])
        category, brand = plan.ads.category[pages.ad[row]], plan.ads.brand[pages.ad[row]]
        assert by_category[row] == np.count_nonzero(of_user & (behaviour.category == category))
        assert by_brand[row] == (np.count_nonzero(of_user & (behaviour.brand == brand)) if brand >= 0 else 0)


def test_an_event_in_the_second_of_an_impression_does_not_count(tiny: tuple[Plan, Block]) -> None:
    plan, block = tiny
    categories = len(plan.categories.number)
    row = np.flatnonzero(plan.ads.brand[block.pages.ad] >= 0)[:1]
    page = Pages(*(getattr(block.pages, field.name)[row] for field in fields(Pages)))
    ad, second = page.ad, page.seconds
    event = replace(
        block.landings,
        user=page.user.repeat(3),
        seconds=np.concatenate([second - 1, second, second + 1]),
        kind=np.zeros(3, np.uint8),
        category=plan.ads.category[ad].repeat(3),
        brand=plan.ads.brand[ad].repeat(3),
    )
    assert [found.tolist() for found in earlier_events(page, event, plan.ads, USERS_PER_BLOCK, categories)] == [
        [1],
        [1],
    ]


def test_who_has_met_a_brand_clicks_rather(log: Log, shown: pl.DataFrame, done: pl.DataFrame) -> None:
    first = (
        done.filter(pl.col("time_stamp") >= FIRST_EVENT)
        .group_by("user", "brand")
        .agg(pl.col("time_stamp").min().alias("met"))
    )
    joined = shown.join(log.read("ad_feature"), on="adgroup_id").drop_nulls("brand")
    met = joined.join(first, on=["user", "brand"], how="left").select(
        "clk", (pl.col("met") < pl.col("time_stamp")).fill_null(False).alias("met")
    )
    rates = dict(met.group_by("met").agg(pl.col("clk").mean()).rows())
    assert rates[True] > 1.15 * rates[False]


# ---- parts ----


def test_quantiles_pass_through_their_table() -> None:
    for table in (ROWS_OF_USERS, ROWS_OF_ADS):
        shares = np.array(table[0][:-1])
        assert quantiles(table, shares, 1_000_000) == pytest.approx(np.array(table[1][:-1]))
        assert quantiles(table, np.array([1 - 1e-9]), 1_000_000) == pytest.approx(table[1][-1])
        assert (np.diff(quantiles(table, np.linspace(0, 0.9999, 500), 1_000_000)) > 0).all()


def test_originals_are_the_ends_of_chains() -> None:
    random = np.random.default_rng(3)
    place = np.arange(500)
    copied_from = np.where(random.random(500) < 0.1, place, (place * random.random(500)).astype(np.int64))
    wanted = place.copy()
    for index in place:  # an entry is copied from an earlier one, whose original is known by then
        wanted[index] = index if copied_from[index] == index else wanted[copied_from[index]]
    np.testing.assert_array_equal(originals(copied_from), wanted)


def test_moments_spread_out_are_in_order_different_and_within_the_calendar() -> None:
    calendar = Calendar(1000 * DAY, 1002 * DAY - 1, np.array([0.0, 1.0]), stay=0.9, gap=1.0)
    user = np.repeat(np.arange(40), 50)
    seconds, begins = draw_moments(user, calendar, np.random.default_rng(0))
    assert begins[::50].all()
    crowded = np.maximum(seconds, calendar.last - 60)  # nearly all at the very end
    for moments in (seconds, crowded):
        spread = spread_out(user, moments, calendar).reshape(40, 50)
        assert (np.diff(spread, axis=1) > 0).all()
        assert spread.max() <= calendar.last
        assert spread.min() >= calendar.first


def test_parts_come_back_in_the_order_of_arrival_and_leave_nothing(tmp_path: Path) -> None:
    parts = PartsOnDisk(tmp_path / "parts", 3, np.dtype([("a", "<i4"), ("b", "u1")]))
    parts.add(np.array([2, 0, 2]), a=np.array([1, 2, 3]), b=np.array([4, 5, 6]))
    parts.add(np.array([0]), a=np.array([7]), b=np.array([8]))
    assert [rows.tolist() for rows in parts.read()] == [[(2, 5), (7, 8)], [], [(1, 4), (3, 6)]]
    assert list(tmp_path.iterdir()) == []


# ---- read by the source ----


def test_the_source_reads_the_files_and_finds_their_traps(small: Log) -> None:
    content = {
        "features": {"item": ["cate_id", "brand"], "context": ["pid", "hour"]},
        "history": {"columns": ["cate_id", "brand"]},
        "split": {"parts": 7, "test": 1},
    }
    options = AliAdsOptions(source="ali_ads", folder=str(small.folder))
    connection = ibis.duckdb.connect()
    tables = AliAds(options, Recipe.model_validate(content)).tables(Engine(connection))
    found = {(rule.table, rule.reason): rule.rows for rule in tables.cleaning if rule.rows}
    catalogue = small.read("ad_feature")
    outside = ~pl.col("time_stamp").is_between(FIRST_EVENT, LAST_EVENT)
    assert found == {
        ("items", "brand is NULL: made missing"): catalogue["brand"].null_count(),
        ("items", "price above 10000: clipped"): (catalogue["price"] > 10_000).sum(),
        ("events", "time_stamp is outside the log's 22 days"): small.read("behavior_log").filter(outside).height,
    }
    assert tables.impressions.count().to_pyarrow().as_py() == small.counts["raw_sample"]
    assert tables.users is not None
    assert tables.users.count().to_pyarrow().as_py() == small.counts["user_profile"]


# ---- options ----


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(small: Log, tmp_path: Path) -> None:
    for name, seed in (("again", 1), ("other", 2)):
        simulate_ads(tmp_path / name, AdsOptions(scale=0.001, seed=seed))
    for name in HEADERS:
        first = (small.folder / f"{name}.csv").read_bytes()
        assert first == (tmp_path / "again" / f"{name}.csv").read_bytes()
        assert first != (tmp_path / "other" / f"{name}.csv").read_bytes()


def test_blocks_and_parts_grow_in_number_and_not_in_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ads_blocks, "USERS_PER_BLOCK", 256)
    monkeypatch.setattr(ads_blocks, "PILOT_BLOCKS", 1)
    largest, numbers = [], []
    for scale in (0.001, 0.002):
        options = AdsOptions(scale=scale)
        blocks = [len(block.behaviour.user) for block in simulate_blocks(make_plan(options), options)]
        largest.append(max(blocks))
        numbers.append(len(blocks))
    assert numbers == [5, 9]
    assert largest[1] < 1.4 * largest[0]
    read: list[int] = []

    def counted(rows: Any) -> pl.DataFrame:
        read.append(len(rows))
        return pl.DataFrame({"user": rows["user"].copy()})

    monkeypatch.setattr(ads, "ROWS_PER_PART", 50_000)
    monkeypatch.setattr(ads, "_event_rows", counted)
    simulate_ads(tmp_path / "log", TINY)
    assert len(read) == 13
    assert max(read) < 70_000


def test_a_block_depends_on_its_number_alone(tiny: tuple[Plan, Block]) -> None:
    plan, block = tiny
    again = draw_block(plan, TINY, 0)
    np.testing.assert_array_equal(block.clicked, again.clicked)
    np.testing.assert_array_equal(block.behaviour.brand, again.behaviour.brand)


def test_the_size_can_be_given_in_impressions(small: Log) -> None:
    assert AdsOptions(impressions=26_558).size == pytest.approx(TINY.size, rel=1e-4)
    assert AdsOptions().size == 0.01
    assert small.counts["raw_sample"] == pytest.approx(26_558, rel=0.06)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": 0.0009},
        {"scale": 1.1},
        {"scale": float("nan")},
        {"impressions": 26_557},
        {"impressions": 26_557_962},
        {"impressions": 50_000, "scale": 0.01},
        {"seed": -1},
        {"skale": 0.01},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        AdsOptions.model_validate(wrong)


# ---- writing ----


def test_an_existing_log_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        simulate_ads(tmp_path, TINY)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine.txt"]


def test_progress_reaches_the_end_and_only_the_files_are_left(small: Log) -> None:
    assert small.progress == [(number, 3) for number in (1, 2, 3)]  # a block of users, the impressions, the log
    assert {path.name for path in small.folder.iterdir()} == {f"{name}.csv" for name in HEADERS}


@pytest.mark.parametrize("portion", [1, 3])
def test_an_interrupted_simulation_leaves_nothing(portion: int, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == portion:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_ads(tmp_path / "out", TINY, interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_the_users_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Iterator[Block]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ads, "simulate_blocks", full)
    with pytest.raises(UserError, match="No space left"):
        simulate_ads(tmp_path / "out", TINY)
    assert list(tmp_path.iterdir()) == []
