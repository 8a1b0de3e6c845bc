from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import ibis
import pytest

from musenet.errors import ConfigError
from musenet.sources.local_time import DAY, HOUR, LocalTime, hour_of, weekday_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, LAST = datetime(2023, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]


def micros(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize("zone", ZONES)
def test_clocks_agree_with_python_around_every_change(zone: str) -> None:
    clock = LocalTime(zone, range(micros(FIRST) // DAY, micros(LAST) // DAY + 1))
    moments = [micros(FIRST), micros(LAST), *(change + step for change in clock.changes for step in (-1, 0, 1, HOUR))]
    local = [(EPOCH + timedelta(microseconds=time)).astimezone(ZoneInfo(zone)) for time in moments]
    walls = [micros(time.replace(tzinfo=UTC)) for time in local]
    back = [micros(time.replace(fold=0).astimezone(UTC)) for time in local]
    table = ibis.memtable({"time": moments, "wall": walls})
    found = table.select(
        local=clock.to_local(table.time),
        utc=clock.to_utc(table.wall),
        hour=hour_of(table.wall),
        weekday=weekday_of(table.wall),
    )
    result = ibis.duckdb.connect().to_pyarrow(found)
    assert result["local"].to_pylist() == walls
    assert result["utc"].to_pylist() == back
    assert result["hour"].to_pylist() == [time.hour for time in local]
    assert result["weekday"].to_pylist() == [time.weekday() for time in local]


def test_a_wall_clock_that_never_was_is_read_as_python_does() -> None:
    clock = LocalTime("Europe/Berlin", [micros(datetime(2024, 3, 31, tzinfo=UTC)) // DAY])
    wall = datetime(2024, 3, 31, 2, 30)  # put forward from 2 to 3 that night
    table = ibis.memtable({"wall": [micros(wall.replace(tzinfo=UTC))]})
    found = ibis.duckdb.connect().to_pyarrow(clock.to_utc(table.wall).name("utc").as_table())
    assert found["utc"][0].as_py() == micros(wall.replace(tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC))


def test_days_beyond_the_calendar_do_no_harm_and_cost_nothing() -> None:
    assert LocalTime("UTC", [-(2**60), 2**60]).changes == []
    march, end = micros(datetime(2024, 3, 31, tzinfo=UTC)) // DAY, micros(datetime(9999, 12, 31, tzinfo=UTC)) // DAY
    assert len(LocalTime("Europe/Berlin", [march, end]).changes) == 2


def test_an_unknown_zone_is_named() -> None:
    with pytest.raises(ConfigError, match="no time zone 'Europe/Berln'"):
        LocalTime("Europe/Berln", [0])
