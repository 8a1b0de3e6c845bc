"""Walking forward: every policy answers the same impressions, by what was known when they were shown."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

import musenet as mn
from frame_logs import shop_frames
from musenet.cli.main import run as command
from musenet.config.experiment import Experiment
from musenet.errors import ConfigError, DataError
from musenet.runs.run import Run

PERIODS = [pd.Timestamp(day) for day in ("2024-03-15", "2024-03-18", "2024-03-21", "2024-03-24")]


def shop(folder: Path, **changes: Any) -> Experiment:
    """A shop's log of twenty days, of which three periods of three days are walked through."""
    if not folder.exists():
        folder.mkdir()
        for name, frame in shop_frames().items():
            frame.to_parquet(folder / f"{name}.parquet")
    ids = {"user": "user_id", "item": "item_id"}
    shown = {"path": str(folder / "impressions.parquet"), **ids, "time": "shown_at", "label": "clicked"}
    content: dict[str, Any] = {
        "name": "shop",
        "data": {
            "source": "own_files",
            "impressions": {**shown, "request": "search_id"},
            "events": {"path": str(folder / "events.parquet"), **ids, "time": "clicked_at", "kind": "action"},
        },
        "features": {"context": ["device"], "candidate": [{"price": {"numeric": "log"}}]},
        "history": {"columns": ["item_id"], "length": 5},
        "repeat": {"key": ["item_id"]},
        "split": {"test": "3 days", "valid": "2 days"},
        "model": {"name": "musenet", "scenarios": 2},
        "training": {"epochs": 1, "batch_size": 256},
        "compare": {"models": {"base": {"name": "base_model"}, "trees": {"name": "lightgbm", "trees": 5}}},
        "backtest": {"periods": 3, "period": "3 days"},
    }
    return mn.load({**content, **changes})


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("walked")
    return folder, mn.backtest(shop(folder / "log"), folder / "out")


def test_periods_are_the_logs_last_ones(walked: tuple[Path, Any]) -> None:
    _, found = walked
    assert [period.begin for period in found.periods] == [f"{day.isoformat()}+00:00" for day in PERIODS[:3]]
    shown = shop_frames()["impressions"]
    for period, begin, end in zip(found.periods, PERIODS[:-1], PERIODS[1:], strict=True):
        rows = shown[(shown.shown_at >= begin) & (shown.shown_at < end)]
        assert (period.impressions, period.positives) == (len(rows), rows.clicked.sum())


def test_figures_of_each_period_are_those_of_its_impressions(walked: tuple[Path, Any]) -> None:
    folder, found = walked
    alone = Run.open(folder / "out" / "musenet" / "first").predictions("test")
    again = Run.open(folder / "out" / "musenet" / "retrained-3").predictions("test")
    rows = {row.policy: row for row in found.models}
    for place, (begin, end) in enumerate(pairwise(PERIODS)):
        chosen = (alone.time >= begin.value // 1000) & (alone.time < end.value // 1000)
        measured = rows["left alone"].periods[place]
        assert measured.auc.value == pytest.approx(roc_auc_score(alone.label[chosen], alone.logit[chosen]))
        probability = 1 / (1 + np.exp(-alone.logit[chosen]))
        assert measured.logloss.value == pytest.approx(log_loss(alone.label[chosen], probability))
    last = rows["retrained"].periods[2]
    assert last.auc.value == pytest.approx(roc_auc_score(again.label, again.logit))
    # Over all periods: three trainings' answers beside each other.
    second = Run.open(folder / "out" / "musenet" / "retrained-2").predictions("test")
    first = alone.time < PERIODS[1].value // 1000
    logit = np.concatenate([alone.logit[first], second.logit, again.logit])
    assert rows["retrained"].whole.auc.value == pytest.approx(roc_auc_score(alone.label, logit))


def test_what_no_training_has_seen_is_later_than_it(walked: tuple[Path, Any]) -> None:
    folder, found = walked
    for place in (2, 3):
        for name in ("retrained", "warm-started"):
            manifest = Run.open(folder / "out" / "musenet" / f"{name}-{place}").dataset.manifest
            begin = PERIODS[place - 1].value // 1000
            times = [(split.first_time or 0, split.last_time or 0) for split in manifest.splits.values()]
            assert times[0][1] < times[1][0] <= times[1][1] < begin <= times[2][0]
            assert manifest.splits["test"].impressions == found.periods[place - 1].impressions
    before = Run.open(folder / "out" / "musenet" / "warm-started-2")
    after = Run.open(folder / "out" / "musenet" / "warm-started-3")
    assert after.folder.weights_before == before.model_checksum


def test_every_policy_begins_with_the_same_model(walked: tuple[Path, Any]) -> None:
    _, found = walked
    rows = {row.policy: row for row in found.models}
    assert list(rows) == ["left alone", "mix followed", "fine-tuned online", "warm-started", "retrained"]
    first = rows["left alone"].periods[0]
    assert rows["warm-started"].periods[0].auc == rows["retrained"].periods[0].auc == first.auc
    assert rows["left alone"].gained["auc"].value == 0
    assert rows["left alone"].periods[1].minutes == 0 < rows["retrained"].periods[1].minutes
    for row in rows.values():
        whole = row.whole.auc.value - rows["left alone"].whole.auc.value
        assert row.gained["auc"].value == pytest.approx(whole)


def test_results_are_kept_shown_and_reused(walked: tuple[Path, Any], capsys: pytest.CaptureFixture[str]) -> None:
    folder, found = walked
    again = mn.backtest(shop(folder / "log"), folder / "out")
    assert [row.whole.auc for row in again.models] == [row.whole.auc for row in found.models]
    assert again.models[3].whole.minutes == found.models[3].whole.minutes, "nothing is trained again"
    assert len(found.to_frame("polars")) == 15
    table = (folder / "out" / "backtest.md").read_text()
    assert "| musenet | warm-started |" in table
    page = (folder / "out" / "backtest.html").read_text()
    assert "musenet, fine-tuned online" in page
    assert "left alone" in str(found)
    assert pl.DataFrame(found.rows())["policy"].n_unique() == 5


def test_what_a_model_cannot_do_is_left_out_and_told(tmp_path: Path) -> None:
    short = {"periods": 2, "period": "3 days", "models": ["trees"]}
    found = mn.backtest(shop(tmp_path / "log", backtest=short), tmp_path / "out")
    assert [row.policy for row in found.models] == ["left alone", "retrained"]
    assert set(found.left_out) == {f"trees, {one}" for one in ("mix followed", "fine-tuned online", "warm-started")}
    assert "trees, warm-started is left out: it does not learn step by step." in found.sentences


def test_explicit_times_begin_the_walk_where_they_say(tmp_path: Path) -> None:
    split = {"train_from": "2024-03-05", "valid_from": "2024-03-15", "test_from": "2024-03-17"}
    options = {"periods": 9, "period": "4 days", "policies": ["retrained"]}
    found = mn.backtest(
        shop(tmp_path / "log", split=split, backtest=options, model={"name": "base_model"}), tmp_path / "out"
    )
    assert [period.begin[:10] for period in found.periods] == ["2024-03-17", "2024-03-21"]
    first = Run.open(tmp_path / "out" / "base_model" / "retrained-2").dataset.manifest.splits["train"].first_time
    assert first is not None
    assert first >= pd.Timestamp("2024-03-05").value // 1000


def test_what_cannot_be_walked_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"periods": 2, "period": "30 days"}
    split = {"valid_from": "2024-03-15", "test_from": "2024-03-17"}
    with pytest.raises(DataError, match="less than two periods"):
        mn.backtest(shop(tmp_path / "log", split=split, backtest=options), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"backtest\.models: 'din' is none of"):
        shop(tmp_path / "log", backtest={"models": ["din"]})
    log = mn.load(shop(tmp_path / "log"), ["negatives={per_request: 2}"])
    with pytest.raises(ConfigError, match="sampled negatives"):
        mn.backtest(log, tmp_path / "out")
    assert command(["backtest", str(tmp_path / "nowhere.yaml")]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err
