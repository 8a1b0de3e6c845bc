"""A random log with vectors of every side, for tests of all that reads them."""

from typing import Any

import numpy as np
import polars as pl

from preparation.logs import Log, random_log

WIDTHS = {"age_vector": 3, "title_vector": 6, "query_vector": 2, "offer_vector": 4}
PROJECTIONS = {"age_vector": 2, "title_vector": 3, "query_vector": 1, "offer_vector": 2}
SIDES = {"user": "age_vector", "item": "title_vector", "context": "query_vector", "candidate": "offer_vector"}
FEATURES: dict[str, Any] = {
    "user": [{"age": {"numeric": "standardise"}}, {"age_vector": {"vector": 3, "projection": 2}}],
    "item": ["city", {"title_vector": {"vector": 6, "projection": 3}}, {"stars": {"numeric": "standardise"}}],
    "context": ["device", {"query_vector": {"vector": 2, "projection": 1}}],
    "candidate": [{"offer_vector": {"vector": 4, "projection": 2}}, {"price": {"numeric": "log"}}],
}


def lists(random: np.random.Generator, rows: int, width: int, missing: float = 0.0) -> pl.Series:
    """Lists of numbers of very different sizes, the last of which is the same everywhere."""
    values = random.normal(size=(rows, width)) * 10.0 ** np.arange(width) + 5
    values[:, -1] = 2.5
    told = [None if random.random() < missing else row for row in values.astype(np.float32).tolist()]
    return pl.Series(told, dtype=pl.List(pl.Float32))


def vector_log(seed: int = 0, **sizes: int) -> Log:
    """Of the items and candidates some have none; users and requests have theirs."""
    log, random = random_log(seed, **sizes), np.random.default_rng(seed)
    assert log.users is not None
    assert log.items is not None
    requests = log.impressions["_request"].unique(maintain_order=True)
    asked = pl.DataFrame({"_request": requests, "query_vector": lists(random, len(requests), 2)})
    shown = log.impressions.join(asked, on="_request", how="left", maintain_order="left")
    return log.but(
        impressions=shown.with_columns(offer_vector=lists(random, len(shown), 4, missing=0.2)),
        users=log.users.with_columns(age_vector=lists(random, len(log.users), 3)),
        items=log.items.with_columns(title_vector=lists(random, len(log.items), 6, missing=0.3)),
    )
