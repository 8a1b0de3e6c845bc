"""A row of trees: trained, kept, compared and refused as other models are."""

from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from musenet.adaptation.adapted import adapted
from musenet.config.adaptation import AdaptOptions
from musenet.config.experiment import Experiment
from musenet.config.loading import validate_experiment
from musenet.dataset.dataset import Dataset
from musenet.errors import ConfigError, RunError, UserError
from musenet.models.baselines.boosted_trees import LightGbm
from musenet.runs.run import Run
from musenet.serving.export.export import check_servable
from musenet.studies.compare_models import compare_models
from musenet.studies.pool import TrainingPool
from musenet.studies.reproduction import reproduce
from musenet.training.train_run import decisive, train_run
from planted import SMALL_BASE, planted_experiment, write_planted

pytest.importorskip("lightgbm")

TREES = {"name": "lightgbm", "trees": 500, "rows_per_leaf": 3, "leaves": 6, "patience": 30}


def trees(**changes: Any) -> Experiment:
    return planted_experiment(TREES | changes)


@pytest.fixture(scope="module")
def trained(planted_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("boosted") / "run"
    reports: list[dict[str, Any]] = []
    result = train_run(trees(), planted_dataset, path, log=reports.append)
    assert reports[-1] == result.to_json()
    assert reports[0] == {"run": str(path), "resumed": False}
    assert reports[1:-1] == Run.open(path).folder.metrics()[0]
    return Run.open(path)


def test_the_trees_up_to_the_best_validation_are_kept(trained: Run):
    validations = trained.folder.metrics()[0]
    best = max(validations, key=lambda entry: entry["valid"]["auc"])
    assert trained.training.best == {"step": best["step"], "epoch": 0, **best["valid"]}
    assert isinstance(trained.model, LightGbm)
    assert trained.model.trees.num_trees() == best["step"]
    assert validations[-1]["step"] - best["step"] >= TREES["patience"]
    assert trained.training.stopped == "no better auc in 30 trees"
    predictions = trained.predictions("valid")
    assert best["valid"]["auc"] == pytest.approx(roc_auc_score(predictions.label, predictions.logit), abs=1e-6)
    probability = 1 / (1 + np.exp(-predictions.logit))
    assert best["valid"]["logloss"] == pytest.approx(log_loss(predictions.label, probability), rel=1e-4)


def test_nothing_is_printed(planted_dataset: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """LightGBM would warn on the standard output, where commands print JSON."""
    train_run(trees(), planted_dataset, tmp_path / "run")
    assert capfd.readouterr() == ("", "")


def test_what_can_be_learned_is_learned(trained: Run):
    """On a phone the even brands are clicked, elsewhere the cheap items: trees find that; guessing has .5."""
    assert trained.evaluate("test", resamples=20).auc.value > 0.75


def test_the_same_seed_gives_the_same_trees_and_another_one_others(
    trained: Run, planted_dataset: Dataset, tmp_path: Path
):
    assert reproduce(trained, tmp_path / "again").identical
    other = trees().model_copy(update={"seed": 2})
    train_run(other, planted_dataset, tmp_path / "other")
    assert Run.open(tmp_path / "other").model_checksum != trained.model_checksum


def test_weights_of_impressions_count(tmp_path: Path):
    dataset = write_planted(tmp_path / "weighted", weighted=True)
    train_run(trees(), dataset, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    valid = run.predictions("valid")
    expected = roc_auc_score(valid.label, valid.logit, sample_weight=valid.weight)
    assert run.training.best["auc"] == pytest.approx(expected, abs=1e-6)


def test_it_is_told_where_no_tree_splits_any_further(planted_dataset: Dataset, run_path: Path):
    result = train_run(trees(rows_per_leaf=1_000_000), planted_dataset, run_path)
    assert result.stopped == "no tree splits any further"


def test_a_share_of_the_requests_trains_other_trees(trained: Run, planted_dataset: Dataset, tmp_path: Path):
    half = planted_experiment(TREES, requests=0.5)
    train_run(half, planted_dataset, tmp_path / "run")
    assert Run.open(tmp_path / "run").model_checksum != trained.model_checksum


def test_steps_of_gradient_descent_do_not_concern_trees():
    assert decisive(trees()) == decisive(
        planted_experiment(TREES, learning_rate=0.5, epochs=3, patience=1, average=0.9)
    )
    assert decisive(trees()) != decisive(planted_experiment(TREES, monitor="logloss"))
    assert decisive(planted_experiment()) != decisive(planted_experiment(learning_rate=0.5))


def test_a_row_of_trees_is_tuned_and_stands_in_the_table(planted_dataset: Dataset, tmp_path: Path):
    compare = {
        "seeds": 1,
        "models": {"base": SMALL_BASE, "trees": TREES},
        "tuning": {
            "trials": 3,
            "requests": 1.0,
            "keep_one_in": None,
            "seeds": 1,
            "shared": {"training.learning_rate": [0.01, 0.02, 0.03]},
            "own": {"trees": {"model.leaves": [3, 6, 9]}},
        },
    }
    content = planted_experiment().model_dump(mode="json", by_alias=True) | {"compare": compare}
    experiment = validate_experiment(content, "planted")
    with TrainingPool(planted_dataset) as pool:
        comparison = compare_models(experiment, ["base", "trees"], None, tmp_path, pool)
    row = comparison.models[1]
    assert row.name == "trees"
    assert row.parameters_outside_embedding == row.parameters > 0
    assert row.difference_to.model == "base"
    assert row.auc.mean > 0.7
    tried = Run.open(Path(row.runs[0])).folder.read_json("../tuning.json")["trials"]
    assert sorted(trial["values"]["model.leaves"] for trial in tried) == [3, 6, 9]
    assert all(set(trial["values"]) == {"model.leaves"} for trial in tried)


@pytest.mark.parametrize("model", [TREES, SMALL_BASE])
def test_without_validation_nothing_says_which_trees_or_weights_to_keep(
    model: dict[str, Any], planted_dataset: Dataset, run_path: Path
):
    splits = planted_dataset.manifest.splits
    empty = splits["valid"].model_copy(update={"end": splits["valid"].begin, "impressions": 0, "positives": 0})
    dataset = copy(planted_dataset)
    dataset.manifest = dataset.manifest.model_copy(update={"splits": splits | {"valid": empty}})
    with pytest.raises(RunError, match=r"weights to keep are chosen on validation, which is empty: give split\.valid"):
        train_run(planted_experiment(model), dataset, run_path)
    assert not run_path.exists()


def test_what_trees_cannot_do_is_refused_in_a_sentence(trained: Run, planted_dataset: Dataset):
    with pytest.raises(RunError, match="cannot be exported: lightgbm is not a network"):
        check_servable(planted_dataset, trained.experiment, trained.path)
    finetune = AdaptOptions.model_validate({"finetune": {}})
    with pytest.raises(RunError, match="lightgbm is not trained by gradient descent: adapt it by `intercept`"):
        adapted(trained, planted_dataset, "test", finetune)
    with pytest.raises(RunError, match="lightgbm mixes no scenarios"):
        adapted(trained, planted_dataset, "test", AdaptOptions())
    followed, unadapted = adapted(trained, planted_dataset, "test", AdaptOptions(intercept=True))
    assert np.isfinite(followed.predictions.logit - unadapted.logit).all()


def test_a_row_to_be_fine_tuned_is_refused_before_anything_runs():
    compare = {"models": {"trees": TREES}, "adapted": {"tuned": {"row": "trees", "adapt": {"finetune": {}}}}}
    content = planted_experiment().model_dump(mode="json", by_alias=True) | {"compare": compare}
    with pytest.raises(ConfigError, match="'trees' is not trained by gradient descent"):
        validate_experiment(content, "planted")


def test_without_the_library_a_comparison_is_refused_before_it_begins(
    planted_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(__import__("sys").modules, "lightgbm", None)
    compare = {"models": {"base": SMALL_BASE, "trees": TREES}, "seeds": 1}
    content = planted_experiment().model_dump(mode="json", by_alias=True) | {"compare": compare}
    with TrainingPool(planted_dataset) as pool, pytest.raises(UserError, match=r"musenet\[rivals\]"):
        compare_models(validate_experiment(content, "planted"), ["base", "trees"], None, tmp_path / "out", pool)
    assert not (tmp_path / "out").exists()
