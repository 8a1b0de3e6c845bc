"""Shares over time against a slow count."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest

from musenet.dataset.dataset import Dataset
from musenet.evaluation.draws import UserDraws
from musenet.evaluation.predictions import Predictions
from musenet.portraits.over_time import FEWEST_REQUESTS, SharesOverTime, shares_by_date, shares_by_hour
from musenet.reporting.figures.requests import figure_over_time
from musenet.runs.run import Run
from shown_runs import with_column

MakeRun = Callable[..., Run]


def periods_of(run: Run) -> tuple[list[Predictions], UserDraws]:
    periods = [run.predictions("valid"), run.predictions("test")]
    return periods, UserDraws(np.concatenate([one.user for one in periods]), 30)


def expected(dataset: Dataset, periods: list[Predictions], label: str) -> dict[str, np.ndarray]:
    rows: dict[str, list[np.ndarray]] = {}
    for one in periods:
        assert one.assignment is not None
        for request, row in zip(one.requests, one.assignment, strict=True):
            time = datetime.fromtimestamp(int(dataset.requests.time[request]) / 1e6, UTC)
            rows.setdefault(format(time, label), []).append(row)
    kept = {name: own for name, own in sorted(rows.items()) if len(own) >= FEWEST_REQUESTS}
    return {name: np.mean(own, axis=0) for name, own in kept.items()}


def check(found: SharesOverTime, means: dict[str, np.ndarray]) -> None:
    assert [span.label for span in found.spans] == list(means)
    for span in found.spans:
        assert [share.value for share in span.shares] == pytest.approx(means[span.label])
        assert all(share.low <= share.value <= share.high for share in span.shares)


def test_shares_by_day(make_run: MakeRun) -> None:
    run = make_run("soft")
    periods, draws = periods_of(run)
    found = shares_by_date(run.dataset, periods, draws)
    assert found.unit == "day"
    check(found, expected(run.dataset, periods, "%Y-%m-%d"))
    first = int(run.dataset.requests.time[800]) / 1e6
    assert found.test_begins == f"{datetime.fromtimestamp(first, UTC):%Y-%m-%d}"
    figure = figure_over_time(found)
    assert len(figure.data) == 4
    assert list(figure.data[2].y) == [span.shares[2].value for span in found.spans]
    assert len(figure.layout.shapes) == 1


def test_long_periods_are_shown_by_week(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musenet.portraits.over_time.LONGEST_IN_DAYS", 10)
    run = make_run()
    periods, draws = periods_of(run)
    found = shares_by_date(run.dataset, periods, draws)
    assert found.unit == "week"
    assert all(datetime.fromisoformat(span.label).weekday() == 0 for span in found.spans)
    assert sum(span.requests for span in found.spans) == 1200


def test_shares_by_hour_of_the_logs_own_timezone(make_run: MakeRun) -> None:
    run = make_run("soft")
    periods, draws = periods_of(run)
    found = shares_by_hour(run.dataset, periods, draws)
    assert found is not None
    check(found, expected(run.dataset, periods, "%H"))
    elsewhere = Dataset(run.dataset.folder)
    elsewhere.manifest = elsewhere.manifest.model_copy(update={"timezone": "Asia/Tokyo"})
    moved = shares_by_hour(elsewhere, periods, draws)
    assert moved is not None
    by_label = {span.label: span.shares for span in moved.spans}
    assert by_label["09"] == found.spans[0].shares


def test_a_log_of_dates_alone_has_no_hours(make_run: MakeRun) -> None:
    run = make_run()
    column = np.asarray(run.dataset.requests.time) // 86_400_000_000 * 86_400_000_000
    dates = with_column(run.dataset, "context", "time", column)
    periods, draws = periods_of(run)
    assert shares_by_hour(dates, periods, draws) is None


def test_a_period_alone_has_no_beginning_to_mark(make_run: MakeRun) -> None:
    run = make_run()
    test = run.predictions("test")
    found = shares_by_date(run.dataset, [test], UserDraws(test.user, 10))
    assert found.test_begins is None
    assert len(figure_over_time(dataclasses.replace(found)).layout.shapes) == 0
