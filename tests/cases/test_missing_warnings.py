"""What is odd about a log is said, or the rows refused and counted."""

from pathlib import Path

import pandas as pd

from cases import value_logs
from musenet.preparation.checks.checks import read_checks
from sources.reading import counts, read, recipe_of, rows, values, write_log


def _warnings(folder: Path, log: value_logs.Tables) -> str:
    value_logs.prepared(folder, value_logs.write(folder, log))
    return "\n".join(read_checks(folder / "dataset").warnings)


def test_a_join_that_failed_times_of_1970_and_items_without_a_past_are_said(tmp_path: Path) -> None:
    log = value_logs.tables()
    late = log["shown"].shown_at >= log["shown"].shown_at.max().floor("D") - pd.Timedelta(days=2)
    log["shown"]["item_id"] += 1000 * late  # the catalogue is renewed where validation begins
    log["items"]["item_id"] += 5000
    log["shown"]["shown_at"] -= pd.Timedelta(days=365 * 45)
    log["events"]["at"] -= pd.Timedelta(days=365 * 45)
    found = _warnings(tmp_path, log)
    assert "item feature 'category' is missing in every row" in found
    assert "150 requests lie before 1990 or after tomorrow; they run from 1979-" in found
    assert f"{len(log['events'])} events lie before 1990" in found
    assert "are of items that training hardly knows" in found


def test_labels_are_yes_and_no(tmp_path: Path) -> None:
    for yes, no in (("yes", "no"), ("T", "F"), ("Y", "n")):
        write_log(tmp_path, label=[yes, no] * 5, item=list(range(10)))
        found = values(read(tmp_path, "log.parquet").impressions, "_item", "_label")
        assert [label for _, label in found] == [1, 0] * 5


def test_ids_longer_than_requests_may_bring_are_refused(tmp_path: Path) -> None:
    write_log(tmp_path, user=[*rows()["user"][:9], "u" * 257])
    assert counts(read(tmp_path, "log.parquet")) == {("impressions", "user is longer than 256 characters"): 1}


def test_numbers_that_no_model_holds_are_refused(tmp_path: Path) -> None:
    write_log(tmp_path, price=[*[1.5] * 8, float("inf"), -1e308])
    recipe = recipe_of(features={"candidate": [{"price": {"numeric": "standardise"}}]})
    assert counts(read(tmp_path, "log.parquet", recipe)) == {("impressions", "price is not a number"): 2}
