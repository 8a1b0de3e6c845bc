"""Trainings recorded in real local backends, and read back from them: MLflow's SQLite, TensorBoard's event files."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import musenet
from musenet.config.experiment import Experiment
from musenet.config.tracking import TrackingOptions
from musenet.dataset.dataset import Dataset
from musenet.errors import UserError
from musenet.evaluation.evaluation import Evaluation
from musenet.models.registry import MODELS
from musenet.progress import SILENT, Moment
from musenet.runs.run import Run
from musenet.serving.manifest import MANIFEST
from musenet.studies.compare_models import compare_models
from musenet.studies.pool import TrainingPool
from musenet.tracking.backends import Mlflow
from musenet.tracking.tracker import TRACKING, Tracker, record_artifact, record_evaluation, tracked
from musenet.training.train_run import train_run
from planted import SMALL_BASE, planted_experiment
from training.trained_runs import progress_of

if os.environ.get("REQUIRE_ALL") == "1" and find_spec("mlflow") is None:
    pytest.fail("the extra `tracking` is not installed: make install", pytrace=False)
if find_spec("mlflow") is None or find_spec("tensorboard") is None:
    pytest.skip("needs the extra `tracking`", allow_module_level=True)


def experiment_in(folder: Path, **training: Any) -> Experiment:
    into = TrackingOptions(mlflow=f"sqlite:///{folder}/mlflow.db", tensorboard=str(folder / "curves"))
    return planted_experiment(SMALL_BASE, **training).model_copy(update={"tracking": into})


def client_of(folder: Path) -> Any:
    from mlflow import MlflowClient  # which takes seconds, in every process that looks for tests

    return MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")


def in_mlflow(folder: Path) -> list[Any]:
    client = client_of(folder)
    found = client.get_experiment_by_name("planted")
    return list(client.search_runs([found.experiment_id]))


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.fixture(scope="module")
def folder(planted_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that was recorded, evaluated, and of which something was written."""
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)  # where MLflow keeps artifacts of a SQLite store
        experiment = experiment_in(folder, validations_per_epoch=2)
        told: list[Moment] = []
        listener = musenet.Listener(told.append)
        with tracked(listener, experiment) as heard:
            train_run(experiment, planted_dataset, folder / "run", log=heard.training("planted"))
        assert {moment.name for moment in told} >= {"validation", "kept", "end"}  # which are passed on
        musenet.evaluate(folder / "run")
        (folder / "report.html").write_text("a page")
        record_artifact(Run.open(folder / "run"), folder / "report.html")
        (folder / "export").mkdir()
        (folder / "export" / MANIFEST).write_text("{}")
        record_artifact(Run.open(folder / "run"), folder / "export")
    return folder


def test_mlflow_takes_rows_however_they_are_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    into = Mlflow(f"sqlite:///{tmp_path}/mlflow.db")
    run = into.begin("a run", "planted", None)
    for _ in range(2):  # as of a training that goes on
        into.parameters(run, {"compare.models.base model (repeat features).name": "base_model"})
    into.metrics(run, {"one scenario, same size.auc": 0.75, "ndcg@10": 0.5}, 1)
    (found,) = in_mlflow(tmp_path)
    assert found.data.params == {"compare.models.base model _repeat features_.name": "base_model"}
    assert found.data.metrics == {"one scenario_ same size.auc": 0.75, "ndcg_at_10": 0.5}


def test_mlflow_has_configuration_curves_figures_and_artifacts(folder: Path) -> None:
    (run,) = in_mlflow(folder)
    assert (run.info.run_name, run.info.status) == ("planted", "FINISHED")
    assert run.data.params["model.name"] == "base_model"
    assert run.data.params["training.batch_size"] == "32"
    client = client_of(folder)
    opened = Run.open(folder / "run")
    reported = [entry for entry in opened.folder.metrics()[0] if "valid" in entry]
    curve = client.get_metric_history(run.info.run_id, "valid.auc")
    assert [(one.step, one.value) for one in curve] == [(one["step"], one["valid"]["auc"]) for one in reported]
    measured = Evaluation.read(opened.folder.evaluation_file("test"))
    for name in ("value", "low", "high"):
        key = "test.auc" if name == "value" else f"test.auc.{name}"
        assert run.data.metrics[key] == pytest.approx(getattr(measured.auc, name))
    assert run.data.metrics["best.logloss"] == pytest.approx(opened.training.best["logloss"])
    kept = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert kept == {"report.html", "export"}
    assert [file.path for file in client.list_artifacts(run.info.run_id, "export")] == [f"export/{MANIFEST}"]


def test_tensorboard_has_curves_and_figures(folder: Path) -> None:
    found = scalars(folder / "curves" / "planted" / "planted")
    opened = Run.open(folder / "run")
    reported = [entry for entry in opened.folder.metrics()[0] if "valid" in entry]
    for key in ("auc", "logloss"):
        assert [step for step, _ in found[f"valid.{key}"]] == [entry["step"] for entry in reported]
        expected = [entry["valid"][key] for entry in reported]
        assert [value for _, value in found[f"valid.{key}"]] == pytest.approx(expected, rel=1e-6)
    measured = Evaluation.read(opened.folder.evaluation_file("test"))
    assert found["test.auc.low"][0][1] == pytest.approx(measured.auc.low, rel=1e-6)
    assert any(key.startswith("loss.") for key in found)


def test_trainings_of_one_name_are_recorded_apart_and_a_resumed_one_goes_on(
    planted_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = experiment_in(tmp_path, validations_per_epoch=2, epochs=2, checkpoint_every=5)
    curves = tmp_path / "curves" / "planted"

    def recorded(run: str, killed: bool = False, **how: Any) -> None:
        told: list[str] = []

        def listen(moment: Moment) -> None:
            told.append(moment.name)
            if killed and moment.name == "step" and told.count("validation") == 2:
                raise KeyboardInterrupt  # long after the checkpoint, so that the second validation comes again

        with tracked(musenet.Listener(listen), experiment) as heard:
            train_run(experiment, planted_dataset, tmp_path / run, log=heard.training("planted"), **how)

    recorded("whole")
    steps = [one["step"] for one in Run.open(tmp_path / "whole").folder.metrics()[0] if "valid" in one]
    with pytest.raises(KeyboardInterrupt):
        recorded("stopped", killed=True)
    assert 0 < progress_of(tmp_path / "stopped")["step"] < steps[1]
    recorded("stopped", resume=True)
    assert sorted(place.name for place in curves.iterdir()) == ["planted", "planted-2"]
    for name, run in (("planted", "whole"), ("planted-2", "stopped")):
        auc = scalars(curves / name)["valid.auc"]
        assert [step for step, _ in auc] == steps
        assert Run.open(tmp_path / run).folder.read_json(TRACKING)["tensorboard"] == str(curves / name)
    assert sorted(one.info.status for one in in_mlflow(tmp_path)) == ["FINISHED", "FINISHED"]
    recorded("stopped", replace=True)
    assert [step for step, _ in scalars(curves / "planted-3")["valid.auc"]] == steps


def test_a_comparison_is_a_parent_of_its_trainings(
    planted_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = experiment_in(tmp_path)
    options = MODELS["base_model"].options_type.model_validate(SMALL_BASE)
    models = {"first": options, "second": options.model_copy(update={"ids": []})}
    compared = experiment.compare.model_copy(update={"models": models, "seeds": 1})
    experiment = experiment.model_copy(update={"compare": compared})
    with tracked(SILENT, experiment, "compare") as heard, TrainingPool(planted_dataset, 1, heard) as pool:
        found = compare_models(experiment, ["first", "second"], None, tmp_path / "runs", pool)
        assert isinstance(heard, Tracker)
        heard.compared(found, [tmp_path / "runs" / "comparison.json"])
    runs = {run.info.run_name: run for run in in_mlflow(tmp_path)}
    parent = runs.pop("compare")
    assert len(runs) == 2
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in runs.values())
    for row in found.models:
        assert parent.data.metrics[f"{row.name}.auc"] == pytest.approx(row.auc.mean)
    assert {run.data.params["model.ids"] for run in runs.values()} == {
        str(model.model_dump(mode="json")["ids"]) for model in models.values()
    }


def test_a_training_in_another_process_is_recorded_from_what_it_left(
    planted_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = experiment_in(tmp_path)
    result = train_run(experiment, planted_dataset, tmp_path / "run")
    with tracked(SILENT, experiment) as heard:
        heard.training("apart")(result.to_json())
    (run,) = in_mlflow(tmp_path)
    client = client_of(tmp_path)
    reported = [one for one in Run.open(tmp_path / "run").folder.metrics()[0] if "valid" in one]
    curve = client.get_metric_history(run.info.run_id, "valid.auc")
    assert [one.value for one in curve] == [one["valid"]["auc"] for one in reported]
    assert (tmp_path / "run" / TRACKING).is_file()


def test_without_tracking_nobody_listens(planted_dataset: Dataset, tmp_path: Path) -> None:
    experiment = planted_experiment(SMALL_BASE)
    with tracked(SILENT, experiment) as heard:
        assert heard is SILENT
    train_run(experiment, planted_dataset, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    record_evaluation(run, run.evaluate("test"))
    assert not (run.path / TRACKING).exists()


def test_a_service_that_does_not_answer_is_told(tmp_path: Path) -> None:
    place = tmp_path / "no" / "such" / "mlflow.db"
    experiment = planted_experiment(SMALL_BASE).model_copy(
        update={"tracking": TrackingOptions(mlflow=f"sqlite:///{place}")}
    )
    (tmp_path / "no").write_text("a file where a folder is meant")
    with (
        pytest.raises(UserError, match=r"tracking\.mlflow: sqlite:.* cannot be written to"),
        tracked(SILENT, experiment) as heard,
    ):
        heard.training("planted")({"step": 1, "losses": {"a": 1.0}, "samples_per_second": 1.0})


def test_a_store_that_is_lost_midway_is_told_by_its_address(tmp_path: Path) -> None:
    backend = Mlflow(f"sqlite:///{tmp_path}/mlflow.db")
    run = backend.begin("a run", "an experiment", None)
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    for call in (
        lambda: backend.metrics(run, {"loss": 1.0}, 1),
        lambda: backend.parameters(run, {"seed": 1}),
        lambda: backend.end(run),
    ):
        with pytest.raises(UserError, match=r"tracking.mlflow: sqlite:.*mlflow.db cannot be written to"):
            call()
