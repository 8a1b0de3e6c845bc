"""Runs scored on another dataset: the loss, its interval, and that nothing of a run folder changes."""

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from musenet import api, metrics
from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import keys_file
from musenet.dataset.manifest import write_manifest
from musenet.errors import DatasetError, RunError
from musenet.evaluation.predictions import Predictions
from musenet.evaluation.scoring import predict
from musenet.files import checksum
from musenet.runs.folder import RunFolder
from musenet.runs.run import load_model
from musenet.studies.comparison.table import columns, show, to_markdown
from musenet.studies.comparison.transfer import OtherDataset
from musenet.training.train_run import train_run
from places import CONFIGS

pytestmark = pytest.mark.slow

CONFIG = CONFIGS / "hotels.yaml"
FILES = {"impressions": "impressions", "events": "clicks", "users": "users", "items": "hotels"}
SMALL = ["model.hidden=[8]", "model.embedding=4", "training.epochs=1", "training.threads=1"]
MODELS = {"soft": [], "base": ["model={name: base_model, hidden: [8], embedding: 4}"]}
RESAMPLES = 20


@dataclass(frozen=True)
class Case:
    own: Dataset
    shifted: Dataset
    runs: list[Path]
    """`soft` of two seeds, `base (small)` of one, as a comparison lays them out."""


def prepared(folder: Path, name: str, *overrides: str, **options: Any) -> Dataset:
    """A small simulated log and its dataset."""
    log = folder / "logs" / name
    api.simulate_hotels(log, impressions=20_000, **options)
    paths = [f"data.{part}.path={log / file}.parquet" for part, file in FILES.items()]
    return api.prepare(CONFIG, folder / name, overrides=[*paths, *overrides]).dataset


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("shift")
    own, shifted = prepared(folder, "hotels"), prepared(folder, "shifted", shift=1.0)
    runs = []
    for label, model, seed in (("soft", "soft", 1), ("soft", "soft", 2), ("base-small", "base", 1)):
        path = folder / "runs" / label / f"seed-{seed}"
        experiment = api.load(CONFIG, [*MODELS[model], *SMALL, f"seed={seed}"])
        train_run(experiment, own, path)
        runs.append(path)
    return Case(own, shifted, runs)


def scored(path: Path, dataset: Dataset) -> Predictions:
    return predict(load_model(RunFolder.open(path)), dataset, "test")


def auc(predictions: Predictions, times: np.ndarray | None = None) -> float:
    """Each row as often as told."""
    rows = np.arange(len(predictions.label))
    rows = rows if times is None else np.repeat(rows, times)
    return metrics.auc(predictions.label[rows], predictions.logit[rows])


def contents(runs: list[Path]) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for run in runs for file in run.rglob("*") if file.is_file()}


def test_a_loss_is_the_auc_where_trained_minus_the_auc(case: Case) -> None:
    comparison = api.compare_runs(case.runs, dataset=case.shifted.folder, resamples=RESAMPLES)
    assert [row.name for row in comparison.models] == ["soft", "base-small"]
    lost = {}
    for row in comparison.models:
        home, away = (
            np.array([auc(scored(Path(run), dataset)) for run in row.runs]) for dataset in (case.own, case.shifted)
        )
        assert row.auc_where_trained is not None
        assert row.loss is not None
        assert row.auc.per_seed == pytest.approx(away.tolist())
        assert row.auc_where_trained.per_seed == pytest.approx(home.tolist())
        assert row.auc_where_trained.mean == pytest.approx(home.mean())
        assert row.loss.value == pytest.approx(home.mean() - away.mean())
        assert row.loss.low < row.loss.value < row.loss.high
        lost[row.name] = home.mean() - away.mean()
        assert row.loss.over_reference.value == pytest.approx(lost[row.name] - lost["soft"])
    assert comparison.where_trained is not None
    period = case.own.manifest.splits["test"]
    assert comparison.where_trained.impressions == period.impressions
    assert comparison.where_trained.scored == str(case.shifted.folder)
    assert comparison.data == "shifted"


def user_ids(dataset: Dataset, predictions: Predictions) -> np.ndarray:
    keys = dataset.keys("users")["_user"].to_pylist()
    return np.array([keys[row] for row in predictions.user])


def test_the_interval_draws_the_same_users_and_seeds_for_both_splits(case: Case) -> None:
    """Against a loop that repeats rows, and users drawn by their ids."""
    comparison = api.compare_runs(case.runs[:2], dataset=case.shifted.folder, resamples=RESAMPLES)
    (row,) = comparison.models
    assert row.loss is not None
    own = [scored(run, case.own) for run in case.runs[:2]]
    away = [scored(run, case.shifted) for run in case.runs[:2]]
    of_own, of_away = user_ids(case.own, own[0]), user_ids(case.shifted, away[0])
    everyone = np.unique(np.concatenate([of_own, of_away]))  # both datasets number users by their ids
    users, seeds = np.random.default_rng([0, 0]), np.random.default_rng([0, 1, 0, 2])
    drawn_seeds = seeds.integers(2, size=(RESAMPLES, 2))
    losses = []
    for resample in range(RESAMPLES):
        drawn = np.bincount(users.integers(len(everyone), size=len(everyone)), minlength=len(everyone))
        often = dict(zip(everyone, drawn, strict=True))
        times = [np.array([often[user] for user in ids]) for ids in (of_own, of_away)]
        losses.append(np.mean([auc(own[s], times[0]) - auc(away[s], times[1]) for s in drawn_seeds[resample]]))
    low, high = np.quantile(losses, [0.025, 0.975])
    assert (row.loss.low, row.loss.high) == pytest.approx((low, high))


def test_users_that_one_split_alone_knows_count_there_alone(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "renamed"
    shutil.copytree(case.shifted.folder, folder)
    file = keys_file(folder, "users")
    ids = pq.read_table(file)["_user"].to_pylist()
    shown = int(case.shifted.requests.user[case.shifted.manifest.splits["test"].begin])
    pq.write_table(pa.table({"_user": [*ids[:shown], "a stranger", *ids[shown + 1 :]]}), file)
    manifest = case.shifted.manifest
    signed = manifest.checksums | {file.relative_to(folder).as_posix(): checksum(file)}
    write_manifest(folder, manifest.model_copy(update={"checksums": signed}))
    before, after = (OtherDataset(case.own, Dataset(one), "test", 5) for one in (case.shifted.folder, folder))
    assert after.users_of_both == before.users_of_both - 1
    whole = after.own_draws.users + after.draws.users - after.users_of_both
    own, away = (np.concatenate(list(draws.blocks())) for draws in (after.own_draws, after.draws))
    known = dict(zip(after.own_draws.ids, own.T, strict=True))
    for user, counts in zip(after.draws.ids, away.T, strict=True):
        if user != shown and user in known:
            assert counts.tolist() == known[user].tolist()
    assert (own.sum(axis=1) <= whole).all()
    assert away.shape == (5, after.draws.users)


def test_scored_on_their_own_dataset_runs_lose_nothing(case: Case) -> None:
    plain = api.compare_runs(case.runs, resamples=RESAMPLES)
    again = api.compare_runs(case.runs, dataset=case.own.folder, resamples=RESAMPLES)
    for ours, theirs in zip(again.models, plain.models, strict=True):
        assert ours.auc == theirs.auc
        assert ours.difference_to == theirs.difference_to
        assert ours.loss is not None
        assert (ours.loss.value, ours.loss.low, ours.loss.high) == (0, 0, 0)
        assert (theirs.loss, theirs.auc_where_trained) == (None, None)
    assert plain.where_trained is None
    assert "loss" not in columns(plain)


def test_run_folders_stay_as_they_are(case: Case, tmp_path: Path) -> None:
    runs = []
    for run in case.runs:  # one without what it had saved: nothing is added either
        runs.append(tmp_path / "runs" / run.parent.name / run.name)
        shutil.copytree(run, runs[-1])
    shutil.rmtree(runs[0] / "predictions")
    before = contents(runs)
    table = tmp_path / "table"
    comparison = api.compare_runs(runs, table, dataset=case.shifted.folder, resamples=5)
    assert contents(runs) == before
    assert sorted(file.name for file in table.iterdir()) == ["comparison.json", "comparison.md"]
    content = json.loads((table / "comparison.json").read_text())
    assert set(content["models"][0]["auc_where_trained"]) == {"mean", "low", "high", "per_seed"}
    assert set(content["models"][0]["loss"]) == {"value", "low", "high", "over_reference"}
    assert set(content["where_trained"]) == {"dataset", "scored", "impressions", "users", "users_of_both"}
    assert (table / "comparison.md").read_text() == to_markdown(comparison)


def test_the_table_shows_where_trained_and_loss(case: Case) -> None:
    comparison = api.compare_runs(case.runs, dataset=case.shifted.folder, reference="base (small)", resamples=5)
    assert comparison.reference == "base-small"  # by the label that the folder was named after
    lines = to_markdown(comparison).splitlines()
    assert "| AUC | AUC where trained | loss | loss over base-small | GAUC |" in lines[0]
    assert "Trained on hotels, whose test split has" in to_markdown(comparison)
    printed = io.StringIO()
    show(comparison, Console(file=printed, width=80))
    assert all(len(line) <= 80 for line in printed.getvalue().splitlines())
    assert "loss over" in printed.getvalue()
    with pytest.raises(RunError, match="no row is called 'gate'; there are soft, base-small"):
        api.compare_runs(case.runs, reference="gate")


def test_logs_that_a_run_cannot_read_are_refused(case: Case, tmp_path: Path) -> None:
    changes = ["features.context=[device]", "history.length=5", "repeat=null"]
    other = prepared(tmp_path, "other", *changes, seed=2)
    words = "fields .*; vocabularies .*; scales of .*; length of histories; repeats"
    with pytest.raises(DatasetError, match=f"cannot be scored by runs of .* differs in {words}"):
        api.compare_runs(case.runs, dataset=other.folder)
