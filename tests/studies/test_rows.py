"""Training the rows of a table: tuned, with more seeds for the best, and on disk while it grows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from musenet import api
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.errors import UserError
from musenet.runs.folder import RunFolder
from musenet.runs.run import Run
from musenet.studies.comparison import table_so_far
from musenet.studies.rows import best_rows
from musenet.training import train_run as training_runs
from studies.recorded_trainings import record_trainings

BASE = {"name": "base_model", "hidden": [4], "embedding": 2}
MUSENET = {"name": "musenet", "scenarios": 2, "hidden": [4], "embedding": 2}
MODELS = {
    "base": BASE,
    "base (larger)": BASE | {"hidden": [8]},
    "soft": MUSENET,
    "soft (permuted)": MUSENET | {"assignment": "permuted"},
    "told the truth": MUSENET | {"assignment": "true"},
}

ENDED = {"run": "", "seconds": 1.0, "samples_per_second": 1.0, "stopped": "planned steps", "parameters": 1}

MakeExperiment = Callable[..., Experiment]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tiny_dataset: Dataset) -> list[str]:
    """The last two parts of the paths that the loop really trained, in order; preparation gives the tiny dataset."""
    return record_trainings(monkeypatch, tiny_dataset)


def test_the_best_rows_by_validation_get_more_seeds_and_diagnostics_never(
    trained: list[str], make_experiment: MakeExperiment, tmp_path: Path
) -> None:
    compare = {"models": MODELS, "seeds": 1, "top": {"count": 2, "seeds": 3}}
    comparison = api.compare(make_experiment(compare=compare), tmp_path)
    assert trained[:5] == [
        f"{label}/seed-1" for label in ("base", "base-larger", "soft", "soft-permuted", "told-the-truth")
    ]
    seeds = {row.name: len(row.runs) for row in comparison.models}
    can_be = {row.name for row in comparison.models if row.name not in ("soft (permuted)", "told the truth")}
    auc = {}
    for row in comparison.models:
        auc[row.name] = RunFolder.open(Path(row.runs[0])).training.best["auc"]
    best = sorted(can_be, key=lambda name: -auc[name])[:2]
    assert seeds == {name: 3 if name in best else 1 for name in MODELS}
    assert comparison.seeds == [1, 2, 3]
    trained.clear()
    api.compare(make_experiment(compare=compare), tmp_path)
    assert trained == []


def test_seeds_that_are_asked_for_are_all_there_are(
    trained: list[str], make_experiment: MakeExperiment, tmp_path: Path
) -> None:
    compare = {"models": {"base": BASE}, "seeds": 1, "top": {"count": 1, "seeds": 3}}
    api.compare(make_experiment(compare=compare), tmp_path, seeds=2)
    assert trained == ["base/seed-1", "base/seed-2"]
    with pytest.raises(UserError, match="seeds: at least one is needed, not 0"):
        api.compare(make_experiment(compare=compare), tmp_path, seeds=0)


def test_rows_are_ranked_by_their_mean_over_seeds(make_experiment: MakeExperiment, tmp_path: Path) -> None:
    def row(label: str, *auc: float, **model: Any) -> list[Run]:
        runs = []
        for seed, value in enumerate(auc):
            run = RunFolder(tmp_path / label / f"seed-{seed}")
            run.experiment = make_experiment(model=MUSENET | model)
            run.write_json("training.json", ENDED | {"best": {"auc": value}})
            runs.append(Run(run))
        return runs

    groups = {
        "even": row("even", 0.7, 0.7),
        "uneven": row("uneven", 0.9, 0.6),
        "truth": row("truth", 0.99, 0.99, assignment="true"),
        "mixed up": row("mixed", 0.99, 0.99, assignment="permuted"),
        "worst": row("worst", 0.5, 0.5),
    }
    assert best_rows(groups, 2) == ["uneven", "even"]
    assert best_rows(groups, 9) == ["uneven", "even", "worst"]


def test_the_table_grows_by_a_row_whenever_one_has_all_its_seeds(
    trained: list[str], make_experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(table_so_far, "OVERHEAD", float("inf"))
    seen: list[tuple[str, list[str], list[str]]] = []
    loop = training_runs.train  # type: ignore[attr-defined]

    def train(experiment: Experiment, dataset: Dataset, run: RunFolder, **options: Any) -> Any:
        file = tmp_path / "comparison.json"
        if file.is_file():
            content = json.loads(file.read_text())
            names = [row["name"] for row in content["models"]]
            seen.append(("/".join(run.path.parts[-2:]), names, content["missing"]))
            assert "So far: " in (tmp_path / "comparison.md").read_text()
        return loop(experiment, dataset, run, **options)

    monkeypatch.setattr(training_runs, "train", train)
    models = {label: MODELS[label] for label in ("base", "base (larger)", "soft")}
    experiment = make_experiment(compare={"models": models, "seeds": 2, "reference": "soft"})
    comparison = api.compare(experiment, tmp_path)
    assert seen == [
        ("base-larger/seed-1", ["base"], ["base (larger)", "soft"]),
        ("base-larger/seed-2", ["base"], ["base (larger)", "soft"]),
        ("soft/seed-1", ["base", "base (larger)"], ["soft"]),
        ("soft/seed-2", ["base", "base (larger)"], ["soft"]),
    ]
    assert comparison.reference == "soft"
    assert "missing" not in json.loads((tmp_path / "comparison.json").read_text())
    assert "So far" not in (tmp_path / "comparison.md").read_text()


def test_a_tuned_comparison_trains_every_row_at_what_was_chosen_for_it(
    trained: list[str], make_experiment: MakeExperiment, tmp_path: Path
) -> None:
    models = {"base": BASE, "soft": MUSENET}
    tuning = {"trials": 2, "requests": 0.5, "seeds": 1, "shared": {"training.learning_rate": [0.05]}}
    experiment = make_experiment(compare={"models": models, "seeds": 2, "tuning": tuning})
    comparison = api.compare(experiment, tmp_path)
    assert trained == [
        *(f"trials/trial-{number}-on-50-percent-seed-1" for _ in models for number in range(2)),
        *(f"{label}/seed-{seed}" for label in models for seed in (1, 2)),
    ]
    for row in comparison.models:
        chosen = json.loads((tmp_path / row.name / "tuning.json").read_text())["chosen"]["values"]
        for path in row.runs:
            training = RunFolder.open(Path(path)).experiment.training
            assert (training.learning_rate, training.requests) == (chosen["training.learning_rate"], 1.0)
    trained.clear()
    api.compare(experiment, tmp_path)
    assert trained == []
