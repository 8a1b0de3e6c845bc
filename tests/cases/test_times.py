"""A time is read as what it is, or both of its readings are said; pandas knows the right values."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from musenet.errors import DataError
from musenet.sources.tables import Tables
from sources.reading import counts, read, rows, values, write_log

MOMENTS = pd.to_datetime([f"2024-{3 + day // 28:02}-{1 + day % 28:02} {day % 24:02}:30:15" for day in range(0, 60, 6)])


def _log(folder: Path, times: Any, zone: str = "UTC", **told: Any) -> Tables:
    pd.DataFrame(rows()).assign(time=times, item=range(10)).to_parquet(folder / "log.parquet", index=False)
    written = {"time": {"column": "time"} | told} if told else {}
    return read(folder, "log.parquet", impressions=written, timezone=zone)


def _micros(moments: pd.DatetimeIndex, zone: str = "UTC") -> list[int]:
    return moments.tz_localize(zone).tz_convert("UTC").as_unit("us").asi8.tolist()


FORMS: dict[str, tuple[Any, str]] = {
    "zone-aware nanoseconds": (MOMENTS.as_unit("ns").tz_localize("Europe/Berlin"), "s"),
    "nanoseconds without a zone": (MOMENTS.as_unit("ns"), "s"),
    "whole nanoseconds": (MOMENTS.tz_localize("Europe/Berlin").as_unit("ns").asi8, "s"),
    "nanoseconds as text": (MOMENTS.tz_localize("Europe/Berlin").as_unit("ns").asi8.astype(str), "s"),
    "UTC behind": (MOMENTS.tz_localize("Europe/Berlin").tz_convert("UTC").strftime("%Y-%m-%d %H:%M:%S UTC"), "s"),
    "slashes, year first": (MOMENTS.strftime("%Y/%m/%d %H:%M:%S"), "s"),
    "dots, day first": (MOMENTS.strftime("%d.%m.%Y %H:%M:%S"), "s"),
    "slashes, month first": (MOMENTS.strftime("%m/%d/%Y %H:%M"), "min"),
    "fourteen digits": (MOMENTS.strftime("%Y%m%d%H%M%S").astype("int64"), "s"),
    "fourteen digits as text": (MOMENTS.strftime("%Y%m%d%H%M%S"), "s"),
    "twelve digits": (MOMENTS.strftime("%Y%m%d%H%M").astype("int64"), "min"),
    "ten digits": (MOMENTS.strftime("%Y%m%d%H").astype("int64"), "h"),
    "eight digits of a day": (MOMENTS.strftime("%Y%m%d").astype("int64"), "D"),
    "eight digits of an hour": (MOMENTS.strftime("%y%m%d%H").astype("int64"), "h"),
}


@pytest.mark.parametrize("form", FORMS)
def test_times_in_every_form(tmp_path: Path, form: str) -> None:
    written, unit = FORMS[form]
    found = _log(tmp_path, written, "Europe/Berlin")
    assert values(found.impressions, "_time") == _micros(MOMENTS.floor(unit), "Europe/Berlin")
    assert counts(found) == {}


def test_a_date_with_two_readings_is_asked_about_and_the_answer_taken(tmp_path: Path) -> None:
    dates = [f"{day}/1/2024" for day in range(1, 11)]
    both = r"dates such as 1/1/2024.*\(format: '%d/%m/%Y'\) or .*\(format: '%m/%d/%Y'\): say which with"
    with pytest.raises(DataError, match=both):
        _log(tmp_path, dates)
    for layout, freq in (("%d/%m/%Y", "D"), ("%m/%d/%Y", "MS")):
        expected = _micros(pd.date_range("2024-01-01", periods=10, freq=freq))
        assert values(_log(tmp_path, dates, format=layout).impressions, "_time") == expected
    with pytest.raises(DataError, match="dates with the day first and dates with the month first"):
        _log(tmp_path, ["13/1/2024", "1/13/2024"] * 5)


def test_digits_that_are_two_dates_are_asked_about(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"20111213, which is 2011-12-13 .*%Y%m%d'\) or 2020-11-12 13:00 .*%y%m%d%H"):
        _log(tmp_path, [20111213] * 10)
    found = _log(tmp_path, [20111213] * 10, format="%y%m%d%H")
    assert set(values(found.impressions, "_time")) == set(_micros(pd.DatetimeIndex(["2020-11-12 13:00"])))


def test_units_mixed_in_one_column_are_told_row_by_row(tmp_path: Path) -> None:
    seconds = MOMENTS.as_unit("s").asi8
    mixed = [s * 1000 ** (k % 4 if k > 4 else 1) for k, s in enumerate(seconds.tolist())]
    found = _log(tmp_path, mixed)
    assert values(found.impressions, "_time") == _micros(MOMENTS)
    others = sum(k % 4 != 1 for k in range(5, 10))
    assert counts(found) == {
        ("impressions", "time is in other units than the milliseconds of most: read by its size"): others
    }


@pytest.mark.parametrize("end", [253402214400, 253402214400000])
def test_the_end_of_time_among_numbers_is_no_other_unit(tmp_path: Path, end: int) -> None:
    part = 10**6 if end < 10**12 else 1000
    write_log(tmp_path, time=[MOMENTS.as_unit("us").asi8[k] // part for k in range(9)] + [end])
    assert max(values(read(tmp_path, "log.parquet").impressions, "_time")) == end * part


def test_the_end_of_time_is_read_as_any_other(tmp_path: Path) -> None:
    moments = (MOMENTS + pd.Timedelta(days=90)).to_numpy().astype("datetime64[us]")
    times = np.append(moments[:9], np.datetime64("9999-12-31", "us"))
    found = _log(tmp_path, times, "Europe/Berlin")
    assert values(found.impressions, "_time")[:9] == _micros(pd.DatetimeIndex(moments[:9]), "Europe/Berlin")


def test_times_of_no_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape("10 of 10 rows would be refused")):
        _log(tmp_path, ["noon"] * 10)
