"""A request id that begins anew names several requests: refused with the remedy, never merged."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cases import value_logs
from musenet.config.experiment import Experiment
from musenet.errors import DataError

LOCAL: dict[str, Any] = {"features": {"item": ["category"]}}


def _experiment(folder: Path, ids: Any, **changes: Any) -> tuple[pd.DataFrame, Experiment]:
    log = value_logs.tables()
    shown = log["shown"]
    log["shown"] = shown.assign(search_id=ids(shown))
    return shown, value_logs.write(folder, log, **(LOCAL | changes))


def _daily(shown: pd.DataFrame) -> pd.Series:
    """Each user's requests are counted anew every day."""
    number = shown.groupby([shown.user_id, shown.shown_at.dt.floor("D")]).search_id
    return shown.user_id * 100 + number.transform(lambda one: one.rank(method="dense")).astype(int)


def test_a_counter_that_begins_anew_each_day_is_refused(tmp_path: Path) -> None:
    _, experiment = _experiment(tmp_path, _daily)
    with pytest.raises(DataError, match=r"last longer than 3,600 seconds.*write request and day, or request and user"):
        value_logs.prepared(tmp_path, experiment)


def test_rows_of_recurring_ids_are_not_taken_for_duplicates_first(tmp_path: Path) -> None:
    log = value_logs.tables()
    single = log["shown"].drop_duplicates("search_id")
    log["shown"] = single.assign(search_id=single.user_id, item_id=single.user_id % 12 + 1)
    with pytest.raises(DataError, match="requests last longer than"):
        value_logs.prepared(tmp_path, value_logs.write(tmp_path, log, **LOCAL))


def test_the_advice_gives_every_request(tmp_path: Path) -> None:
    shown, experiment = _experiment(
        tmp_path, lambda one: _daily(one).astype(str) + "|" + one.shown_at.dt.date.astype(str)
    )
    assert value_logs.prepared(tmp_path, experiment).manifest.requests == shown.search_id.nunique()


def test_sessions_may_be_as_long_as_is_said(tmp_path: Path) -> None:
    def scattered(shown: pd.DataFrame) -> pd.Series:
        shown["shown_at"] += pd.to_timedelta(shown.groupby("search_id").cumcount() * 40, unit="min")
        return shown.search_id

    shown, experiment = _experiment(tmp_path, scattered)
    with pytest.raises(DataError, match=f"{shown.search_id.nunique()} of {shown.search_id.nunique()} requests"):
        value_logs.prepared(tmp_path, experiment)
    _, longer = _experiment(tmp_path, scattered, requests={"longest": "2 hours"})
    assert value_logs.prepared(tmp_path, longer).manifest.requests == shown.search_id.nunique()


def test_a_counter_of_each_user_says_so(tmp_path: Path) -> None:
    _, experiment = _experiment(tmp_path, lambda one: one.search_id // 2, requests={"longest": "30 days"})
    with pytest.raises(DataError, match=r"hold impressions of several users.*write request and user into one column"):
        value_logs.prepared(tmp_path, experiment)
