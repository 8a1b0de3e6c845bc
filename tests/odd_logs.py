"""Small generated logs that are odd in the ways real ones are."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DAY = 86_400_000
START = 1_709_510_400_000  # Monday, 4 March 2024, in milliseconds
DAYS, USERS, ITEMS, REQUESTS, SHOWN = 40, 60, 80, 900, 6
BRANDS = ["", "Acme", "Brio", "Core", "Dune"]


def write_three_files(folder: Path, seed: int = 1) -> list[Path]:
    """`views.parquet`, `actions.parquet` and `catalogue.parquet`.

    String ids, millisecond times, a request column, NULLs, 30 duplicate rows, 1 % of text among the prices, and events
    without items.
    """
    random = np.random.default_rng(seed)
    quality = random.normal(size=ITEMS)
    user = random.integers(0, USERS, REQUESTS)
    time = START + np.sort(random.integers(0, DAYS * DAY, REQUESTS))
    views: list[dict[str, object]] = []
    actions: list[dict[str, object]] = []
    for request in range(REQUESTS):
        device = random.choice(["phone", "desktop", "tablet"]) if random.random() > 0.05 else None
        for place, item in enumerate(random.choice(ITEMS, SHOWN, replace=False)):
            taken = bool(random.random() < 1 / (1 + np.exp(2.0 - quality[item])))
            price = "n/k €" if random.random() < 0.01 else f"{random.lognormal(3, 1):.2f}"
            views.append(
                {
                    "visitor": f"v{user[request]:03d}",
                    "article": f"a{item:03d}",
                    "served_ms": int(time[request]),
                    "taken": int(taken),
                    "page_view": f"p{request}",
                    "device": device,
                    "shelf_price": price,
                    "slot": place + 1,
                }
            )
            if taken:
                known = random.random() > 0.03
                actions.append(
                    {
                        "visitor": f"v{user[request]:03d}",
                        "article": f"a{item:03d}" if known else None,
                        "at_ms": int(time[request]) + 20_000 + place,
                        "verb": "buy" if random.random() < 0.2 else "open",
                    }
                )
    views += [views[row] for row in random.choice(len(views), 30, replace=False)]
    views[7] = views[7] | {"visitor": None}
    catalogue = [
        {"article": f"a{item:03d}", "brand": BRANDS[item % 5] or None, "weight_kg": float(random.lognormal())}
        for item in range(ITEMS)
    ]
    paths = [folder / name for name in ("views.parquet", "actions.parquet", "catalogue.parquet")]
    for path, rows in zip(paths, (views, actions, [*catalogue, catalogue[0]]), strict=True):
        pq.write_table(pa.Table.from_pylist(rows), path)
    return paths


def write_positives(folder: Path, seed: int = 2) -> Path:
    """`purchases.csv`: who bought what when, and nothing else."""
    random = np.random.default_rng(seed)
    path = folder / "purchases.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["customer", "sku", "bought_on"])
        for day in np.sort(random.integers(0, DAYS, 2000)):
            item = int(ITEMS * random.beta(1, 4))
            date = np.datetime64("2024-03-04") + day
            second = int(random.integers(0, 86_400))
            clock = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
            writer.writerow([int(random.integers(1000, 1000 + USERS)), f"S-{item}", f"{date} {clock}"])
    return path
