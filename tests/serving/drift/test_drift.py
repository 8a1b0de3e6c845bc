"""A log compared with an export: its figures are the run's own on the same rows, and what moved is named."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

import musenet
from musenet.cli.main import run as run_command
from musenet.errors import ConfigError, DataError, ExportError
from musenet.evaluation.draws import UserDraws
from musenet.evaluation.intervals import resample_model, seed_and_user_interval
from musenet.files import json_ready
from musenet.serving.drift.answers import Tally
from musenet.serving.drift.drift import Drift
from musenet.serving.drift.reference import REFERENCE, REPEATS, Reference
from musenet.serving.drift.stability import Column
from serving.exports import Exported
from serving.prediction.test_predict import frame


def log_of(exported: Exported, split: str) -> pl.DataFrame:
    """The period's impressions as a file of the log holds them, labels included."""
    period = exported.dataset.manifest.splits[split]  # type: ignore[index]
    label = exported.run.predictions(split).label  # type: ignore[arg-type]
    return frame(exported, range(period.begin, period.end)).with_columns(label=pl.Series(label.astype(np.int64)))


@pytest.fixture(scope="module")
def log(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("log") / "test.parquet"
    log_of(exported, "test").write_parquet(file)
    return file


@pytest.fixture(scope="module")
def found(exported: Exported, log: Path) -> Drift:
    return musenet.drift(exported.folder, log)


def test_figures_are_those_of_the_runs_own_predictions(exported: Exported, found: Drift) -> None:
    own = exported.run.predictions("test")
    probability = 1 / (1 + np.exp(-own.logit))
    assert (found.impressions, found.requests) == (len(own.label), len(own.requests))
    assert (found.positives, found.users) == (own.label.sum(), len(np.unique(own.user)))
    assert found.whole["auc"].value == pytest.approx(roc_auc_score(own.label, own.logit), abs=1e-5)
    assert found.whole["logloss"].value == pytest.approx(log_loss(own.label, probability), abs=1e-5)
    assert found.whole["calibration_ratio"].value == pytest.approx(probability.sum() / own.label.sum(), abs=1e-4)
    days = pl.Series(own.time).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    local = days.dt.convert_time_zone(exported.dataset.manifest.timezone).dt.strftime("%Y-%m-%d")
    assert {day.day: day.impressions for day in found.days} == dict(local.value_counts().iter_rows())
    assert found.scenarios is not None
    assert own.assignment is not None
    np.testing.assert_allclose(found.scenarios["share"], own.assignment.mean(0), atol=1e-5)


def test_the_order_of_rows_means_nothing(exported: Exported, log: Path, found: Drift, tmp_path: Path) -> None:
    """Rows of one request may lie apart, as in preparation."""
    pl.read_parquet(log).sample(fraction=1, shuffle=True, seed=2).write_parquet(tmp_path / "shuffled.parquet")
    other = musenet.drift(exported.folder, tmp_path / "shuffled.parquet")
    assert (other.requests, other.moved) == (found.requests, found.moved)
    assert other.whole["auc"].value == pytest.approx(found.whole["auc"].value, abs=1e-9)
    assert other.answers is not None
    assert found.answers is not None
    assert other.answers.saved == pytest.approx(found.answers.saved, abs=1e-6)


def test_the_reference_is_of_training_and_validation(exported: Exported, found: Drift) -> None:
    reference = Reference.read(exported.folder / REFERENCE)
    valid = exported.run.predictions("valid")
    measured = resample_model(valid.sample(), UserDraws(valid.user, 200), ["auc"])
    assert reference.figures["auc"] == seed_and_user_interval(measured, "auc")
    assert found.before == reference.figures
    by_name = {one.name: one for one in reference.columns}
    dataset, period = exported.dataset, exported.dataset.manifest.splits["train"]
    device = pl.Series(dataset.column(dataset.field("context", "device"))[period.begin : period.end].ravel())
    counted = device.value_counts().sort(device.name)["count"].to_list()
    assert by_name["device"].counts == [*counted, 0]
    repeats = dataset.candidates.repeat_indicator
    assert repeats is not None
    shown = repeats[dataset.candidates_between(period.begin, period.end)]
    assert by_name["repeats"].counts == [int((shown == 0).sum()), int((shown > 0).sum())]


def test_unseen_values_and_other_columns_are_named(exported: Exported, tmp_path: Path) -> None:
    test = log_of(exported, "test")
    test.with_columns(device=pl.lit("a spaceship")).write_parquet(tmp_path / "log.parquet")
    other = musenet.drift(exported.folder, tmp_path / "log.parquet")
    moved = {one.column: one for one in other.columns if one.moved}
    assert "columns" in other.moved
    assert moved["device"].unseen == 1.0
    assert moved["device"].unseen > moved["device"].unseen_before
    allowed = ["drift.unseen=1", "drift.stability=1e9", "drift.loss=0.99"]
    assert musenet.drift(exported.folder, tmp_path / "log.parquet", overrides=allowed).moved == []


def test_the_command_says_by_its_status_whether_something_moved(
    exported: Exported, log: Path, found: Drift, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "drift.html"
    arguments = ["drift", str(exported.folder), str(log)]
    allowed = ["--set", "drift.unseen=1", "--set", "drift.stability=1e9", "--set", "drift.loss=0.99"]
    assert run_command([*arguments, *allowed, "--json", "--out", str(page)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["moved"] == []
    assert told["whole"]["auc"]["value"] == pytest.approx(found.whole["auc"].value)
    assert set(told) == set(found.to_json())
    text = page.read_text(encoding="utf-8")
    assert "Nothing changed" in text
    assert f"{found.before['auc'].value:.4f}" in text
    assert all(one.column in text for one in found.columns)
    assert run_command([*arguments, *allowed[:2], "--set", "drift.stability=1e-9"]) == 3
    printed = " ".join(capsys.readouterr().out.split())
    assert f"columns changed against {found.model}." in printed


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (pl.col("item_id"), r"lacks the column 'label', which says what was clicked"),
        (pl.lit(None).cast(pl.Int64).alias("label"), r"row 1: column 'label' is empty; a label is 0 or 1"),
        (pl.lit(7).alias("label"), r"row 1: column 'label' holds 7; a label is 0 or 1"),
    ],
)
def test_labels_that_are_none_are_refused(
    exported: Exported, log: Path, tmp_path: Path, change: pl.Expr, why: str
) -> None:
    read = pl.read_parquet(log)
    changed = read.drop("label") if "lacks" in why else read.with_columns(change)
    changed.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=why):
        musenet.drift(exported.folder, tmp_path / "log.parquet")


def test_labels_of_one_kind_say_nothing_of_mix_and_taste(exported: Exported, log: Path, tmp_path: Path) -> None:
    pl.read_parquet(log).with_columns(label=pl.lit(0)).write_parquet(tmp_path / "log.parquet")
    found = musenet.drift(exported.folder, tmp_path / "log.parquet")
    assert found.answers is None
    assert not {"mix", "taste"} & set(found.moved)
    assert np.isnan(found.whole["auc"].value)
    assert Drift.model_validate(json_ready(found.to_json())).moved == found.moved


def test_thresholds_and_exports_that_are_none_are_refused(exported: Exported, log: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only keys of `drift` can be set here"):
        musenet.drift(exported.folder, log, overrides=["model.scenarios=2"])
    with pytest.raises(ConfigError, match=r"p: .*less than 1"):
        musenet.drift(exported.folder, log, overrides=["drift.p=3"])
    shutil.copytree(exported.folder, tmp_path / "export")
    manifest = json.loads((tmp_path / "export" / "manifest.json").read_text())
    del manifest["checksums"][REFERENCE]
    (tmp_path / "export" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match="says nothing of the periods that it comes from"):
        musenet.drift(tmp_path / "export", log)
    with pytest.raises(DataError, match=r"--out .*give a name that ends in \.html"):
        musenet.drift(exported.folder, log, out=tmp_path / "page.pdf")


def test_a_column_may_be_called_as_the_repeats_are() -> None:
    own = Column(name=REPEATS, side="candidate", place=0, edges=[10.0], counts=[1, 1])
    columns = [own, Column(name=REPEATS, side="candidate", place=1, edges=[0.5], counts=[1, 1])]
    tally = Tally(columns)
    numbers = np.array([[3.0, 1.0], [30.0, 1.0], [40.0, 0.0]], dtype=np.float32)
    tally.add({"candidate": (np.zeros((3, 0), dtype=np.int64), numbers)})
    assert [bins.tolist() for bins in tally.bins] == [[1, 2], [1, 2]]
    tally.add({"candidate": (np.zeros((1, 0), dtype=np.int64), numbers[:1])})
    assert [bins.tolist() for bins in tally.bins] == [[2, 2], [1, 3]]
