"""Reports on few requests."""

import pytest

from musenet.reporting import contents


@pytest.fixture(autouse=True)
def _small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a report measures anew, on few requests: a second's work in place of many."""
    monkeypatch.setattr(contents, "MAPPED", 6)
    monkeypatch.setattr(contents, "IMPORTANCE_IMPRESSIONS", 400)
    monkeypatch.setattr(contents, "IMPORTANCE_REPEATS", 1)
    monkeypatch.setattr(contents, "IMPORTANCE_RESAMPLES", 10)
