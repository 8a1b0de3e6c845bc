"""Small random logs as tables in memory, for tests of everything that reads one."""

from dataclasses import dataclass, field, replace
from typing import Any

import ibis
import numpy as np
import polars as pl

from musenet.engines.engine import Engine
from musenet.recipe.recipe import Recipe
from musenet.sources.tables import LogSize, Tables

DAY = 86_400_000_000
START = 1_704_067_200_000_000  # 2024-01-01 00:00 UTC


@dataclass(frozen=True)
class Log:
    """Frames with the role columns of `tables.py`, any of which a test may replace."""

    impressions: pl.DataFrame
    events: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    items: pl.DataFrame | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def tables(self) -> Tables:
        def table(frame: pl.DataFrame | None) -> Any:
            return None if frame is None else ibis.memtable(frame.to_arrow())

        options = {"user_column": "user_id", "item_column": "item_id", "protocol": "as logged", **self.options}
        impressions = table(self.impressions)
        return Tables(impressions, table(self.events), table(self.users), table(self.items), **options)

    def but(self, **frames: Any) -> "Log":
        return replace(self, **frames)


@dataclass(frozen=True)
class MemorySource:
    """A source over a log in memory."""

    log: Log
    name: str = "memory"

    def tables(self, engine: Engine) -> Tables:
        return self.log.tables()

    def fingerprint(self) -> str:
        return self.name

    def size(self) -> LogSize:
        events = self.log.events
        return LogSize(len(self.log.impressions), 0 if events is None else len(events))


def random_log(seed: int = 0, *, requests: int = 120, days: int = 12, users: int = 12, items: int = 30) -> Log:
    """Requests of up to five candidates by few users, so that times tie, items repeat and values go missing."""
    random = np.random.default_rng(seed)
    user = random.integers(users, size=requests)
    # Whole minutes within an hour of each day, so that requests and events meet at the same moment.
    time = START + random.integers(days, size=requests) * DAY + random.integers(60, size=requests) * 60_000_000
    sizes = random.integers(1, 6, size=requests)
    request = np.repeat(np.arange(requests), sizes)
    item = np.concatenate([random.choice(items, size, replace=False) for size in sizes])
    city = random.integers(4, size=items)
    total = len(request)
    impressions = pl.DataFrame(
        {
            "_user": [f"u{code}" for code in user[request]],
            "_item": [f"i{code}" for code in item],
            "_time": time[request],
            "_label": (random.random(total) < 0.3).astype(np.int8),
            "_request": request,
            "device": pl.Series(random.integers(3, size=requests)[request]).replace_strict(
                {0: "phone", 1: "desk", 2: None}, return_dtype=pl.String
            ),
            "party": random.integers(1, 5, size=requests)[request],
            "price": np.where(random.random(total) < 0.1, np.nan, random.lognormal(3, 1, size=total)),
            "place": random.integers(1, 6, size=total),
            "truth": random.integers(3, size=requests)[request],
            "chance": random.random(total),
        }
    ).with_columns(pl.col("price").fill_nan(None))
    count = requests * 2
    events = pl.DataFrame(
        {
            "_user": [f"u{code}" for code in random.integers(users, size=count)],
            "_item": [f"i{code}" if code < items else None for code in random.integers(items + 2, size=count)],
            "_time": START + random.integers(days, size=count) * DAY + random.integers(60, size=count) * 60_000_000,
            "_kind": random.choice(["click", "buy", "view"], size=count),
        }
    )
    tags = ["a;b", "b; c;c", "", None, "d;a;e;f"]
    return Log(
        impressions=impressions,
        events=pl.concat([events, events.head(5)]),
        users=pl.DataFrame(
            {
                "_user": [f"u{code}" for code in range(users + 3)],
                "age": random.integers(18, 70, size=users + 3).astype(np.float64),
                "home": random.choice(["rome", "oslo", "lima"], size=users + 3),
            }
        ),
        items=pl.DataFrame(
            {
                "_item": [f"i{code}" for code in range(items + 2)],
                "city": [("rome", "oslo", "lima", None)[code] for code in [*city, 0, 1]],
                "brand": random.integers(5, size=items + 2),
                "stars": random.choice([3.0, 4.0, 4.5], size=items + 2),
                "tags": [tags[code] for code in random.integers(len(tags), size=items + 2)],
            }
        ),
    )


def recipe(**changes: Any) -> Recipe:
    """A recipe that uses everything a random log has."""
    content: dict[str, Any] = {
        "features": {
            "user": [{"age": {"numeric": "quantiles", "buckets": 4}}, {"home": {"vocabulary": "city"}}],
            "item": [
                "city",
                "brand",
                {"stars": {"numeric": "standardise"}},
                {"tags": {"multi_valued": ";", "length": 3}},
            ],
            "context": ["device", "party"],
            "candidate": [{"price": {"numeric": "log"}}, {"place": "position"}],
        },
        "history": {"columns": ["item_id", "city", "brand"], "length": 5, "kinds": ["click", "buy"]},
        "repeat": {"key": ["item_id"], "kinds": ["click", "buy"]},
        "split": {"test": "3 days", "valid": "2 days"},
        "predefined_scenario": ["device"],
        "true_scenario": "truth",
        "true_probability": "chance",
    }
    return Recipe.model_validate({**content, **changes})
