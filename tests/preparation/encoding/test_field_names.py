"""Names of files: scales are kept by them, so that no two columns have the same, whichever sides they are of."""

from pathlib import Path

import pandas as pd
import pytest

import musenet as mn
from musenet.dataset.dataset import Dataset


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Two numbers whose names differ in what files cannot be called by, one of items, one of candidates."""
    monkeypatch.chdir(tmp_path)  # where frames are kept
    shown = pd.DataFrame(
        {
            "user": [f"u{n % 7}" for n in range(200)],
            "item": [f"i{n % 10}" for n in range(200)],
            "at": pd.date_range("2024-01-01", periods=200, freq="h"),
            "clicked": [n % 3 == 0 for n in range(200)],
            "a:b": [1000.0 + n % 10 for n in range(200)],
        }
    )
    items = pd.DataFrame({"item": [f"i{n}" for n in range(10)], "a/b": [float(n) for n in range(10)]})
    content = {
        "name": "names",
        "data": {
            "source": "own_files",
            "impressions": {"path": shown, "user": "user", "item": "item", "time": "at", "label": "clicked"},
            "items": {"path": items, "item": "item"},
        },
        "features": {
            "item": [{"a/b": {"numeric": "standardise"}}],
            "candidate": [{"a:b": {"numeric": "standardise"}}],
        },
        "split": {"parts": 6},
    }
    return mn.prepare(mn.load(content), tmp_path / "dataset").dataset


def test_two_sides_do_not_share_the_scale_of_another_column(prepared: Dataset) -> None:
    fields = {field.column: field.name for field in prepared.manifest.fields if field.column in ("a/b", "a:b")}
    assert len(set(fields.values())) == 2
    means = {column: prepared.manifest.numeric[name]["mean"] for column, name in fields.items()}
    assert means["a/b"] == pytest.approx(4.5, abs=0.5)
    assert means["a:b"] == pytest.approx(1004.5, abs=0.5)
