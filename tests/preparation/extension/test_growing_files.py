"""A log in files, to which files are added night by night."""

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import musenet as mn
from frame_logs import shop_frames
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Field
from musenet.errors import DataError
from musenet.runs.run import Run as OpenedRun

CUT = pd.Timestamp("2024-03-20")


def write_nights(folder: Path, frames: dict[str, pd.DataFrame], nights: list[str], suffix: str = ".parquet") -> None:
    """The rows of each table before the cut, and those from then on, as a file each."""
    for name, place, time in (("impressions", "shown", "shown_at"), ("events", "clicks", "clicked_at")):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for night, late in (("1", False), ("2", True)):
            if night in nights:
                rows = frames[name][(frames[name][time] >= CUT) == late]
                file = folder / place / f"{night}{suffix}"
                rows.to_parquet(file) if suffix == ".parquet" else rows.to_csv(file, index=False)


def shop(folder: Path, frames: dict[str, pd.DataFrame], suffix: str = ".parquet") -> dict[str, Any]:
    """The configuration of a shop's log."""
    for name in ("users", "items"):
        frames[name].to_parquet(folder / f"{name}.parquet")
    ids = {"user": "user_id", "item": "item_id"}
    return {
        "name": "shop",
        "data": {
            "source": "own_files",
            "impressions": {
                "path": str(folder / "shown" / f"*{suffix}"),
                **ids,
                "time": "shown_at",
                "label": "clicked",
                "request": "search_id",
            },
            "events": {"path": str(folder / "clicks"), **ids, "time": "clicked_at", "kind": "action"},
            "users": {"path": str(folder / "users.parquet"), "user": "user_id"},
            "items": {"path": str(folder / "items.parquet"), "item": "item_id"},
        },
        "features": {
            "user": ["age"],
            "item": ["city"],
            "context": ["device"],
            "candidate": [{"price": {"numeric": "log"}}],
        },
        "history": {"columns": ["item_id", "city"], "length": 5},
        "repeat": {"key": ["item_id"]},
        "split": {"test": "3 days", "valid": "2 days"},
        "model": {"name": "musenet", "scenarios": 2},
        "training": {"epochs": 1, "batch_size": 256},
    }


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_files_that_were_added_extend_a_dataset_that_models_go_on_with(suffix: str, tmp_path: Path) -> None:
    frames = shop_frames()
    write_nights(tmp_path, frames, ["1"], suffix)
    config = shop(tmp_path, frames, suffix)
    mn.prepare(config, tmp_path / "first")
    first = mn.train(config, tmp_path / "run1", dataset=tmp_path / "first")
    write_nights(tmp_path, frames, ["2"], suffix)
    grown = mn.prepare(config, tmp_path / "second", extends=tmp_path / "first").dataset
    whole = mn.prepare(config, tmp_path / "whole").dataset
    for name in ("users", "items", "events", "requests", "candidates", "splits", "fields"):
        assert getattr(grown.manifest, name) == getattr(whole.manifest, name)
    second = mn.train(config, tmp_path / "run2", dataset=tmp_path / "second", start_from=first)
    assert second.evaluate().impressions == whole.manifest.splits["test"].impressions


def test_a_file_that_changed_and_a_night_without_files_are_refused(tmp_path: Path) -> None:
    frames = shop_frames()
    write_nights(tmp_path, frames, ["1"])
    config = shop(tmp_path, frames)
    mn.prepare(config, tmp_path / "first")
    with pytest.raises(DataError, match=r"data\.impressions: no file was added since"):
        mn.prepare(config, tmp_path / "second", extends=tmp_path / "first")
    write_nights(tmp_path, frames, ["2"])
    os.utime(tmp_path / "clicks" / "1.parquet", (1, 1))
    with pytest.raises(DataError, match=r"data\.events: 1\.parquet has changed since"):
        mn.prepare(config, tmp_path / "second", extends=tmp_path / "first")


def test_the_log_may_be_what_was_added_alone(tmp_path: Path) -> None:
    frames = shop_frames()
    write_nights(tmp_path, frames, ["1", "2"])
    config = shop(tmp_path, frames)
    whole = mn.prepare(config, tmp_path / "whole").dataset

    def night(which: str) -> list[str]:
        places = {"impressions": "shown", "events": "clicks"}
        return [f"data.{name}.path={tmp_path / place / f'{which}.parquet'}" for name, place in places.items()]

    mn.prepare(config, tmp_path / "first", overrides=night("1"))
    grown = mn.prepare(config, tmp_path / "second", extends=tmp_path / "first", overrides=night("2")).dataset
    assert grown.manifest.splits == whole.manifest.splits
    with pytest.raises(DataError, match="no file was added"):
        mn.prepare(config, tmp_path / "third", extends=tmp_path / "second", overrides=night("1"))


def test_yesterdays_model_reads_todays_dataset_as_it_would_have_served_it(tmp_path: Path) -> None:
    """Values that have got codes since are unseen to it: as in the dataset of its codes, prepared of the whole log."""
    frames = shop_frames()
    late = frames["impressions"].shown_at >= CUT
    frames["impressions"] = frames["impressions"].astype({"device": str})
    frames["impressions"].loc[late & (frames["impressions"].device == "phone"), "device"] = "watch"
    write_nights(tmp_path, frames, ["1"])
    split = {"valid_from": "2024-03-18", "test_from": "2024-03-19"}
    config = {**shop(tmp_path, frames), "split": split}
    mn.prepare(config, tmp_path / "first")
    run = mn.train(config, tmp_path / "run", dataset=tmp_path / "first")
    write_nights(tmp_path, frames, ["2"])
    # The same training period, so that the whole log prepared at once gives the very same codes.
    whole = mn.prepare(config, tmp_path / "whole").dataset
    later = {"valid_from": "2024-03-22", "test_from": "2024-03-23"}
    grown = mn.prepare({**config, "split": later}, tmp_path / "grown", extends=tmp_path / "first").dataset
    assert "watch" in grown.texts("device").to_pylist()
    run.evaluate(dataset=tmp_path / "grown")
    opened = OpenedRun.open(tmp_path / "run")
    wanted, found = (opened.predictions_on(opened.readable(one, "test"), "test") for one in (whole, grown))
    shared = np.isin(wanted.time, found.time)
    assert shared.sum() == len(found.logit) > 30
    np.testing.assert_allclose(found.logit, wanted.logit[shared], atol=1e-6)


@pytest.mark.parametrize("history", [["item_id", "city"], ["item_id", "city", "brand"]], ids=["", "looked up"])
def test_what_impressions_tell_stays_as_it_was_where_users_and_items_were_first_seen(
    history: list[str], tmp_path: Path
) -> None:
    """Missing at first, changed since, or new: as of the whole log, and no request of the past is told otherwise."""
    frames = shop_frames()
    shown, random = frames["impressions"], np.random.default_rng(5)
    late = np.asarray(shown.shown_at >= CUT)
    tier = np.where(random.random(len(shown)) < 0.5, "gold", "silver").astype(object)
    tier[np.asarray(shown.user_id % 3 == 0) & ~late] = None
    tier[np.asarray(shown.user_id % 3 == 1) & late] = "platinum"
    brand = np.where(shown.item_id % 2 == 0, "own", "other").astype(object)
    brand[np.asarray(shown.item_id % 5 == 0) & ~late] = None
    score = np.where(np.asarray(shown.user_id % 4 == 0) & ~late, np.nan, random.normal(size=len(shown)))
    frames["impressions"] = shown.assign(tier=tier, brand=brand, score=score)
    config = shop(tmp_path, frames)
    config["features"] |= {"user": ["age", "tier", {"score": {"numeric": "standardise"}}], "item": ["city", "brand"]}
    config["history"] = {"columns": history, "length": 5}
    write_nights(tmp_path, frames, ["1"])
    first = mn.prepare(config, tmp_path / "first").dataset
    write_nights(tmp_path, frames, ["2"])
    report = mn.prepare(config, tmp_path / "second", extends=tmp_path / "first")
    grown, whole = report.dataset, mn.prepare(config, tmp_path / "whole").dataset
    for side, name in (("user", "tier"), ("item", "brand")):
        before, ours, theirs = (values_of(one, side, name) for one in (first, grown, whole))
        assert ours == theirs
        assert ours[: len(before)] == before
        assert None in before
    for name in history[1:]:
        assert of_users(grown, name) == of_users(whole, name)
    score, grown_score = (np.asarray(one.column(field_of(one, "user", "score"))) for one in (first, grown))
    np.testing.assert_array_equal(grown_score[: len(score)], score)
    assert any("tier of users shown before: its value at their first is used" in str(one) for one in report.checks.rows)


def field_of(dataset: Dataset, side: str, name: str) -> Field:
    return next(one for one in dataset.manifest.fields if (one.side, one.name) == (side, name))


def values_of(dataset: Dataset, side: str, name: str) -> list[str | None]:
    """A column's values, row by row."""
    field = field_of(dataset, side, name)
    texts = ["", "unseen", None, *dataset.texts(field.vocabulary_name).to_pylist()]
    return [texts[code] for code in dataset.column(field)]


def of_users(dataset: Dataset, name: str) -> list[list[str]]:
    """A history column's values, user by user: events of one moment stand in the order of their codes."""
    values, offset = values_of(dataset, "history", name), dataset.events.offset
    return [sorted(map(str, values[begin:end])) for begin, end in pairwise(offset.tolist())]


def test_a_log_that_is_described_otherwise_is_refused(tmp_path: Path) -> None:
    frames = shop_frames()
    write_nights(tmp_path, frames, ["1"])
    config = shop(tmp_path, frames)
    mn.prepare(config, tmp_path / "first")
    write_nights(tmp_path, frames, ["2"])
    for change in ("data.negative_sampling_rate=0.5", "data.timezone=Europe/Berlin"):
        with pytest.raises(DataError, match="`data` describes the log differently"):
            mn.prepare(config, tmp_path / "second", extends=tmp_path / "first", overrides=[change])
