"""Parts of a split, against plain loops over its impressions."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from musenet import metrics
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.evaluation import slices
from musenet.evaluation.slices import parts_of, slices_of
from musenet.runs.run import Run
from musenet.studies.comparison.compare import compare_runs
from musenet.studies.comparison.table import show_parts, to_markdown
from musenet.training.train_run import train_run

MakeExperiment = Callable[..., Experiment]
BASE = {"name": "base_model", "hidden": [4], "embedding": 2}
MUSENET = {"name": "musenet", "scenarios": 2, "hidden": [4], "embedding": 2}


@pytest.fixture(scope="module")
def runs(
    make_experiment: MakeExperiment, tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Run]]:
    folder = tmp_path_factory.mktemp("runs")
    for name, model in (("base", BASE), ("musenet", MUSENET)):
        train_run(make_experiment(model=model), tiny_dataset, folder / name)
    return {name: [Run.open(folder / name)] for name in ("base", "musenet")}


def test_every_way_of_parting_covers_every_impression_once(runs: dict[str, list[Run]], tiny_dataset: Dataset) -> None:
    predictions = runs["musenet"][0].predictions("test")
    parts = dict(parts_of(tiny_dataset, predictions))
    assert {"candidate", "user", "item", "history", "day", "scenario"} <= set(parts)
    for name, masks in parts.items():
        assert np.sum(list(masks.values()), axis=0).tolist() == [1] * len(predictions.label), name


def test_a_split_of_more_than_a_fortnight_is_parted_by_week(runs: dict[str, list[Run]], tiny_dataset: Dataset) -> None:
    predictions = runs["musenet"][0].predictions("test")
    first, day = datetime(2017, 12, 18, tzinfo=UTC), timedelta(days=1)

    def parts(days: int) -> dict[str, Any]:
        moments = [first + day * (row % days) for row in range(len(predictions.label))]
        time = np.array([round(moment.timestamp() * 1e6) for moment in moments])
        found = dict(parts_of(tiny_dataset, replace(predictions, time=time)))
        assert len({"day", "week"} & set(found)) == 1
        return {name: mask.sum() for name, mask in found.get("day", found.get("week", {})).items()}

    fortnight = parts(14)
    assert list(fortnight) == [(first + day * number).date().isoformat() for number in range(14)]
    assert parts(15) == {"2017-W51": 49, "2017-W52": 45, "2018-W01": 6}


def test_parts_are_what_they_are_called(runs: dict[str, list[Run]], tiny_dataset: Dataset) -> None:
    predictions = runs["musenet"][0].predictions("test")
    parts = dict(parts_of(tiny_dataset, predictions))
    dataset, period = tiny_dataset, tiny_dataset.manifest.splits["train"]
    users = {int(dataset.requests.user[request]) for request in range(period.begin, period.end)}
    offset, events = dataset.requests.candidate_offset, dataset.events.offset
    items = {int(item) for item in dataset.candidates.item[offset[period.begin] : offset[period.end]]}
    for row, request in enumerate(predictions.request):
        user = int(dataset.requests.user[request])
        length = int(dataset.requests.history_end[request]) - int(events[user])
        bins = {name: low <= length <= high for name, (low, high) in slices.HISTORY_BINS.items()}
        assert parts["user"]["seen in training"][row] == (user in users)
        assert parts["item"]["seen in training"][row] == (int(predictions.item[row]) in items)
        assert {name: bool(mask[row]) for name, mask in parts["history"].items()} == bins
        assert parts["candidate"]["repeat"][row] == predictions.repeat_indicator[row]


def test_a_part_is_measured_on_its_own_impressions(
    runs: dict[str, list[Run]], tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "FEWEST", 5)
    rows = {name: [run.predictions("test") for run in of_row] for name, of_row in runs.items()}
    found = {(one.slice, one.value): one for one in slices_of(tiny_dataset, rows, "musenet", resamples=20)}
    repeats = rows["base"][0].repeat_indicator.astype(bool)
    part = found["candidate", "repeat"]
    measured = {row.name: row for row in part.models}
    auc = {name: metrics.auc(of_row[0].label[repeats], of_row[0].logit[repeats]) for name, of_row in rows.items()}
    assert part.impressions == repeats.sum()
    assert part.positives == rows["base"][0].label[repeats].sum()
    assert {name: row.auc for name, row in measured.items()} == pytest.approx(auc)
    assert measured["musenet"].difference is None
    assert measured["base"].difference is not None
    assert measured["base"].difference.value == pytest.approx(auc["base"] - auc["musenet"])


def test_a_comparison_holds_its_parts_if_asked(runs: dict[str, list[Run]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "FEWEST", 5)
    without = compare_runs(runs, "musenet", "base", resamples=20)
    assert without.to_json()["slices"] is None
    comparison = compare_runs(runs, "musenet", "base", resamples=20, slices=True)
    content: dict[str, Any] = json.loads(json.dumps(comparison.to_json(), default=str))
    assert {part["slice"] for part in content["slices"]} >= {"candidate", "history"}
    table = to_markdown(comparison).split("\n\n")[-1]
    assert "| candidate: repeat |" in table
    assert "AUC over base" in table
    printed = io.StringIO()
    show_parts(without, Console(file=printed, width=80))
    assert printed.getvalue() == ""
    show_parts(comparison, Console(file=printed, width=200))
    for part in content["slices"]:
        assert f"{part['slice']}: {part['value']}" in printed.getvalue()
