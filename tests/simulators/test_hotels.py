"""The hotel log: what it is calibrated to, that it repeats itself, and that nothing half-written stays behind."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from musenet.errors import UserError
from musenet.simulators.hotels import hotels
from musenet.simulators.hotels.hotels import SCHEMAS, HotelOptions, simulate_hotels
from musenet.simulators.hotels.visits import Block, Plan, make_plan, simulate_blocks

pytestmark = pytest.mark.slow

FILES = ("impressions", "clicks", "users", "hotels")
SMALL = 20_000


@dataclass(frozen=True)
class Log:
    folder: Path
    counts: dict[str, int]

    def read(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.folder / f"{name}.parquet")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = tmp_path_factory.mktemp("hotels") / "log"
    return Log(folder, simulate_hotels(folder, HotelOptions(impressions=200_000)))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = tmp_path_factory.mktemp("hotels") / "small"
    return Log(folder, simulate_hotels(folder, HotelOptions(impressions=SMALL)))


def with_repeats(log: Log) -> pl.DataFrame:
    """The impressions with the number of strictly earlier clicks on the same hotel, counted from the files."""
    clicks = log.read("clicks").filter(pl.col("action") == "click").select("user_id", "hotel_id", "clicked_at")
    impressions = log.read("impressions").with_row_index()
    earlier = (
        impressions.select("index", "user_id", "hotel_id", "shown_at")
        .join(clicks, on=["user_id", "hotel_id"])
        .filter(pl.col("clicked_at") < pl.col("shown_at"))
        .group_by("index")
        .len("earlier")
    )
    return impressions.join(earlier, on="index", how="left").with_columns(pl.col("earlier").fill_null(0)).sort("index")


def request_inputs(log: Log) -> tuple[np.ndarray, np.ndarray]:
    """Standardised context and profile of every request, categories one-hot; and its true scenario."""
    requests = log.read("impressions").filter(pl.col("rank") == 1).join(log.read("users"), on="user_id")
    numeric = requests.select(
        pl.col("days_ahead").log1p(), pl.col("distance_travelled").log1p(), "same_city", "same_day", "holiday", "family"
    )
    categories = requests.select("weekday", "device", "age_band", "membership").to_dummies()
    inputs = pl.concat([numeric, categories], how="horizontal").to_numpy().astype(np.float64)
    return (inputs - inputs.mean(axis=0)) / inputs.std(axis=0), requests["true_scenario"].to_numpy()


def blocks_of(**options: float | str) -> tuple[Plan, list[Block]]:
    chosen = HotelOptions.model_validate({"impressions": SMALL, **options})
    plan = make_plan(chosen)
    return plan, list(simulate_blocks(plan, chosen))


# ---- calibration ----


def test_six_of_a_hundred_impressions_are_clicked(log: Log) -> None:
    assert log.read("impressions")["clicked"].mean() == pytest.approx(0.06, abs=0.005)


def test_two_of_five_clicks_are_repeats(log: Log) -> None:
    clicked = with_repeats(log).filter(pl.col("clicked") == 1)
    assert (clicked["earlier"] > 0).mean() == pytest.approx(0.40, abs=0.05)


def test_the_true_probability_is_calibrated_and_ranks_as_intended(log: Log) -> None:
    impressions = log.read("impressions")
    assert 0.87 <= roc_auc_score(impressions["clicked"], impressions["true_probability"]) <= 0.91
    assert impressions["true_probability"].mean() == pytest.approx(impressions["clicked"].mean(), abs=0.002)


def test_knowing_the_scenario_is_worth_much() -> None:
    plan, blocks = blocks_of(impressions=100_000)
    clicked, probability, average = [], [], []
    for block in blocks:
        every = [plan.clicks.probability(np.full_like(block.scenario, k), block.features, block.earlier_clicks)
                 for k in range(4)]  # fmt: skip
        logged = block.requests.logged
        clicked.append(block.clicked[logged].ravel())
        probability.append(block.probability[logged].ravel())
        average.append(np.mean(every, axis=0)[logged].ravel())
    labels = np.concatenate(clicked)
    gap = roc_auc_score(labels, np.concatenate(probability)) - roc_auc_score(labels, np.concatenate(average))
    assert gap >= 0.06


def test_a_classifier_told_the_truth_finds_the_scenarios_and_k_means_does_not(log: Log) -> None:
    inputs, scenario = request_inputs(log)
    half = len(inputs) // 2
    told = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=15).fit(inputs[:half], scenario[:half])
    # Half of 200 thousand impressions is little to learn a product from: docs/hotels.md has the figure at two million.
    assert 0.58 <= adjusted_rand_score(scenario[half:], told.predict(inputs[half:])) <= 0.75
    clusters = KMeans(4, n_init=1, random_state=0).fit_predict(inputs)
    assert adjusted_rand_score(scenario, clusters) <= 0.10


def test_every_scenario_has_its_share(log: Log) -> None:
    shares = np.bincount(request_inputs(log)[1], minlength=4) / (200_000 / 10)
    assert shares.min() >= 0.20


@pytest.mark.parametrize("options", [{"scenarios": 8}, {"strength": 2.0}, {"strength": 0.0}, {"noise": 3.0}])
def test_the_click_rate_holds_for_other_options(options: dict[str, float]) -> None:
    _, blocks = blocks_of(impressions=60_000, **options)
    probability = np.concatenate([block.probability[block.requests.logged] for block in blocks])
    assert probability.mean() == pytest.approx(0.06, abs=0.008)


# ---- the files ----


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_its_columns_and_rows(log: Log, name: str) -> None:
    path = log.folder / f"{name}.parquet"
    assert pq.read_schema(path).equals(SCHEMAS[name])
    assert pq.read_metadata(path).num_rows == log.counts[name]
    assert not any(column.null_count() for column in log.read(name))


def test_requests_are_ten_distinct_hotels_of_the_destination_in_one_context(log: Log) -> None:
    impressions = log.read("impressions").join(log.read("hotels").select("hotel_id", "city"), on="hotel_id")
    assert (impressions["city"] == impressions["destination"]).all()
    requests = impressions.group_by("search_id").agg(
        pl.len(),
        pl.col("hotel_id").n_unique().alias("hotels"),
        pl.col("rank").n_unique().alias("ranks"),
        pl.struct("user_id", "shown_at", "days_ahead", "distance_travelled", "device", "weekday", "true_scenario")
        .n_unique()
        .alias("contexts"),
    )
    assert requests.height == 20_000
    assert (requests["len"] == 10).all()
    assert (requests["hotels"] == 10).all()
    assert (requests["ranks"] == 10).all()
    assert (requests["contexts"] == 1).all()


def test_context_columns_agree_with_each_other(log: Log) -> None:
    impressions = log.read("impressions").join(log.read("users"), on="user_id")
    assert impressions.height == log.counts["impressions"]
    assert (impressions["same_city"] == (impressions["home_city"] == impressions["destination"])).all()
    assert (impressions["same_day"] == (impressions["days_ahead"] == 0)).all()
    weekday = impressions.select(
        (pl.col("shown_at").dt.offset_by(pl.format("{}d", "days_ahead"))).dt.strftime("%a").str.to_lowercase()
    ).to_series()
    assert (weekday == impressions["weekday"]).all()


def test_the_log_lasts_eight_weeks_after_four_weeks_of_clicks_alone(log: Log) -> None:
    shown, clicks = log.read("impressions")["shown_at"].to_list(), log.read("clicks")["clicked_at"].to_list()
    assert (max(shown) - min(shown)).days in {55, 56}
    assert 26 <= (min(shown) - min(clicks)).days <= 28


def test_every_click_in_the_log_is_an_event_and_bookings_follow_clicks(log: Log) -> None:
    impressions, events = log.read("impressions"), log.read("clicks")
    clicks = events.filter(pl.col("action") == "click")
    later = clicks.filter(pl.col("clicked_at") >= impressions["shown_at"].min())
    # A click of the burn-in's last minutes may fall into the log.
    assert 0 <= later.height - impressions["clicked"].sum() <= 5
    bookings = events.filter(pl.col("action") == "booking")
    assert 0.2 <= bookings.height / clicks.height <= 0.3
    followed = bookings.sort("clicked_at").join_asof(
        clicks.sort("clicked_at").with_columns(pl.col("clicked_at").alias("click")),
        on="clicked_at", by=["user_id", "hotel_id"], strategy="backward", check_sortedness=False,
    )  # fmt: skip
    assert max((followed["clicked_at"] - followed["click"]).dt.total_minutes().drop_nulls()) <= 40
    assert followed["click"].null_count() == 0


def test_a_repeat_is_decided_by_strictly_earlier_clicks(small: Log) -> None:
    _, blocks = blocks_of()
    used = np.concatenate([block.earlier_clicks[block.requests.logged].ravel() for block in blocks])
    counted = with_repeats(small)
    np.testing.assert_array_equal(counted["earlier"].to_numpy(), used)
    assert (counted.filter(pl.col("clicked") == 1)["earlier"] > 0).any()


def test_the_written_probability_is_the_click_models(small: Log) -> None:
    plan, blocks = blocks_of()
    for block in blocks:
        expected = plan.clicks.probability(block.scenario, block.features, block.earlier_clicks)
        np.testing.assert_allclose(block.probability, expected, rtol=1e-6)
    written = np.concatenate([block.probability[block.requests.logged].ravel() for block in blocks])
    np.testing.assert_array_equal(small.read("impressions")["true_probability"].to_numpy(), written)


# ---- options ----


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(small: Log, tmp_path: Path) -> None:
    simulate_hotels(tmp_path / "again", HotelOptions(impressions=SMALL))
    simulate_hotels(tmp_path / "other", HotelOptions(impressions=SMALL, seed=2))
    for name in FILES:
        first = (small.folder / f"{name}.parquet").read_bytes()
        assert first == (tmp_path / "again" / f"{name}.parquet").read_bytes()
        assert first != (tmp_path / "other" / f"{name}.parquet").read_bytes()


def test_without_strength_scenarios_differ_in_nothing() -> None:
    plan, blocks = blocks_of(strength=0.0)
    block = blocks[0]
    for scenario in range(4):
        same = plan.clicks.probability(np.full_like(block.scenario, scenario), block.features, block.earlier_clicks)
        np.testing.assert_allclose(same, block.probability, rtol=1e-5)


@pytest.mark.parametrize("scenarios", [3, 4])
def test_the_rules_probability_is_how_often_a_scenario_is_drawn(scenarios: int) -> None:
    plan, blocks = blocks_of(scenarios=scenarios)
    situation, shift = blocks[0].requests.situation, plan.drift.of_shares(blocks[0].requests.seconds)
    generator = np.random.default_rng(5)
    drawn = [np.eye(scenarios)[plan.rule.assign(situation, shift, generator)] for _ in range(200)]
    probability = plan.rule.probability(situation, shift)
    assert np.allclose(probability.sum(axis=1), 1.0, atol=1e-5)
    # 200 draws of each of some thousand requests: six standard errors of the share, 0.5 / sqrt(200), are .21.
    assert np.abs(np.mean(drawn, axis=0) - probability).max() < 0.21
    assert np.mean(drawn, axis=0).mean(axis=0) == pytest.approx(probability.mean(axis=0), abs=0.005)


def test_a_shift_changes_the_last_week_alone(log: Log, tmp_path: Path) -> None:
    simulate_hotels(tmp_path / "shifted", HotelOptions(impressions=200_000, shift=0.5))
    plain = log.read("impressions")
    shifted = Log(tmp_path / "shifted", {}).read("impressions")
    tested = pl.col("shown_at") >= pl.datetime(2024, 3, 18, time_zone="UTC")
    assert plain.filter(~tested).equals(shifted.filter(~tested))

    def shares(impressions: pl.DataFrame) -> np.ndarray:
        return np.bincount(impressions["true_scenario"].to_numpy(), minlength=4) / impressions.height

    assert np.abs(shares(plain.filter(tested)) - 0.25).max() < 0.05
    assert np.abs(shares(shifted.filter(tested)) - 0.25).max() > 0.08


LAST_DAY = 84  # since the burn-in began


@cache
def drifting(drift: str, shift: float = 1.0, days: int = 14) -> dict[str, np.ndarray]:
    """What a log that drifts says of every request: on which day of the drift it was, and how it ended."""
    _, blocks = blocks_of(impressions=60_000, shift=shift, drift=drift, drift_days=days)
    return {
        "day": np.concatenate([block.requests.seconds for block in blocks]) // 86_400 - LAST_DAY + days,
        "scenario": np.concatenate([block.scenario for block in blocks]),
        "probability": np.concatenate([block.probability for block in blocks]),
        "price": np.concatenate([np.log(block.price) for block in blocks]),
        "clicked": np.concatenate([block.clicked for block in blocks]),
    }


def share_of(requests: dict[str, np.ndarray], scenario: int, *days: int) -> float:
    return float((requests["scenario"][np.isin(requests["day"], days)] == scenario).mean())


@pytest.mark.parametrize("drift", ["slow", "returning", "unseen", "taste"])
def test_every_drift_changes_the_last_days_alone(drift: str) -> None:
    changed, plain = drifting(drift), drifting("sudden", shift=1e-9)
    before = changed["day"] < 0
    assert 0.7 < before.mean() < 0.9
    for name in ("scenario", "probability", "price", "clicked"):
        assert np.array_equal(changed[name][before], plain[name][before])
    assert not np.array_equal(changed["clicked"][~before], plain["clicked"][~before])


def test_shares_move_slowly_or_come_back() -> None:
    slow, returning = drifting("slow"), drifting("returning")
    assert share_of(slow, 0, 0, 1) < share_of(slow, 0, 6, 7) < share_of(slow, 0, 12, 13)
    assert share_of(slow, 0, 12, 13) > 0.5
    assert share_of(returning, 0, 6, 7) > 0.5
    assert max(share_of(returning, 0, 0), share_of(returning, 0, 13)) < 0.4


def test_a_scenario_joins_in_that_was_never_there() -> None:
    requests = drifting("unseen", shift=0.4)
    assert share_of(requests, 4, *range(14)) == pytest.approx(0.4, abs=0.04)
    assert requests["scenario"][requests["day"] < 0].max() == 3


def test_a_taste_turns_inside_scenarios_and_shares_stay() -> None:
    requests = drifting("taste")
    assert share_of(requests, 2, *range(14)) == pytest.approx(0.25, abs=0.04)

    def liking(rows: np.ndarray) -> float:
        """How much dearer clicked hotels are on a weekend escape, when people like it dear before the drift."""
        own = rows & (requests["scenario"] == 2)
        price, clicked = requests["price"][own], requests["clicked"][own]
        return float(price[clicked].mean() - price.mean())

    assert liking(requests["day"] < 0) > 0.1
    assert liking(requests["day"] >= 0) < -0.1


@pytest.mark.parametrize("scenarios", [1, 2, 3, 6, 8])
def test_any_number_of_scenarios_is_used(scenarios: int) -> None:
    plan, blocks = blocks_of(scenarios=scenarios)
    shares = np.bincount(np.concatenate([block.scenario for block in blocks]), minlength=scenarios)
    assert len(shares) == scenarios
    assert shares.min() / shares.sum() > 0.4 / scenarios
    assert len(np.unique(plan.clicks.repeat_probability)) == scenarios


@pytest.mark.parametrize(
    "wrong",
    [
        {"impressions": 19_999},
        {"impressions": 100_000_001},
        {"scenarios": 0},
        {"scenarios": 13},
        {"noise": -0.1},
        {"noise": float("nan")},
        {"strength": float("inf")},
        {"shift": 1.1},
        {"shift": 0.5, "drift": "sideways"},
        {"shift": 0.5, "drift_days": 0},
        {"drift": "slow"},
        {"seed": -1},
        {"sead": 1},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        HotelOptions.model_validate(wrong)


# ---- writing ----


def test_an_existing_log_is_not_overwritten(tmp_path: Path) -> None:
    kept = tmp_path / "out" / "mine.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        simulate_hotels(kept.parent, HotelOptions(impressions=SMALL))
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]


def test_an_empty_folder_is_filled_and_progress_reaches_the_end(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    seen: list[tuple[int, int]] = []
    counts = simulate_hotels(out, HotelOptions(impressions=SMALL), lambda done, total: seen.append((done, total)))
    assert counts["impressions"] == SMALL
    assert seen[-1] == (SMALL, SMALL)
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["out", *(f"{name}.parquet" for name in FILES)])


def test_an_interrupted_simulation_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_hotels(tmp_path / "out", HotelOptions(impressions=SMALL), interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_the_users_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hotels, "simulate_blocks", full)
    with pytest.raises(UserError, match="No space left"):
        simulate_hotels(tmp_path / "out", HotelOptions(impressions=SMALL))
    assert list(tmp_path.iterdir()) == []
