"""Recalibration: what is fitted, what it costs, and that every figure of a run is of what it answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss, roc_auc_score

import musenet
from musenet.adaptation.adapted import adapted
from musenet.calibration import Calibration
from musenet.config.adaptation import AdaptOptions
from musenet.dataset.dataset import Dataset
from musenet.errors import RunError
from musenet.evaluation.evaluation import Evaluation
from musenet.evaluation.predictions import Predictions
from musenet.evaluation.recalibration import fit_calibration, recalibrated
from musenet.models.musenet.adaptation import mixed_logit
from musenet.runs.run import Run
from musenet.training.train_run import train_run
from planted import SMALL_BASE, SMALL_MUSENET, planted_experiment, write_planted


def bold(rows: int = 4000, weighted: bool = False) -> Predictions:
    """Predictions of a model that is twice as sure as it should be, and clicks too often."""
    random = np.random.default_rng(0)
    truth = random.normal(-1.5, 1.2, rows)
    ids = np.arange(rows)
    return Predictions(
        request=ids,
        user=ids % 200,
        item=ids,
        time=ids,
        label=(random.random(rows) < expit(truth)).astype(np.int8),
        logit=2 * truth + 1,
        weight=random.integers(0, 4, rows).astype(np.float64) if weighted else None,
        repeat_indicator=np.zeros(rows, dtype=bool),
        requests=ids,
        assignment=None,
        repeat_probability=None,
        true_scenario=None,
    )


def fitted(kind: str, predictions: Predictions) -> Calibration:
    found = fit_calibration(kind, predictions, "w")  # type: ignore[arg-type]
    assert found is not None
    return Calibration.model_validate_json(found.model_dump_json())


@pytest.mark.parametrize("weighted", [False, True])
def test_platt_is_the_line_of_most_likelihood_under_platts_targets(weighted: bool):
    seen = bold(weighted=weighted)
    weight, label = (np.ones(len(seen.label)) if seen.weight is None else seen.weight), seen.label
    clicks, others = weight @ label, weight @ (1 - label)
    target = np.where(label > 0, (clicks + 1) / (clicks + 2), 1 / (others + 2))

    def loss(line: np.ndarray) -> float:
        z = line[0] * seen.logit + line[1]
        return float(weight @ (np.logaddexp(0, z) - target * z))

    expected = minimize(loss, np.array([1.0, 0.0]), method="BFGS", options={"gtol": 1e-4}).x
    found = fitted("platt", seen)
    assert [found.slope, found.intercept] == pytest.approx(expected, abs=1e-5)
    assert found.slope == pytest.approx(0.5, abs=0.05)
    np.testing.assert_array_equal(found(seen.logit), found.slope * seen.logit + found.intercept)


def test_separable_clicks_give_a_finite_line():
    seen = replace(bold(40), logit=np.linspace(-1, 1, 40), label=(np.arange(40) >= 20).astype(np.int8))
    assert 0 < fitted("platt", seen).slope < 100


@pytest.mark.parametrize("weighted", [False, True])
def test_isotonic_blocks_are_scikit_learns_and_hold_the_share_that_clicked(weighted: bool):
    seen = bold(weighted=weighted)
    found = fitted("isotonic", seen)
    z, p = np.array(found.points).T
    assert (np.diff(z) > 0).all()
    assert (np.diff(p) > 0).all()
    weight = np.ones(len(seen.label)) if seen.weight is None else seen.weight
    plain = IsotonicRegression(out_of_bounds="clip").fit(seen.logit, seen.label, weight).predict(seen.logit)
    rows = pl.DataFrame({"block": plain, "z": seen.logit, "y": seen.label, "w": weight}).filter(pl.col("w") > 0)
    blocks = rows.group_by("block").agg(
        z=(pl.col("z") * pl.col("w")).sum() / pl.col("w").sum(), y=(pl.col("y") * pl.col("w")).sum() / pl.col("w").sum()
    )
    blocks = blocks.filter((pl.col("block") > 1 / 4002) & (pl.col("block") < 1 - 1 / 4002)).sort("block")
    inner = slice(int(expit(p[0]) < 1 / 4001), len(z) - int(expit(p[-1]) > 1 - 1 / 4001))
    np.testing.assert_allclose(z[inner], blocks["z"])
    np.testing.assert_allclose(expit(p[inner]), blocks["y"])
    middle = (z[3] + z[4]) / 2
    assert found(np.array([middle]))[0] == pytest.approx((p[3] + p[4]) / 2)
    assert found(np.array([-99.0, 99.0])).tolist() == [p[0], p[-1]]


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_a_bold_model_is_calibrated_on_rows_that_were_not_fitted_on(kind: str):
    seen, other = bold(), replace(bold(8000), user=np.arange(8000) % 300)
    later = {name: getattr(other, name)[4000:] for name in ("request", "user", "item", "time", "label", "logit")}
    answers = recalibrated(
        replace(other, **later, requests=later["request"], repeat_indicator=np.zeros(4000, bool)), fitted(kind, seen)
    )
    before, after = (log_loss(answers.label, expit(z)) for z in (answers.uncalibrated, answers.logit))
    assert after < before - 0.05
    assert expit(answers.logit).mean() == pytest.approx(answers.label.mean(), abs=0.02)
    ranked = roc_auc_score(answers.label, answers.uncalibrated)
    # A line keeps the order; what lies outside all points of the other is tied.
    assert roc_auc_score(answers.label, answers.logit) == pytest.approx(ranked, abs=0 if kind == "platt" else 1e-5)


def test_one_kind_of_label_cannot_be_fitted_on():
    with pytest.raises(RunError, match=r"calibration: platt .* 40 impressions of weight 0 clicked .* split\.valid"):
        fitted("platt", replace(bold(40), label=np.zeros(40, dtype=np.int8)))


def test_an_empty_validation_is_told_before_training(planted_dataset: Dataset, run_path: Path):
    splits = planted_dataset.manifest.splits
    empty = splits["valid"].model_copy(update={"end": splits["valid"].begin, "impressions": 0})
    dataset = Dataset(planted_dataset.folder)
    dataset.manifest = dataset.manifest.model_copy(update={"splits": splits | {"valid": empty}})
    with pytest.raises(RunError, match=r"isotonic is fitted on validation, which is empty: give split\.valid"):
        trained(dataset, run_path, "isotonic", **SMALL_BASE)
    assert not run_path.exists()


def trained(dataset: Dataset, path: Path, kind: str, **model: object) -> Run:
    experiment = planted_experiment(model).model_copy(update={"calibration": kind})
    train_run(experiment, dataset, path)
    return Run.open(path)


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("platt", SMALL_BASE),
        ("isotonic", SMALL_MUSENET),
        ("isotonic", {"name": "lightgbm", "trees": 20, "rows_per_leaf": 3}),
    ],
)
def test_a_runs_figures_are_of_recalibrated_logits(tmp_path: Path, kind: str, model: dict[str, object]):
    if model["name"] == "lightgbm":
        pytest.importorskip("lightgbm")
    dataset = write_planted(tmp_path / "dataset", weighted=True)
    run, plain = (
        trained(dataset, tmp_path / "run", kind, **model),
        trained(dataset, tmp_path / "plain", "none", **model),
    )
    assert run.model_checksum == plain.model_checksum
    own, calibration = plain.predictions("test"), Calibration.read(run.folder.calibration_file)
    assert calibration == fit_calibration(kind, plain.predictions("valid"), run.model_checksum)  # type: ignore[arg-type]
    np.testing.assert_array_equal(run.predictions("test").logit, calibration(own.logit))
    found = musenet.evaluate(tmp_path / "run")
    expected = log_loss(own.label, expit(calibration(own.logit)), sample_weight=own.weight)
    assert found.logloss.value == pytest.approx(expected)
    assert found.recalibration is not None
    before = found.recalibration.before
    assert before["logloss"] == plain.evaluate("test").logloss
    gained = found.recalibration.gained
    assert gained["auc"].value == pytest.approx(found.auc.value - before["auc"].value)
    assert Evaluation.model_validate(found.to_json()).to_json() == found.to_json()
    assert "Recalibrating changed AUC by" in str(found)
    assert found.to_frame("polars").filter(pl.col("metric") == "logloss")["uncalibrated"][0] == before["logloss"].value
    assert "recalibration" not in plain.evaluate("test").to_json()


def test_scenarios_are_followed_from_recalibrated_logits(planted_dataset: Dataset, run_path: Path):
    run = trained(planted_dataset, run_path, "platt", **SMALL_MUSENET)
    options = AdaptOptions(every=2, answers_after=0, ridge=1e12)  # so strong that the mix stays
    followed, unadapted = adapted(run, planted_dataset, "test", options)
    assert unadapted.assignment is not None
    assert unadapted.scenario_logit is not None
    np.testing.assert_array_equal(unadapted.logit, run.predictions("test").logit)
    assert unadapted.uncalibrated is not None
    shift = unadapted.logit - unadapted.uncalibrated
    raw = unadapted.scenario_logit - shift[:, None]
    log_assignment = np.log(unadapted.assignment[unadapted.place])
    np.testing.assert_allclose(mixed_logit(log_assignment, raw), unadapted.uncalibrated, atol=1e-5)
    # The guard mixes what is recalibrated with the mixture of recalibrated scenarios, which differ little.
    assert np.abs(followed.predictions.logit - unadapted.logit).max() < 0.2 * np.abs(shift).max() + 1e-3
    for how in ({"every": 2}, {"intercept": True}, {"finetune": {"every": 5}}):
        found = musenet.evaluate(run_path, adapt={"answers_after": 0} | how, resamples=5)
        assert found.recalibration is None
        assert found.unadapted is not None
        assert found.unadapted.recalibration is not None
        assert found.unadapted.logloss.value == pytest.approx(run.evaluate("test").logloss.value)


def test_another_calibration_makes_another_run(planted_dataset: Dataset, run_path: Path):
    run = trained(planted_dataset, run_path, "platt", **SMALL_BASE)
    with pytest.raises(RunError, match="another calibration: give another --out, or --restart"):
        trained(planted_dataset, run_path, "isotonic", **SMALL_BASE)
    run.folder.calibration_file.unlink()
    again = Run.open(run_path)
    assert again.calibration == run.calibration
    assert again.folder.calibration_file.is_file()
    run.folder.calibration_file.write_text("{")
    with pytest.raises(RunError, match=r"calibration\.json is no calibration .* `musenet train`"):
        Run.open(run_path).calibration  # noqa: B018
    experiment = planted_experiment(SMALL_BASE)
    train_run(experiment, planted_dataset, run_path, replace=True)
    assert not run.folder.calibration_file.exists()
    assert Run.open(run_path).predictions("test").uncalibrated is None
