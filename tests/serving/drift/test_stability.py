"""Bins of encoded columns and their index, beside pandas."""

import numpy as np
import pandas as pd
import pytest

from musenet.dataset.manifest import Field
from musenet.serving.drift.stability import by_chance, columns_of, stability, with_bins

FIELDS = [
    Field(name="user_id", side="user", kind="categorical", vocabulary="user_id", is_id=True),
    Field(name="tags", side="user", kind="multi_valued", vocabulary="tags", width=2),
    Field(name="spend", side="user", kind="dense"),
    Field(name="rank", side="candidate", kind="categorical", vocabulary="rank", is_position=True),
    Field(name="device", side="context", kind="categorical", vocabulary="device"),
]
OFFSET = {"user_id": 0, "tags": 100, "rank": 150, "device": 200}


def rows(seed: int, devices: int = 60) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    count = 3000
    codes = np.stack(
        [
            random.integers(3, 90, count),
            100 + random.integers(1, 9, count),
            np.where(random.random(count) < 0.5, 0, 100 + random.integers(1, 9, count)),
            150 + random.integers(3, 9, count),
            200 + np.minimum(random.geometric(0.1, count), devices),
        ],
        axis=1,
    )
    return codes, random.normal(size=(count, 1)).astype(np.float32)


def test_bins_are_those_that_pandas_counts() -> None:
    (codes, numbers), (later, moved) = rows(0), rows(1)
    columns = {
        one.name: with_bins(one, codes, numbers, of_ids=one.name == "user_id")
        for one in columns_of(FIELDS, "request", OFFSET)
    }
    assert set(columns) == {"user_id", "tags", "spend", "device"}  # scoring fixes positions
    assert columns["user_id"].counts == []
    device = pd.Series(codes[:, 4])
    most = device.value_counts().index[:20]
    expected = [*(device == one for one in sorted(most)), ~device.isin(most)]
    assert columns["device"].counts == [int(one.sum()) for one in expected]
    both = pd.concat([pd.Series(codes[:, 1]), pd.Series(codes[:, 2])])
    assert columns["tags"].counts == [*both[both > 0].value_counts().sort_index(), 0]
    assert columns["tags"].unseen_in(later) == (int((later[:, 1:3] == 101).sum()), int((later[:, 1:3] > 0).sum()))
    edges = [-np.inf, *columns["spend"].edges, np.inf]  # type: ignore[misc]
    cut = pd.cut(pd.Series(moved[:, 0].astype(np.float64)), edges, right=False)
    assert columns["spend"].binned(later, moved).tolist() == cut.value_counts().sort_index().tolist()


def test_the_index_is_its_formula_and_what_chance_gives() -> None:
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.25, 0.25, 0.5])
    assert stability(p * 1e9, q * 1e9) == pytest.approx(float(np.sum((q - p) * np.log(q / p))), rel=1e-6)
    assert np.isfinite(stability([10, 0], [0, 10]))
    random = np.random.default_rng(0)
    draws = [stability(random.multinomial(900, p), random.multinomial(500, p)) for _ in range(400)]
    assert np.mean(draws) == pytest.approx(by_chance(3, 900, 500), rel=0.15)
