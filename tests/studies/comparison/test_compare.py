"""Training what a comparison needs, once, and the table that comes of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from musenet import api
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.errors import ConfigError, RunError
from musenet.models.musenet.options import FORMS
from musenet.runs.folder import RunFolder
from musenet.runs.run import Run
from musenet.studies.comparison.compare import group_by_model
from musenet.studies.comparison.results import Comparison
from musenet.studies.comparison.table import columns, to_markdown
from musenet.studies.plans import PlannedRun
from musenet.studies.pool import TrainingPool, train_planned
from musenet.training import train_run as training_runs
from musenet.training.train_run import train_run
from studies.recorded_trainings import record_trainings

MODELS = {
    "base": {"name": "base_model", "hidden": [4], "embedding": 2},
    "one scenario": {"name": "musenet", "scenarios": 1, "hidden": [4], "embedding": 2},
    "musenet": {"name": "musenet", "scenarios": 2, "hidden": [4], "embedding": 2},
}

MakeExperiment = Callable[..., Experiment]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tiny_dataset: Dataset) -> list[str]:
    """The paths that the loop really trained, in order; preparation gives the tiny dataset."""
    return record_trainings(monkeypatch, tiny_dataset)


def compared(experiment: Experiment, out: Path, **options: Any) -> Comparison:
    return api.compare(experiment, out, **options)


def test_the_table_has_the_published_keys(trained: list[str], make_experiment: MakeExperiment, tmp_path: Path) -> None:
    experiment = make_experiment(compare={"models": MODELS, "seeds": 2, "reference": "one scenario", "base": "base"})
    comparison = compared(experiment, tmp_path)
    assert trained == [f"{m}/seed-{s}" for m in ("base", "one-scenario", "musenet") for s in (1, 2)]
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert {"data", "seeds", "models"} <= set(content)
    assert content["seeds"] == [1, 2]
    row = content["models"][2]
    published = {"name", "auc", "gauc", "logloss", "rela_impr", "difference_to", "parameters", "samples_per_second"}
    assert published <= set(row)
    assert set(row["auc"]) == {"mean", "low", "high", "per_seed"}
    assert set(row["difference_to"]) == {"model", "value", "low", "high", "p", "p_holm", "standard_error"}
    assert row["seconds_per_epoch"] > 0
    assert [entry["role"] for entry in content["models"]] == ["baseline", "control", "musenet"]
    assert content["verdict"]["best_baseline"]["model"] == "base"
    assert content["verdict"]["best_control"] is None  # the reference itself is the only control
    assert row["auc"]["mean"] == pytest.approx(sum(row["auc"]["per_seed"]) / 2)
    auc = {entry["name"]: entry["auc"]["mean"] for entry in content["models"]}
    assert row["difference_to"]["value"] == pytest.approx(auc["musenet"] - auc["one scenario"])
    assert set(row["recovery"]) == {"ari", "nmi"}
    assert content["models"][1]["recovery"] is None
    markdown = (tmp_path / "comparison.md").read_text()
    assert markdown == to_markdown(comparison)
    assert "weights chosen on validation" in markdown
    assert all(line.count(" | ") == len(columns(comparison)) - 1 for line in markdown.splitlines()[:5])


def test_finished_runs_are_reused_and_changed_ones_trained_again(
    trained: list[str], make_experiment: MakeExperiment, tmp_path: Path
) -> None:
    compare = {"models": {"base": MODELS["base"], "musenet": MODELS["musenet"]}, "seeds": 1}
    compared(make_experiment(compare=compare), tmp_path)
    first = (tmp_path / "comparison.json").read_text()
    trained.clear()
    compared(make_experiment(compare=compare), tmp_path)
    assert (trained, (tmp_path / "comparison.json").read_text()) == ([], first)
    changed = {"models": {**compare["models"], "musenet": MODELS["musenet"] | {"scenarios": 3}}, "seeds": 2}  # type: ignore[dict-item]
    compared(make_experiment(compare=changed), tmp_path)
    assert trained == ["base/seed-2", "musenet/seed-1", "musenet/seed-2"]
    trained.clear()
    only = compared(make_experiment(compare=changed), tmp_path, models=["musenet"], seeds=1)
    assert (trained, [row.name for row in only.models]) == ([], ["musenet"])


def test_an_interrupted_comparison_goes_on_where_it_stopped(
    trained: list[str], make_experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    experiment = make_experiment(compare={"models": MODELS, "seeds": 1})
    loop = training_runs.train  # type: ignore[attr-defined]

    def interrupted(experiment: Experiment, dataset: Dataset, run: RunFolder, **options: Any) -> Any:
        if "one-scenario" in str(run.path):
            raise KeyboardInterrupt
        return loop(experiment, dataset, run, **options)

    with monkeypatch.context() as patch:
        patch.setattr(training_runs, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compared(experiment, tmp_path)
    assert trained == ["base/seed-1"]
    compared(experiment, tmp_path)
    assert trained == ["base/seed-1", "one-scenario/seed-1", "musenet/seed-1"]


def test_saved_runs_are_compared_by_their_folders(
    trained: list[str], make_experiment: MakeExperiment, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    for name, seed in (("soft", 1), ("soft", 2), ("base", 1)):
        model = MODELS["base"] if name == "base" else MODELS["musenet"]
        train_run(make_experiment(model=model, seed=seed), tiny_dataset, tmp_path / name / f"seed-{seed}")
    folders = [tmp_path / "base" / "seed-1", tmp_path / "soft" / "seed-1", tmp_path / "soft" / "seed-2"]
    comparison = api.compare_runs(folders)
    assert [(row.name, len(row.runs)) for row in comparison.models] == [("base", 1), ("soft", 2)]
    for changed in ("calibration", "from_weights"):  # another seed, and not that alone
        copy = tmp_path / changed / "seed-2"
        shutil.copytree(folders[2], copy)
        if changed == "calibration":
            config = (copy / "config.yaml").read_text()
            (copy / "config.yaml").write_text(config.replace("calibration: none", "calibration: platt"))
        else:
            description = json.loads((copy / "run.json").read_text())
            (copy / "run.json").write_text(json.dumps(description | {changed: "0" * 64}))
        rows = group_by_model([Run.open(folders[1]), Run.open(copy)])
        assert {label: len(runs) for label, runs in rows.items()} == {"soft": 1, changed: 1}
    description = json.loads((folders[0] / "run.json").read_text())
    (folders[0] / "run.json").write_text(json.dumps(description | {"dataset_fingerprint": "other"}))
    with pytest.raises(RunError, match="different datasets"):
        api.compare_runs(folders)


@pytest.mark.slow
def test_jobs_train_in_processes_what_one_process_trains(
    make_experiment: MakeExperiment, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    experiment = make_experiment(model=MODELS["base"])
    apart = PlannedRun("apart", experiment, tmp_path / "apart")
    with TrainingPool(tiny_dataset, jobs=2) as pool:
        ((run, result),) = pool.each(train_planned, [apart])
    train_run(experiment, tiny_dataset, tmp_path / "here")
    assert (run, result.run) == (apart, str(apart.path))
    found, expected = RunFolder.open(apart.path).load_state(), RunFolder.open(tmp_path / "here").load_state()
    assert all((found[name] == expected[name]).all() for name in expected)


def test_a_finished_run_is_not_overwritten_by_another(
    trained: list[str], make_experiment: MakeExperiment, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    first = train_run(make_experiment(), tiny_dataset, tmp_path / "run")
    assert train_run(make_experiment(), tiny_dataset, tmp_path / "run") == first
    assert len(trained) == 1
    with pytest.raises(RunError, match=r"model\.scenarios"):
        train_run(make_experiment(model=MODELS["musenet"] | {"scenarios": 3}), tiny_dataset, tmp_path / "run")
    with pytest.raises(RunError, match="seed"):
        train_run(make_experiment(seed=5), tiny_dataset, tmp_path / "run", resume=True)
    with pytest.raises(RunError, match="is not a run"):
        train_run(make_experiment(), tiny_dataset, tiny_dataset.folder)


def test_form_auto_keeps_the_form_that_validates_best(
    trained: list[str], make_experiment: MakeExperiment, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    result = train_run(make_experiment(model=MODELS["musenet"] | {"form": "auto"}), tiny_dataset, tmp_path / "run")
    tried = {path: RunFolder.open(tmp_path / "run.forms" / path).read_json("training.json") for path in FORMS}
    assert result.best["auc"] == max(training["best"]["auc"] for training in tried.values())
    kept = RunFolder.open(tmp_path / "run")
    assert tried[kept.experiment.model.model_dump()["form"]]["best"] == result.best
    assert kept.dataset.folder == tiny_dataset.folder


@pytest.mark.parametrize(
    ("compare", "models", "sentence"),
    [
        ({"models": MODELS}, ["musnet"], "no 'musnet'"),
        ({}, None, "compare.models is empty"),
        ({"models": {"a b": MODELS["base"], "a-b": MODELS["base"]}}, None, "rename one"),
    ],
)
def test_what_cannot_be_compared_is_said(
    compare: dict[str, Any], models: list[str] | None, sentence: str, make_experiment: MakeExperiment, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        compared(make_experiment(compare=compare), tmp_path, models=models)


def test_the_footnote_counts_the_seeds_of_the_rows(
    trained: list[str], make_experiment: MakeExperiment, tmp_path: Path
) -> None:
    models = {name: MODELS[name] for name in ("base", "musenet")}
    more = make_experiment(compare={"models": models, "seeds": 1, "top": {"count": 1, "seeds": 3}})
    assert "means of 1 to 3 seeds, 95 %" in to_markdown(compared(more, tmp_path / "more"))
    alike = make_experiment(compare={"models": models, "seeds": 1})
    assert "means of 1 seed, 95 %" in to_markdown(compared(alike, tmp_path / "alike"))
