"""What scenarios are called: from what sets them apart, by people, and after a training that began from another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import musenet as mn
from musenet.cli import main as cli
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.errors import RunError, UserError
from musenet.portraits.contrasts import EARLIER_EVENTS, Contrast, NumericContrast, ValueContrast
from musenet.portraits.names import made_names, scenario_names
from musenet.runs.run import Run
from musenet.training.train_run import train_run

MakeRun = Callable[[str], Run]


@pytest.fixture
def make(tiny_dataset: Dataset, make_experiment: Callable[..., Experiment], tmp_path: Path) -> Callable[..., Run]:
    def trained(name: str, **changes: Any) -> Run:
        model = {"name": "musenet", "assignment": "true", "hidden": [4], "embedding": 2} | changes
        train_run(make_experiment(model=model), tiny_dataset, tmp_path / name)
        return Run.open(tmp_path / name)

    return trained


def value(field: str, text: str, share: float, overall: float, of: str = "requests") -> ValueContrast:
    return ValueContrast(field, of, text, share, overall, share / overall, 100.0)


def test_names_tell_the_two_largest_differences_in_words() -> None:
    far: list[Contrast] = [
        NumericContrast("days_ahead", "requests", 1.2),
        NumericContrast("price", "clicked", -0.5),
        NumericContrast("stars", "clicked", 0.3),
    ]
    near: list[Contrast] = [
        value("same_city", "true", 0.9, 0.3),
        value("age_band", "(missing)", 0.6, 0.4),
        NumericContrast("price.missing", "requests", 0.1),
    ]
    many: list[Contrast] = [NumericContrast(EARLIER_EVENTS, "requests", 0.4), value("device", "a" * 40, 0.5, 0.2)]
    assert made_names([far, near, many, []]) == [
        "high days ahead, clicks low price",
        "same city, age band unknown",
        f"device {'a' * 23}…, many earlier events",
        "like all requests",
    ]


def test_names_are_distinct() -> None:
    first: list[Contrast] = [NumericContrast("price", "requests", 1.0), NumericContrast("stars", "requests", 0.9)]
    third = NumericContrast("distance", "requests", 0.5)
    assert made_names([first, [*first, third]]) == ["high price, high stars", "high price, high stars, high distance"]
    assert made_names([first, first, []]) == [
        "high price, high stars",
        "high price, high stars (2)",
        "like all requests",
    ]
    reversed_order: list[Contrast] = [
        NumericContrast("stars", "requests", 1.0),
        NumericContrast("price", "requests", 0.9),
    ]
    assert made_names([first, [*reversed_order, third]]) == [
        "high price, high stars",
        "high stars, high price, high distance",
    ]
    two_of_one_column = [value("age", "19", 0.9, 0.2), value("age", "25", 0.8, 0.2)]
    assert made_names([two_of_one_column]) == ["age 19"]


def test_given_names_are_kept_shown_and_taken_back(make: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run = make("run")
    made = scenario_names(run)
    assert cli.run(["name", str(run.path), "1=business trips"]) == 0
    assert f"scenario 0: {made[0]}\nscenario 1: business trips\n" in capsys.readouterr().out
    again = Run.open(run.path)
    assert scenario_names(again) == [made[0], "business trips"]
    assert [one.name for one in mn.describe_scenarios(run.path)] == [made[0], "business trips"]
    assert mn.name(run.path, {1: ""}).names == made


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({2: "x"}, "there is no scenario 2"),
        ({0: "a\nb"}, "one line"),
        ({0: "a" * 61}, "at most 60"),
        ({0: "same", 1: "same"}, "two scenarios would be called"),
    ],
)
def test_names_that_cannot_be_are_refused(make: MakeRun, given: dict[int, str], said: str) -> None:
    run = make("run")
    with pytest.raises(UserError, match=said):
        mn.name(run.path, given)
    assert mn.name(run.path).given == {}


def test_a_word_without_a_number_and_a_model_without_scenarios_are_refused(
    make: Callable[..., Run], capsys: pytest.CaptureFixture[str], make_experiment: Callable[..., Experiment]
) -> None:
    run = make("run")
    assert cli.run(["name", str(run.path), "business trips"]) == 2
    assert "give scenario and name" in capsys.readouterr().err
    path = run.path.with_name("plain")
    train_run(make_experiment(model={"name": "base_model", "hidden": [4], "embedding": 2}), run.dataset, path)
    with pytest.raises(RunError, match="without scenarios"):
        mn.name(path, {0: "x"})
