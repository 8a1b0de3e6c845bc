"""Table 3: its rows, and what is said of the paper's order."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bootstrap import paired_difference
from musenet import api
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.errors import ConfigError
from musenet.evaluation.intervals import Difference
from musenet.files import json_ready
from musenet.models.musenet.options import MusenetOptions
from musenet.runs.run import Run
from musenet.studies.ablation import CHANGES, Step, ablation_of, judge_order, judge_steps

MODEL = {"name": "musenet", "scenarios": 3, "hidden": [4], "embedding": 2, "auxiliary": 0.25}
MakeExperiment = Callable[..., Experiment]


def experiment_of(make: MakeExperiment, **changes: Any) -> Experiment:
    return make(**({"model": MODEL, "repeat": {"key": ["item_id"]}, "compare": {"seeds": 2}} | changes))


def test_the_six_rows_are_the_experiments_model_with_and_without_its_parts(make_experiment: MakeExperiment) -> None:
    taken_apart, left_out = ablation_of(experiment_of(make_experiment, predefined_scenario=["device"]))
    rows = taken_apart.compare.models
    assert left_out == {}
    found = {
        row: (model.scenarios, model.assignment, model.form)
        for row, model in rows.items()
        if isinstance(model, MusenetOptions)
    }
    assert found == {
        "w/o M1 & M2": (1, "soft", "plain"),
        "predefined scenarios": (3, "predefined", "log"),
        "hard w/o M2": (3, "hard", "plain"),
        "soft w/o M2": (3, "soft", "plain"),
        "hard": (3, "hard", "log"),
        "soft": (3, "soft", "log"),
    }
    assert list(rows) == list(CHANGES)
    assert all(getattr(model, "auxiliary", None) == 0.25 and model.embedding == 2 for model in rows.values())
    assert (taken_apart.compare.reference, taken_apart.compare.seeds) == ("soft", 2)


def test_without_predefined_scenarios_that_row_is_left_out_and_said_so(make_experiment: MakeExperiment) -> None:
    taken_apart, left_out = ablation_of(experiment_of(make_experiment))
    assert list(taken_apart.compare.models) == [row for row in CHANGES if row != "predefined scenarios"]
    assert "predefined_scenario" in left_out["predefined scenarios"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": {"name": "base_model"}}, "base_model"),
        ({"model": MODEL | {"form": "plain"}}, "form is plain"),
        ({"repeat": None}, "no `repeat` part"),
        ({"model": MODEL | {"scenarios": 1}}, "scenarios is 1"),
    ],
)
def test_what_cannot_be_taken_apart_is_said(
    changes: dict[str, Any], sentence: str, make_experiment: MakeExperiment
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ablation_of(experiment_of(make_experiment, **changes))


def step(upper: str, value: float, low: float, high: float) -> Step:
    return Step("below", upper, Difference(value, low, high, 0.5))


def test_the_verdict_follows_from_the_intervals() -> None:
    rising, falling, unsure = (
        step("up", 0.02, 0.01, 0.03),
        step("down", -0.02, -0.03, -0.01),
        step("?", 0.01, -0.01, 0.03),
    )
    assert [one.holds for one in (rising, falling, unsure)] == ["yes", "no", "unsure"]
    assert judge_steps([rising, rising]).startswith("The paper's order of rows holds: each of 2 steps")
    not_shown = judge_steps([rising, unsure])
    assert "is not shown: 1 of 2 steps surely gain AUC; below → ? (+0.0100, -0.0100 … +0.0300) cannot" in not_shown
    reversed_order = judge_steps([rising, unsure, falling])
    assert "does not hold: 1 of 3" in reversed_order
    assert "below → down (-0.0200, -0.0300 … -0.0100) surely lose" in reversed_order
    assert "nothing" not in judge_steps([rising, falling])
    assert "single row" in judge_steps([])


def test_ablate_trains_the_rows_and_judges_each_pair(
    make_experiment: MakeExperiment, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("musenet.api.studies.prepared_dataset", lambda *_: tiny_dataset)
    result = api.ablate(experiment_of(make_experiment), tmp_path, models=["soft", "hard", "w/o M1 & M2"], seeds=1)
    assert [(one.lower, one.upper) for one in result.order] == [("w/o M1 & M2", "hard"), ("hard", "soft")]
    content = json.loads((tmp_path / "ablation.json").read_text())
    assert content == json_ready(result.to_json())
    auc = {row["name"]: row["auc"]["mean"] for row in content["models"]}
    for one in content["order"]:
        assert one["difference"]["value"] == pytest.approx(auc[one["upper"]] - auc[one["lower"]])
    assert content["reference"] == "soft"
    assert list(content["left_out"]) == ["predefined scenarios"]
    page = (tmp_path / "ablation.md").read_text()
    assert content["order_verdict"] in page
    assert "predefined scenarios is left out: the configuration names no `predefined_scenario`." in page
    runs = {row.name: [Run.open(Path(path)) for path in row.runs] for row in result.models}
    assert {name: len(of_row) for name, of_row in runs.items()} == {"soft": 1, "hard": 1, "w/o M1 & M2": 1}
    hard, soft = (runs[row][0].predictions("test") for row in ("hard", "soft"))
    expected = paired_difference(soft.label, soft.user, soft.request, [soft.logit], [hard.logit])
    found = judge_order(runs)[-1].difference
    np.testing.assert_allclose([found.value, found.low, found.high], [expected.value, expected.low, expected.high])


def test_a_row_that_is_not_in_the_table_is_said(make_experiment: MakeExperiment, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ablate has no 'gate'"):
        api.ablate(experiment_of(make_experiment), tmp_path, models=["gate"])
