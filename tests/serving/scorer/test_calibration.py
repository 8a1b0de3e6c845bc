"""A recalibrated run is served as it is evaluated, and corrected for negatives afterwards."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from scipy.special import expit

from musenet.runs.run import Run
from musenet.serving.export.export import export_run, version_of
from musenet.serving.prediction.predict import predict_files
from musenet.serving.scorer.scorer import Scorer
from serving.exports import Exported, request_of, rows_of_test
from serving.prediction.test_predict import frame

RATE = 0.25


@pytest.fixture(scope="module", params=["platt", "isotonic"])
def recalibrated(request: pytest.FixtureRequest, exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same weights in a run whose configuration asks for it, of a log that keeps a quarter of the negatives."""
    folder = tmp_path_factory.mktemp("recalibrated") / "run"
    shutil.copytree(exported.run.path, folder, ignore=shutil.ignore_patterns("predictions", "assignments"))
    written = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(written | {"calibration": request.param}))
    run = Run.open(folder)
    kept = run.dataset.manifest.model_copy(update={"negative_sampling_rate": RATE})
    run.dataset.manifest = kept
    export_run(run, folder / "export")
    return run


def test_scores_are_those_of_the_evaluation_with_negatives_put_back(recalibrated: Run, exported: Exported) -> None:
    scorer, predictions = Scorer(recalibrated.path / "export"), recalibrated.predictions("test")
    assert predictions.uncalibrated is not None
    assert np.abs(predictions.logit - predictions.uncalibrated).max() > 0.1
    for row in rows_of_test(exported.dataset)[::5]:
        own = predictions.request == row
        encoded = scorer.encode(request_of(exported, row))
        raw = Scorer(exported.folder).logit(encoded)
        calibration = recalibrated.calibration
        assert calibration is not None
        # Of the same logits to the last bit; of offline's own as nearly as these agree.
        np.testing.assert_array_equal(scorer.logit(encoded), calibration(raw) + np.log(RATE))
        expected = expit(predictions.logit[own] + np.log(RATE))
        np.testing.assert_allclose(scorer.score(request_of(exported, row))["scores"], expected, atol=1e-5)


def test_files_are_scored_as_requests_are(recalibrated: Run, exported: Exported, tmp_path: Path) -> None:
    scorer, rows = Scorer(recalibrated.path / "export"), rows_of_test(exported.dataset)[:6]
    frame(exported, rows).write_parquet(tmp_path / "in.parquet")
    predict_files(scorer, tmp_path / "in.parquet", tmp_path / "out.parquet")
    one_by_one = [score for row in rows for score in scorer.score(request_of(exported, row))["scores"]]
    np.testing.assert_allclose(pl.read_parquet(tmp_path / "out.parquet")["score"], one_by_one, atol=1e-6)


def test_scenarios_are_moved_alike_and_still_mix_to_the_score(recalibrated: Run, exported: Exported) -> None:
    asked = request_of(exported, rows_of_test(exported.dataset)[0]) | {"explain": True}
    moved, own = Scorer(recalibrated.path / "export").score(asked), Scorer(exported.folder).score(asked)
    mixed = [np.dot(moved["scenarios"], why["scenarios"]) for why in moved["candidates"]]
    assert mixed == pytest.approx(moved["scores"], abs=1e-12)

    def logits(values: object) -> np.ndarray:
        found = np.array(values)
        return np.log(found / (1 - found))

    for after, before in zip(moved["candidates"], own["candidates"], strict=True):
        shift = logits(after["scenarios"]) - logits(before["scenarios"])
        np.testing.assert_allclose(shift, shift.mean(), atol=1e-4)
        assert abs(shift.mean()) > 0.1


def test_what_recalibrates_is_part_of_the_version(recalibrated: Run, exported: Exported) -> None:
    assert recalibrated.model_checksum == exported.run.model_checksum
    assert version_of(recalibrated) != version_of(exported.run)
    assert Scorer(recalibrated.path / "export").version == version_of(recalibrated)
