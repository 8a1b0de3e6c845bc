"""What is odd about a log is said, or the rows refused and counted."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import musenet
from cases import value_logs
from musenet.preparation.checks.checks import read_checks
from musenet.reporter import Reporter
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


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log, beside which its datasets are prepared, each once."""
    folder = tmp_path_factory.mktemp("log")
    value_logs.write(folder, value_logs.tables())
    return folder


def _said_in_training(log: Path, run: Path, capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    experiment = value_logs.of_written(log, **changes)
    dataset = log / " ".join(["dataset", *experiment.history.columns])
    with Reporter() as reporter:
        musenet.train(experiment, run, dataset=dataset, listener=reporter)
    return capsys.readouterr().err


def test_few_steps_for_so_small_a_log_are_said(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = value_logs.tables()["shown"]
    trained = int((shown.shown_at < shown.shown_at.max().floor("D") - pd.Timedelta(days=2)).sum())
    steps = -(-trained // 64)
    said = _said_in_training(log, tmp_path / "few", capsys, training={"epochs": 2, "batch_size": 64})
    assert f"takes only {2 * steps} steps (2 epochs of {steps}), which is little to learn from: lower" in said
    assert "training.batch_size or raise training.epochs" in said
    small = {"batch_size": 3, "epochs": 2}
    assert "takes only" not in _said_in_training(log, tmp_path / "many", capsys, training=small)
    share = small | {"requests": 0.5}
    assert "takes only" not in _said_in_training(log, tmp_path / "a share", capsys, training=share)


@pytest.mark.parametrize("name", ["musenet", "base_model", "din"])
def test_histories_of_items_whose_ids_no_model_reads_are_said(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    history, small = {"columns": ["item_id"], "length": 5}, {"name": name, "hidden": [4], "embedding": 2}
    quick = {"epochs": 1, "validations_per_epoch": 1}
    said = [
        _said_in_training(
            log, tmp_path / str(place), capsys, model=small | {"ids": ids}, history=history, training=quick
        )
        for place, ids in enumerate(([], ["user"], ["item"]))
    ]
    assert ["the model reads no history: history.columns hold the items' ids alone" in text for text in said] == [
        True,
        True,
        False,
    ]
    more = {"columns": ["item_id", "category"], "length": 5}
    assert "no history" not in _said_in_training(
        log, tmp_path / "more", capsys, model=small | {"ids": []}, history=more, training=quick
    )
