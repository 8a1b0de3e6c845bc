"""A sweep: what it trains, what it measures, and its figure."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootstrap import paired_difference, user_bootstrap
from musenet import api
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.errors import ConfigError
from musenet.runs.run import Run
from musenet.studies.sweep.plan import parse_parameters, plan_sweep, swept_rows
from musenet.studies.sweep.sweep import Sweep
from musenet.studies.sweep.table import to_markdown
from studies.recorded_trainings import record_trainings

MODEL = {"name": "musenet", "scenarios": 2, "hidden": [4], "embedding": 2, "auxiliary": 0.5}
BASE = {"name": "base_model", "hidden": [4], "embedding": 2}
MakeExperiment = Callable[..., Experiment]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tiny_dataset: Dataset) -> list[str]:
    """`<label>/<value>/<seed>` of what the loop really trained, in order; preparation gives the tiny dataset."""
    return record_trainings(monkeypatch, tiny_dataset, parts=3)


def planned(experiment: Experiment, models: list[str] | None = None, **options: Any) -> dict[tuple[str, str], Any]:
    """Value → folder and what its runs have at the parameter, by model and parameter."""
    lines = plan_sweep(
        swept_rows(experiment, models), experiment.sweep.model_copy(update=options), Path("out"), range(1, 3)
    )
    return {(line.model, line.parameter): [value for value, _ in line.runs] for line in lines}


def test_unless_configured_a_sweep_is_figure_4_soft_and_hard(make_experiment: MakeExperiment) -> None:
    scenarios, auxiliary = [1, 2, 4, 8], [0, 0.02, 0.1, 0.5, 1]
    found = planned(make_experiment(model=MODEL))
    assert found == {
        (f"musenet {assignment}", parameter): values
        for assignment in ("soft", "hard")
        for parameter, values in (("model.scenarios", scenarios), ("model.auxiliary", auxiliary))
    }


def test_one_option_varies_at_a_time_and_the_configured_values_are_trained_once(
    make_experiment: MakeExperiment,
) -> None:
    experiment = make_experiment(model=MODEL)
    parameters = {"model.scenarios": [4, 2], "model.auxiliary": [0.1], "training.learning_rate": [0.01]}
    lines = plan_sweep(
        swept_rows(experiment, ["musenet hard"]),
        experiment.sweep.model_copy(update={"parameters": parameters}),
        Path("out"),
        [1, 2],
    )
    runs = {run.path: run for line in lines for _, of_value in line.runs for run in of_value}
    folder = Path("out/musenet-hard")
    assert set(runs) == {
        folder / name / f"seed-{seed}"
        for name in ("configured", "model.scenarios-4", "model.auxiliary-0.1", "training.learning_rate-0.01")
        for seed in (1, 2)
    }
    for path, run in runs.items():
        model, training = run.experiment.model.model_dump(), run.experiment.training
        found = (model["scenarios"], model["auxiliary"], training.learning_rate)
        name = path.parent.name
        assert found == (
            4 if "scenarios" in name else 2,
            0.1 if "auxiliary" in name else 0.5,
            0.01 if "learning_rate" in name else 0.001,
        )
        assert (model["assignment"], run.experiment.seed) == ("hard", int(path.name[-1]))
        assert run.splits == ("valid",)
    # The configured value stands in every line, asked for or not, in its place.
    assert [[value for value, _ in line.runs] for line in lines] == [[2, 4], [0.1, 0.5], [0.001, 0.01]]


def test_a_model_is_swept_along_the_keys_that_it_has(make_experiment: MakeExperiment) -> None:
    experiment = make_experiment(model=MODEL, compare={"models": {"base": BASE, "soft": MODEL}})
    parameters = {"model.scenarios": [1], "model.embedding": [4]}
    found = planned(experiment, ["base", "soft"], parameters=parameters)
    assert list(found) == [("base", "model.embedding"), ("soft", "model.scenarios"), ("soft", "model.embedding")]


@pytest.mark.parametrize(
    ("model", "models", "parameters", "sentence"),
    [
        (MODEL, ["soft"], {"model.scenarios": [2]}, "no 'soft'; there are musenet soft, musenet hard"),
        (BASE, None, {"model.hidden": [[2]]}, "name the models to sweep"),
        (MODEL, None, {"model.scenarioz": [2]}, "no model has the key 'model.scenarioz'"),
        (MODEL, None, {"model.scenarios": [0]}, "model.scenarios: 0 does not fit"),
        (MODEL, None, {"history.length": [5]}, "give keys of the form model"),
        (MODEL, ["base"], {"model.scenarios": [2]}, "no model has"),
        (MODEL, ["base", "musenet soft"], {"model.scenarios": [2]}, "'base' has none of the keys"),
        (MODEL, ["base"], {"model.hidden": [[4, 2], [42], ["4", "2"]]}, "share the folder"),
    ],
)
def test_what_cannot_be_swept_is_said(
    model: dict[str, Any],
    models: list[str] | None,
    parameters: dict[str, Any],
    sentence: str,
    make_experiment: MakeExperiment,
) -> None:
    compare = {"models": {"base": BASE}} if models and "base" in models else {}
    with pytest.raises(ConfigError, match=sentence):
        planned(make_experiment(model=model, compare=compare), models, parameters=parameters)


def test_values_are_read_as_yaml() -> None:
    found = parse_parameters(["model.auxiliary=0,0.5", "model.ids=[],[user, item]", "model.form=log,plain"])
    assert found == {
        "model.auxiliary": [0, 0.5],
        "model.ids": [[], ["user", "item"]],
        "model.form": ["log", "plain"],
    }
    for wrong in ("model.scenarios", "model.scenarios="):
        with pytest.raises(ConfigError, match="key=value,value"):
            parse_parameters([wrong])


def test_every_value_is_measured_on_validation_beside_the_configured_one(
    trained: list[str], make_experiment: MakeExperiment, tmp_path: Path
) -> None:
    experiment = make_experiment(model=MODEL)
    parameters: dict[str, list[Any]] = {"model.scenarios": [1, 2], "model.auxiliary": [0.0, 0.5]}
    sweep = api.sweep(experiment, tmp_path, parameters=parameters, models=["musenet soft"], seeds=2)
    assert sorted(trained) == sorted(
        f"musenet-soft/{name}/seed-{seed}"
        for name in ("configured", "model.scenarios-1", "model.auxiliary-0.0")
        for seed in (1, 2)
    )
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("test.parquet")] == []
    line = sweep.lines[0]
    predictions = {
        point.value: [Run.open(Path(run)).predictions("valid") for run in point.runs] for point in line.points
    }
    one, two = predictions[1], predictions[2]
    expected = user_bootstrap([seed.sample() for seed in one])["auc"]
    assert line.points[0].auc.mean == pytest.approx(expected.value)
    paired = paired_difference(
        one[0].label, one[0].user, one[0].request, [seed.logit for seed in one], [seed.logit for seed in two]
    )
    assert line.points[0].difference_to_configured == paired
    assert line.points[1].difference_to_configured.value == 0
    auc = {point.value: point.auc.mean for point in line.points}
    assert line.best == max(auc, key=lambda value: auc[value])
    assert (sweep.split, sweep.impressions) == ("valid", 60)
    content = json.loads((tmp_path / "sweep.json").read_text())
    assert content["lines"][0]["points"][0]["auc"]["mean"] == pytest.approx(auc[1])
    assert (tmp_path / "sweep.md").read_text() == to_markdown(sweep)
    # The test period is scored only when it is asked for, from the same runs.
    trained.clear()
    on_test = api.sweep(experiment, tmp_path, parameters=parameters, models=["musenet soft"], seeds=2, split="test")
    assert (trained, on_test.impressions) == ([], 100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("swept")


@pytest.fixture(scope="module")
def swept(make_experiment: MakeExperiment, tiny_dataset: Dataset, folder: Path) -> Sweep:
    parameters: dict[str, list[Any]] = {"model.scenarios": [1, 2], "model.form": ["log", "plain"]}
    with pytest.MonkeyPatch.context() as patch:
        record_trainings(patch, tiny_dataset)
        return api.sweep(make_experiment(model=MODEL), folder, parameters=parameters, seeds=1)


def test_the_figure_has_a_panel_per_parameter_and_a_line_per_model(swept: Sweep, folder: Path) -> None:
    from musenet.reporting.figures.sweep import figure_sweep

    figure = figure_sweep(swept)
    assert [trace.name for trace in figure.data] == ["musenet soft", "musenet hard"] * 2
    assert [trace.xaxis for trace in figure.data] == ["x", "x", "x2", "x2"]
    assert [trace.showlegend for trace in figure.data] == [True, True, False, False]
    first, line = figure.data[0], swept.lines[0]
    assert [round(x) for x in first.x] == [0, 1]
    assert all(x < other for x, other in zip(first.x, figure.data[1].x, strict=True))  # bars beside each other
    assert list(first.marker.symbol) == ["circle", "circle-open"]  # 2 is what is configured
    for place, point in enumerate(line.points):
        bounds = point.auc
        assert first.y[place] == bounds.mean
        assert first.y[place] + first.error_y.array[place] == pytest.approx(bounds.high)
        assert first.y[place] - first.error_y.arrayminus[place] == pytest.approx(bounds.low)
    assert list(figure.layout.xaxis.ticktext) == ["1", "2"]
    assert list(figure.layout.xaxis2.ticktext) == ["log", "plain"]
    page = (folder / "sweep.html").read_text()
    assert "model.scenarios" in page
    assert "src=" not in page.split("plotly.js v", maxsplit=1)[0]


def test_the_table_names_the_configured_value(swept: Sweep) -> None:
    lines = to_markdown(swept).splitlines()
    assert lines[0].startswith("| model | model.scenarios | AUC |")
    configured = [line for line in lines if "(configured)" in line]
    assert len(configured) == len(swept.lines)
    assert all("| – |" in line for line in configured)
