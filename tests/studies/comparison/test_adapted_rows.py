"""Rows of a comparison that follow the test period, beside the same runs as they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import musenet
from musenet import api
from musenet.config.experiment import Experiment
from musenet.config.studies import CompareOptions
from musenet.dataset.dataset import Dataset
from musenet.errors import RunError
from studies.recorded_trainings import record_trainings

MODELS = {
    "base": {"name": "base_model", "hidden": [4], "embedding": 2},
    "soft": {"name": "musenet", "scenarios": 2, "hidden": [4], "embedding": 2},
}
QUICK = {"every": 2, "answers_after": 0}
ADAPTED: dict[str, dict[str, Any]] = {
    "soft, adapted": {"row": "soft", "adapt": QUICK},
    "base, fine-tuned": {"row": "base", "adapt": {"finetune": {"every": 5, "learning_rate": 0.01}, "answers_after": 0}},
}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tiny_dataset: Dataset) -> list[str]:
    return record_trainings(monkeypatch, tiny_dataset)


def test_adapted_rows_are_of_the_same_trainings_and_paired_with_them(
    trained: list[str], make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    compare = {"models": MODELS, "seeds": 2, "adapted": ADAPTED, "reference": "soft, adapted"}
    comparison = api.compare(make_experiment(compare=compare), tmp_path)
    assert trained == ["base/seed-1", "base/seed-2", "soft/seed-1", "soft/seed-2"]
    rows = {row.name: row for row in comparison.models}
    assert list(rows) == ["base", "soft", "soft, adapted", "base, fine-tuned"]
    for label, one in ADAPTED.items():
        alone = [musenet.evaluate(run, adapt=one["adapt"], resamples=5) for run in rows[label].runs]
        assert rows[label].auc.per_seed == pytest.approx([found.auc.value for found in alone])
        assert rows[label].runs == rows[one["row"]].runs
    assert rows["soft"].adapt is None
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content["models"][2]["adapt"]["every"] == 2
    assert content["models"][3]["adapt"]["finetune"] == {"every": 5, "learning_rate": 0.01}
    gained = rows["soft, adapted"].auc.mean - rows["soft"].auc.mean
    assert rows["soft"].difference_to.value == pytest.approx(-gained)
    best = max(rows["base"].auc.mean, rows["base, fine-tuned"].auc.mean)
    assert comparison.verdict.best_baseline is not None
    assert rows[comparison.verdict.best_baseline.model].auc.mean == best


def test_a_row_as_it_is_is_judged_by_others_as_they_are(
    trained: list[str], make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    compare = {"models": MODELS, "seeds": 1, "adapted": ADAPTED, "reference": "soft"}
    comparison = api.compare(make_experiment(compare=compare), tmp_path)
    assert comparison.verdict.best_baseline is not None
    assert comparison.verdict.best_baseline.model == "base"
    only = api.compare(make_experiment(compare=compare), tmp_path, models=["base"])
    assert [row.name for row in only.models] == ["base", "base, fine-tuned"]
    runs = [tmp_path / "soft" / "seed-1", tmp_path / "base" / "seed-1"]
    found = api.compare_runs(runs, adapt=True, resamples=5)
    assert [row.name for row in found.models] == ["soft", "base", "soft, adapted"]
    again = api.compare_runs(runs, adapt={"quick": {"row": "soft", "adapt": QUICK}}, reference="quick", resamples=5)
    assert again.models[2].auc.mean == pytest.approx(comparison.models[2].auc.mean)
    with pytest.raises(RunError, match="none of the runs has scenarios"):
        api.compare_runs(runs[1:], adapt=True)
    with pytest.raises(RunError, match="base_model mixes no scenarios"):
        api.compare_runs(runs, adapt={"no": {"row": "base", "adapt": True}})
    with pytest.raises(RunError, match="already called 'soft'"):
        api.compare_runs(runs, adapt={"soft": {"row": "soft"}})


@pytest.mark.parametrize(
    ("adapted", "why"),
    [
        ({"a": {"row": "none", "adapt": True}}, "'none' is none of the models"),
        ({"soft": {"row": "soft", "adapt": True}}, "'soft' is already one of the models"),
        ({"a": {"row": "soft", "adapt": {"finetune": {}, "intercept": True}}}, "choose one"),
        ({"a": {"row": "soft", "adapt": False}}, "adapt"),
    ],
)
def test_what_cannot_be_adapted_is_refused_before_training(adapted: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        CompareOptions.model_validate({"models": MODELS, "adapted": adapted})
