"""Times of a file are read as preparation reads those of the log."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from musenet.serving.prediction.times import NO_TIME, NoTimeError, microseconds_of
from musenet.sources.files.options import TimeColumn

MOMENT = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())
BERLIN = ZoneInfo("Europe/Berlin")
LOCAL = MOMENT.astimezone(BERLIN).replace(tzinfo=None)
WRITTEN: list[tuple[Any, dict[str, str]]] = [
    (pa.array([MOMENT, None]), {}),
    (pa.array([LOCAL, None], pa.timestamp("ms")), {}),
    (pa.array([SECONDS, None]), {}),
    (pa.array([SECONDS * 1000, None]), {}),
    (pa.array([SECONDS * 10**9, None]), {}),
    (pa.array([float(SECONDS), float("nan")]), {}),
    (pa.array([str(SECONDS), ""]), {}),
    (pa.array(["2026-01-31T12:30:00Z", None]), {}),
    (pa.array(["2026-01-31 13:30", "nan"]), {}),
    (pa.array(["2026-01-31 12:30:00 UTC", None]), {}),
    (pa.array(["2026-01-31 12:30:00.0 +00", None]), {}),
    (pa.array(["2026/1/31 13:30", None]), {}),
    (pa.array(["2026.01.31 13:30:00", None]), {}),
    (pa.array(["1/31/2026 13:30", None]), {"format": "%m/%d/%Y"}),
    (pa.array(["31.1.2026 13:30:00", None]), {"format": "%d/%m/%Y"}),
    (pa.array(["31/01/2026 13.30", None]), {"format": "%d/%m/%Y %H.%M"}),
    (pa.array([202601311330, None]), {"format": "%Y%m%d%H%M"}),
    (pa.array(["202601311330.0", None]), {"format": "%Y%m%d%H%M"}),
    (pa.array([202601311330.0, float("nan")]), {"format": "%Y%m%d%H%M"}),
    (pa.array([SECONDS // 60 * 60, None]), {"unit": "seconds"}),
]


@pytest.mark.parametrize(("column", "written"), WRITTEN, ids=lambda value: str(value)[:40].replace("\n", ""))
def test_a_time_is_the_same_however_it_is_written(column: pa.Array, written: dict[str, Any]) -> None:
    found = microseconds_of(column, TimeColumn(column="at", **written), "Europe/Berlin")
    assert found.tolist() == [SECONDS * 1_000_000, NO_TIME]


@pytest.mark.parametrize("wall", ["2026-03-29 02:30:00", "2026-10-25 02:30:00", "2026-07-01 00:00:00"])
def test_an_hour_that_happens_never_or_twice_is_that_of_python(wall: str) -> None:
    """Its first, as in preparation; text and timestamps alike."""
    local = datetime.fromisoformat(wall)
    expected = round(local.replace(tzinfo=BERLIN).timestamp()) * 1_000_000
    for column in (pa.array([local]), pa.array([wall])):
        assert microseconds_of(column, TimeColumn(column="at"), "Europe/Berlin").tolist() == [expected]


def test_days_are_midnight_and_offsets_count() -> None:
    assert microseconds_of(pa.array([date(2026, 1, 31)]), TimeColumn(column="at"), "UTC")[0] == 1769817600 * 1_000_000
    aware = MOMENT.astimezone(timezone(timedelta(hours=-5)))
    assert microseconds_of(pa.array([aware.isoformat()]), TimeColumn(column="at"), "UTC")[0] == SECONDS * 1_000_000


@pytest.mark.parametrize(
    ("column", "place", "reason"),
    [
        (pa.array(["2026-01-31", "soon"]), 1, "holds 'soon', which is no time"),
        (pa.array(["2026-01-31", "1/2/2026"]), 1, "holds '1/2/2026', which is no time: write it as the log"),
        (pa.array([20260131, 20260201]), 0, "holds 20260131, which is a date or a time since 1970"),
        (pa.array(["20260131", "nan"]), 0, "holds 20260131, which is a date or a time since 1970"),
        (pa.array([1.0, float("inf")]), 1, "holds inf, which is no time"),
        (pa.array([True]), 0, "holds bool, which is no time"),
    ],
)
def test_what_is_no_time_is_refused(column: pa.Array, place: int, reason: str) -> None:
    with pytest.raises(NoTimeError, match=reason) as refused:
        microseconds_of(column, TimeColumn(column="at"), "UTC")
    assert refused.value.place == place


@pytest.mark.parametrize("column", [pa.array([20260131]), pa.array(["20260131"]), pa.array([SECONDS])])
def test_where_dates_are_laid_out_numbers_of_another_layout_are_no_times(column: pa.Array) -> None:
    """Preparation refuses them, too; as seconds, days of our years are in 1970."""
    with pytest.raises(NoTimeError, match=r"holds '\d+', which is no time: write it as the log"):
        microseconds_of(column, TimeColumn(column="at", format="%d/%m/%Y"), "UTC")
