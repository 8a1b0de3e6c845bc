"""What `prepare` shows and warns about at its end."""

import io
import json
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import polars as pl
import pytest
from rich.console import Console

from musenet.errors import DataError, DatasetError
from musenet.preparation.checks import inspection
from musenet.preparation.checks.checks import Checks, read_checks, render
from musenet.preparation.prepare import prepare
from musenet.sources.tables import CleaningRule
from preparation.logs import DAY, START, Log, MemorySource, random_log, recipe


def checked(log: Log, out: Path, **changes: Any) -> Checks:
    return prepare(MemorySource(log), recipe(**changes), out / "dataset").checks


def texts(checks: Checks) -> str:
    return "\n".join(checks.warnings)


def test_rows_add_up_and_everything_is_shown(tmp_path: Path) -> None:
    log = random_log(1)
    twice = log.but(
        impressions=pl.concat([log.impressions, log.impressions.head(7)]),
        options={
            "cleaning": [CleaningRule("impressions", "text in a number", 4, dropped=True)],
            "rejected": ibis.memtable({"table": ["impressions"], "reason": ["text in a number"], "row": ["{}"]}),
        },
    )
    checks = checked(twice, tmp_path)
    rows = {(row.table, row.what): row.rows for row in checks.rows}
    assert rows["impressions", "read"] == len(log.impressions) + 7 + 4
    assert rows["impressions", "kept"] == len(log.impressions)
    assert rows["impressions", "dropped: shown twice in one request"] == 7
    assert rows["events", "read"] - rows["events", "kept"] == sum(
        count for (table, what), count in rows.items() if table == "events" and what.startswith("dropped")
    )
    rejected = pl.read_parquet(tmp_path / "dataset/rejected.parquet")
    assert rejected["reason"].value_counts().sort("count")["count"].to_list() == [1, 7]
    assert json.loads(rejected.filter(pl.col("reason") != "text in a number")["row"][0])["_request"] == 0
    assert "7 impressions repeat an item within their request" in texts(checks)
    assert checks == read_checks(tmp_path / "dataset")
    shown = io.StringIO()
    render(checks, Console(file=shown, width=120))
    for word in ("click rate", "request size", "repeats, of positives", "AUC alone", "repeat indicator", "warning: 7"):
        assert word in shown.getvalue()
    (tmp_path / "dataset/checks.json").write_text("{")
    with pytest.raises(DatasetError, match="is missing or damaged"):
        read_checks(tmp_path / "dataset")


def test_shares_are_what_the_log_holds(tmp_path: Path) -> None:
    log = random_log(1)
    checks = checked(log, tmp_path)
    by_name = {(check.side, check.feature): check for check in checks.features}
    assert by_name["candidate", "price"].missing == pytest.approx(
        log.impressions["price"].null_count() / len(log.impressions)
    )
    assert by_name["context", "device"].missing == pytest.approx(
        log.impressions["device"].null_count() / len(log.impressions)
    )
    test = checks.periods[2]
    in_test = log.impressions.filter(pl.col("_time") >= START + 9 * DAY)
    assert test.impressions == len(in_test)
    assert test.click_rate == pytest.approx(in_test["_label"].mean())
    sizes = in_test.group_by("_request").len()["len"]
    found = (test.request_size_mean, test.request_size_min, test.request_size_median, test.request_size_max)
    assert found == pytest.approx((sizes.mean(), sizes.min(), sizes.median(), sizes.max()))


def test_a_feature_that_knows_the_label_is_warned_about(tmp_path: Path) -> None:
    log = random_log(1)
    dwell = pl.col("_label") * 10.0 + pl.int_range(pl.len()) % 3
    leaked = log.but(impressions=log.impressions.with_columns(dwell=dwell, after=pl.col("_label").cast(pl.String)))
    features = {"candidate": [{"dwell": {"numeric": "standardise"}}, "after"]}
    checks = checked(leaked, tmp_path, features=features)
    assert {check.auc for check in checks.features if check.feature in ("dwell", "after")} == {1.0}
    assert "'dwell' alone reaches AUC 1.000" in texts(checks)
    assert "'after' alone reaches AUC 1.000" in texts(checks)
    assert "'item_id' alone" not in texts(checks)


def test_events_that_hold_the_labels_are_warned_about(tmp_path: Path) -> None:
    log = random_log(1)
    assert log.events is not None
    clicks = log.impressions.filter(pl.col("_label") == 1).select(
        "_user", "_item", pl.col("_time") - 2_000_000, _kind=pl.lit("click")
    )
    early = log.but(events=pl.concat([log.events, clicks]))
    assert "100% of the positives, but" in texts(checked(early, tmp_path / "early"))
    # At the label's own time events are no leak, for before is strict; a delay hides the others.
    same = log.but(events=pl.concat([log.events, clicks.with_columns(pl.col("_time") + 2_000_000)]))
    assert "may hold the labels" not in texts(checked(same, tmp_path / "same"))
    delayed = checked(early, tmp_path / "delayed", history={"columns": ["item_id"], "delay": 10})
    assert "may hold the labels" not in texts(delayed)


def test_events_of_another_time_are_warned_about(tmp_path: Path) -> None:
    log = random_log(1)
    assert log.events is not None
    old = log.but(events=log.events.with_columns(pl.col("_time") // 1000))
    assert "the events end (1970-01-20" in texts(checked(old, tmp_path / "old"))
    stale = log.but(events=log.events.filter(pl.col("_time") < START + 5 * DAY))
    assert "before the test period begins" in texts(checked(stale, tmp_path / "stale"))


def test_new_users_are_warned_about(tmp_path: Path) -> None:
    log = random_log(1)
    new = pl.when(pl.col("_time") >= START + 9 * DAY).then("new" + pl.col("_user")).otherwise(pl.col("_user"))
    checks = checked(log.but(impressions=log.impressions.with_columns(_user=new)), tmp_path)
    assert "100% of the test impressions are of users without training impressions" in texts(checks)
    assert "100% of the test requests have no event before them" in texts(checks)


def test_a_category_that_cannot_recur_is_refused(tmp_path: Path) -> None:
    log = random_log(1)
    day = (pl.col("_time") - START) // DAY
    dated = log.but(impressions=log.impressions.with_columns(day=day, session=pl.col("_request").cast(pl.String)))
    for name in ("day", "session"):
        with pytest.raises(DataError, match=rf"features.context: '{name}' cannot be a category: 100% of its values"):
            checked(dated, tmp_path, features={"context": [name]})
    assert not list(tmp_path.iterdir())
    checked(dated, tmp_path, features={"context": [{"day": {"numeric": "standardise"}}]})


def test_strange_names_become_safe_files(tmp_path: Path) -> None:
    log = random_log(1)
    renamed = log.impressions.rename({"device": "../time", "party": "time", "price": "label", "place": "..label"})
    features = {"context": ["../time", "time"], "candidate": [{"label": {"numeric": "log"}}, "..label"]}
    out = tmp_path / "dataset"
    dataset = prepare(
        MemorySource(log.but(impressions=renamed)), recipe(features=features, predefined_scenario=[]), out
    ).dataset
    names = [field.name.lower() for field in dataset.fields("context", "candidate")]
    assert len(set(names)) == len(names)
    assert not {"time", "label"} & set(names)
    assert {field.column for field in dataset.fields("context")} == {"../time", "time"}
    for field in dataset.fields("context", "candidate"):
        assert len(dataset.column(field)) > 0
    np.testing.assert_array_equal(np.unique(dataset.candidates.label), [0, 1])


def test_lists_that_are_cut_are_counted(tmp_path: Path) -> None:
    log = random_log(1)
    assert log.items is not None
    item: list[Any] = ["city", {"tags": {"multi_valued": ";", "length": 2}}]
    parts = [{part.strip() for part in (text or "").split(";")} - {""} for text in log.items["tags"]]
    longer = sum(len(one) > 2 for one in parts)
    assert longer
    for length, expected in ((2, f"more than 2 values in {longer} rows, {max(map(len, parts))} at most"), (4, None)):
        item[1]["tags"]["length"] = length
        found = [one for one in checked(log, tmp_path / str(length), features={"item": item}).warnings if "tags" in one]
        assert len(found) == (expected is not None)
        assert expected is None or f"item column 'tags' holds {expected}: the first 2 count" in found[0]


def test_types_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    log = random_log(1)
    for features, match in (
        ({"context": [{"device": {"numeric": "log"}}]}, "column 'device' is numeric, but holds strings"),
        ({"context": [{"party": {"multi_valued": ";"}}]}, "column 'party' is multi_valued, but holds neither"),
        ({"item": [{"item_id": {"numeric": "log"}}]}, "'item_id' is the item id, so it is categorical"),
    ):
        with pytest.raises(DataError, match=match):
            checked(log, tmp_path, features=features)
    lists = log.but(impressions=log.impressions.with_columns(wishes=pl.concat_list("party", "party")))
    with pytest.raises(DataError, match="column 'wishes' holds lists"):
        checked(lists, tmp_path, features={"context": ["wishes"]})
    checked(lists, tmp_path, features={"context": [{"wishes": "multi_valued"}]})


def test_a_long_period_is_sampled_from_one_end_to_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "SAMPLED_ROWS", 7)
    for end in (5 + 7, 5 + 8, 5 + 1000):
        rows = inspection.sample(np.random.default_rng(1), 5, end)
        assert len(np.unique(rows)) == 7
        stretch = (end - 5) / 7
        assert np.all(np.abs(rows - 5 - stretch * (np.arange(7) + 0.5)) <= stretch / 2 + 1)
        assert 5 <= rows.min() <= rows.max() < end
    assert inspection.sample(np.random.default_rng(1), 5, 9).tolist() == [5, 6, 7, 8]
