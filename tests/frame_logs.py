"""A small log as frames: what was shown, what users did, users and items."""

from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

USERS, ITEMS, REQUESTS, SHOWN = 40, 20, 240, 4
LIBRARIES: dict[str, Any] = {
    "pandas": lambda frame: frame,
    "polars": pl.from_pandas,
    "arrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "duckdb": lambda frame: duckdb.from_arrow(pa.Table.from_pandas(frame, preserve_index=False)),
}
"""A pandas frame as that of each library."""


def shop_frames() -> dict[str, pd.DataFrame]:
    """960 impressions in 240 requests over 20 days; every second click is a repeat of the user's earlier one."""
    random = np.random.default_rng(3)
    times = pd.Timestamp("2024-03-04") + pd.to_timedelta(np.sort(random.integers(0, 20 * 86_400, REQUESTS)), unit="s")
    user = np.concatenate([np.arange(USERS), random.integers(0, USERS, REQUESTS - USERS)])
    favourite = random.integers(0, ITEMS, USERS)
    shown = []
    for request in range(REQUESTS):
        items = random.choice(ITEMS, SHOWN, replace=False)
        items[0] = favourite[user[request]]
        items = np.unique(items)
        device = random.choice(["phone", "desktop"])
        for item in items:
            chance = 0.6 if item == favourite[user[request]] else 0.15
            taken = int(random.random() < chance)
            price = round(float(random.lognormal(3, 1)), 2)
            shown.append((f"s{request}", user[request], item, times[request], device, price, taken))
    columns = ["search_id", "user_id", "item_id", "shown_at", "device", "price", "clicked"]
    table = pd.DataFrame(shown, columns=columns).astype({"device": "category"})
    clicks = table[table.clicked == 1][["user_id", "item_id", "shown_at"]].rename(columns={"shown_at": "clicked_at"})
    return {
        "impressions": table,
        "events": clicks.assign(clicked_at=clicks.clicked_at + pd.Timedelta(seconds=20), action="click"),
        "users": pd.DataFrame({"user_id": range(USERS), "age": random.choice(["young", "old"], USERS)}),
        "items": pd.DataFrame({"item_id": range(ITEMS), "city": random.choice(["Bern", "Basel", "Chur"], ITEMS)}),
    }
