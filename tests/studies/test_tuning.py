"""Tuning: which points are tried, that trials see validation and their share alone, and what is chosen."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from musenet.config.experiment import Experiment
from musenet.config.loading import validate_experiment
from musenet.config.search_space import Range, distinct_points
from musenet.dataset.dataset import Dataset
from musenet.errors import ConfigError, RunError, TrainingDivergedError
from musenet.evaluation import scoring
from musenet.runs.folder import RunFolder
from musenet.studies import tuning as halving
from musenet.studies.plans import PlannedRun
from musenet.studies.pool import TrainingPool
from musenet.studies.trials import SMALLEST_BATCH, Outcome, plan_trials, shared_points
from musenet.studies.tuning import tuned_rows
from musenet.training import train_run as training_runs
from planted import SMALL_BASE, SMALL_MUSENET, planted_experiment, write_planted

SHARED: dict[str, list[Any]] = {
    "training.learning_rate": [0.003, 0.01, 0.03],
    "model.ids": [[], ["item"], ["user", "item"]],
    "model.scenarios": [2, 3],
}
LABELS = ["base", "soft"]
ROWS = {"base": SMALL_BASE, "soft": SMALL_MUSENET, "base (plain)": SMALL_BASE | {"repeat_features": False}}


def tuned_experiment(tuning: dict[str, Any], **changes: Any) -> Experiment:
    """On one rung, unless told otherwise."""
    experiment = planted_experiment(threads=1)
    content = experiment.model_dump(mode="json", by_alias=True)
    tuning = {"requests": 0.2, "keep_one_in": None, "seeds": 1} | tuning
    return validate_experiment(content | {"compare": {"models": ROWS, "tuning": tuning}} | changes, "tuned")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_planted(tmp_path_factory.mktemp("tuning") / "dataset")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`<label>/…/<folder>` of what the loop really trained, in order."""
    paths: list[str] = []
    loop = training_runs.train  # type: ignore[attr-defined]

    def train(experiment: Experiment, dataset: Dataset, run: RunFolder, **options: Any) -> Any:
        paths.append("/".join((run.path.parts[-3], run.path.name.partition("-on-")[0])))
        return loop(experiment, dataset, run, **options)

    monkeypatch.setattr(training_runs, "train", train)
    return paths


def tune(
    experiment: Experiment, dataset: Dataset, folder: Path, labels: Sequence[str] = LABELS
) -> dict[str, Experiment]:
    with TrainingPool(dataset) as pool:
        return tuned_rows(experiment, labels, folder, pool)


def record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "tuning.json").read_text())
    return content


def test_points_are_distinct_the_same_again_and_begin_with_those_of_fewer() -> None:
    space = tuned_experiment({"shared": SHARED}).compare.tuning.shared  # type: ignore[union-attr]
    points = distinct_points(space, 12, seed=1)
    assert len({json.dumps(point) for point in points}) == len(points) == 12
    assert all(point[key] in SHARED[key] for point in points for key in SHARED)
    assert distinct_points(space, 12, seed=1) == points
    assert distinct_points(space, 5, seed=1) == points[:5]
    assert distinct_points(space, 12, seed=2) != points


@pytest.mark.parametrize("seed", range(5))
def test_a_handful_of_points_tries_every_value_about_equally_often(seed: int) -> None:
    space: dict[str, list[Any]] = {"a": [1, 2, 3], "b": [1, 2, 3], "c": [[], ["x"], ["y"]], "d": ["mean", "attention"]}
    points = distinct_points(space, 8, seed)
    for key, values in space.items():
        counts = [sum(point[key] == value for point in points) for value in values]
        assert min(counts) >= len(points) // len(values) - 1, (key, counts)


def test_a_space_gives_each_of_its_points_once_and_none_that_is_taken() -> None:
    space: dict[str, list[Any]] = {"a": [1, 2], "b": [[], ["x"]]}
    points = distinct_points(space, 100, seed=3)
    assert sorted(map(str, points)) == sorted(str({"a": a, "b": b}) for a in (1, 2) for b in ([], ["x"]))
    assert distinct_points(space, 100, seed=3, taken=points[:3]) == points[3:]


def test_ranges_are_drawn_within_their_bounds_evenly_in_the_logarithm_if_asked() -> None:
    space = {
        "whole": Range(low=1, high=3),
        "real": Range(low=0.0, high=1.0),
        "log": Range(low=1e-4, high=1.0, log=True),
    }
    points = distinct_points(space, 400, seed=0)
    assert {point["whole"] for point in points} == {1, 2, 3}
    assert all(0 <= point["real"] <= 1 and 1e-4 <= point["log"] <= 1 for point in points)
    # Half of the mass below the middle: .5, and .01 in the logarithm; 400 draws, three standard deviations.
    assert sum(point["real"] < 0.5 for point in points) == pytest.approx(200, abs=30)
    assert sum(point["log"] < 0.01 for point in points) == pytest.approx(200, abs=30)


def test_every_row_is_tried_as_configured_first_and_then_at_the_same_points() -> None:
    experiment = tuned_experiment({"trials": 6, "requests": 0.5, "shared": SHARED})
    shared = shared_points(experiment)
    base, soft = (plan_trials(experiment, label, shared) for label in ("base", "soft"))
    assert len(base) == len(soft) == 6
    assert soft[0].values == {"training.learning_rate": 0.01, "model.ids": ["user", "item"], "model.scenarios": 3}
    assert [trial.values for trial in soft[1:]] == shared
    without = [{key: value for key, value in point.items() if key != "model.scenarios"} for point in shared]
    assert [trial.values for trial in base[1:]] == without  # the base model has no scenarios
    for trial in (*base, *soft):
        assert trial.planned("soft", 0.5, 7, Path("a")).experiment.training.requests == 0.5
        assert trial.experiment.training.learning_rate == trial.values["training.learning_rate"]
        assert trial.experiment.model.ids == trial.values["model.ids"]
        assert trial.experiment.seed == experiment.seed


def test_a_trial_takes_as_many_steps_on_a_share_of_the_requests_as_on_all() -> None:
    experiment = tuned_experiment({"trials": 2, "shared": SHARED})
    experiment.training.batch_size = 900
    trial = plan_trials(experiment, "soft", shared_points(experiment))[0]
    sizes = {
        share: trial.planned("soft", share, 1, Path("a")).experiment.training.batch_size for share in (1, 1 / 3, 1 / 9)
    }
    assert sizes == {1: 900, 1 / 3: 300, 1 / 9: 100}
    assert trial.planned("soft", 0.01, 1, Path("a")).experiment.training.batch_size == SMALLEST_BATCH
    experiment.training.batch_size = 32  # never larger than configured
    trial = plan_trials(experiment, "soft", shared_points(experiment))[0]
    assert trial.planned("soft", 0.5, 1, Path("a")).experiment.training.batch_size == 32


def test_a_key_of_which_a_row_takes_one_value_alone_is_not_tuned_there() -> None:
    shared = {"model.numbers": ["plain", "embedded"], "model.ids": [[], ["item"]]}
    rows = {"base": SMALL_BASE, "trees": {"name": "lightgbm"}}
    content = planted_experiment(threads=1).content
    tuning = {"trials": 4, "shared": shared}
    experiment = validate_experiment(content | {"compare": {"models": rows, "tuning": tuning}}, "tuned")
    points = shared_points(experiment)
    assert {trial.values["model.numbers"] for trial in plan_trials(experiment, "base", points)} == {"plain", "embedded"}
    trees = plan_trials(experiment, "trees", points)
    assert all(set(trial.values) == {"model.ids"} for trial in trees)
    assert {trial.experiment.model.numbers for trial in trees} == {"plain"}


def test_a_rows_own_keys_make_new_points_where_the_shared_ones_run_out() -> None:
    tuning = {
        "trials": 5,
        "shared": {"training.learning_rate": [0.02]},
        "own": {"base": {"model.hidden": [[4], [8], [16]]}},
    }
    experiment = tuned_experiment(tuning)
    shared = shared_points(experiment)
    base, soft = (plan_trials(experiment, label, shared) for label in ("base", "soft"))
    drawn = [trial.values["model.hidden"] for trial in base[1:4]]
    assert sorted(drawn) == [[4], [8], [16]]
    assert base[4].same_as in (1, 2, 3)
    assert [trial.same_as for trial in soft] == [None, None, 1, 1, 1]


def test_the_best_trial_by_validation_is_chosen_and_trained_on_everything(
    trained: list[str], dataset: Dataset, tmp_path: Path
) -> None:
    experiment = tuned_experiment({"trials": 4, "requests": 0.5, "shared": SHARED})
    rows = tune(experiment, dataset, tmp_path)
    for label in LABELS:
        content = record(tmp_path / label)
        auc = {trial["number"]: trial["auc"] for trial in content["trials"]}
        chosen = content["chosen"]
        assert (len(auc), chosen["number"]) == (4, max(auc, key=lambda number: auc[number]))
        assert chosen["values"] == content["trials"][0]["values"]
        ranked = sorted(auc.values(), reverse=True)
        assert (chosen["margin"], chosen["spread"]) == (pytest.approx(ranked[0] - ranked[1]), None)
        assert rows[label].training.requests == 1.0
        assert rows[label].training.learning_rate == chosen["values"]["training.learning_rate"]
        assert rows[label].model.ids == chosen["values"]["model.ids"]
    assert trained == [f"{label}/trial-{number}" for label in LABELS for number in range(4)]


def test_the_best_third_goes_on_to_three_times_the_requests_and_seeds_decide_in_the_end(
    monkeypatch: pytest.MonkeyPatch, dataset: Dataset, tmp_path: Path
) -> None:
    """AUCs are made up: alone on few requests the highest rate wins, on all of them the lowest."""
    rates = [0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008, 0.009]
    runs: list[tuple[float, float, int]] = []

    def ended(planned: PlannedRun, *_: Any) -> Outcome:
        options = planned.experiment.training
        runs.append((options.requests, options.learning_rate, planned.experiment.seed))
        slope = 10 if options.requests < 1 else -10
        return Outcome(auc=0.6 + slope * options.learning_rate + 0.001 * planned.experiment.seed, logloss=0.5)

    monkeypatch.setattr(halving, "run_trial", ended)
    options = {"trials": 10, "requests": 1 / 9, "keep_one_in": 3, "seeds": 2}
    experiment = tuned_experiment(options | {"shared": {"training.learning_rate": rates}})
    row = tune(experiment, dataset, tmp_path, ["base"])["base"]
    by_share = {
        share: sorted({rate for of, rate, _ in runs if of == share}) for share in dict.fromkeys(r[0] for r in runs)
    }
    assert list(by_share) == [pytest.approx(1 / 9), pytest.approx(1 / 3), 1.0]
    first, second, last = by_share.values()
    assert first == [*rates, 0.01]  # as configured, and every point
    assert (second, last) == ([0.007, 0.008, 0.009, 0.01], [0.009, 0.01])
    assert sorted(seed for share, _, seed in runs if share == 1.0) == [experiment.seed] * 2 + [experiment.seed + 1] * 2
    assert row.training.learning_rate == 0.009
    chosen = record(tmp_path / "base")["chosen"]
    assert chosen["margin"] == pytest.approx(10 * 0.001)
    assert chosen["spread"] == pytest.approx(0.001 / 2**0.5)


def test_the_loss_decides_where_it_is_monitored(dataset: Dataset, tmp_path: Path) -> None:
    tuning = {"trials": 4, "requests": 0.5, "shared": SHARED}
    training = {"epochs": 1, "batch_size": 32, "threads": 1, "device": "cpu", "monitor": "logloss"}
    tune(tuned_experiment(tuning, training=training), dataset, tmp_path, ["base"])
    content = record(tmp_path / "base")
    assert content["trials"][0]["number"] == content["chosen"]["number"]
    assert content["trials"][0]["logloss"] == min(trial["logloss"] for trial in content["trials"])


def test_trials_never_score_the_test_split_and_leave_no_weights(
    monkeypatch: pytest.MonkeyPatch, dataset: Dataset, tmp_path: Path
) -> None:
    splits: list[str] = []
    evenly_spaced = scoring.evenly_spaced

    def looked_at(dataset: Dataset, split: Any, limit: int) -> Any:
        splits.append(split)
        return evenly_spaced(dataset, split, limit)

    monkeypatch.setattr(scoring, "evenly_spaced", looked_at)
    monkeypatch.setattr(scoring, "predict", lambda *_: pytest.fail("a trial was scored"))
    tune(tuned_experiment({"trials": 2, "shared": SHARED}), dataset, tmp_path)
    assert set(splits) == {"valid"}
    assert not list(tmp_path.rglob("*.parquet"))
    assert not list(tmp_path.rglob("*.safetensors"))
    assert len(list(tmp_path.rglob("metrics.jsonl"))) == 4


def test_finished_trials_are_reused_and_an_interrupted_tuning_goes_on(
    trained: list[str], monkeypatch: pytest.MonkeyPatch, dataset: Dataset, tmp_path: Path
) -> None:
    experiment = tuned_experiment({"trials": 3, "shared": SHARED})
    loop = training_runs.train  # type: ignore[attr-defined]

    def interrupted(experiment: Experiment, dataset: Dataset, run: RunFolder, **options: Any) -> Any:
        if run.path.name.startswith("trial-2-"):
            raise KeyboardInterrupt
        return loop(experiment, dataset, run, **options)

    with monkeypatch.context() as patch:
        patch.setattr(training_runs, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(experiment, dataset, tmp_path, ["base"])
    assert trained == ["base/trial-0", "base/trial-1"]
    chosen = tune(experiment, dataset, tmp_path, ["base"])
    assert trained == ["base/trial-0", "base/trial-1", "base/trial-2"]
    assert tune(experiment, dataset, tmp_path, ["base"]) == chosen
    assert len(trained) == 3
    # A larger budget keeps what there is; another share of the requests keeps nothing.
    tune(tuned_experiment({"trials": 4, "shared": SHARED}), dataset, tmp_path, ["base"])
    assert trained[3:] == ["base/trial-3"]
    tune(tuned_experiment({"trials": 2, "requests": 0.4, "shared": SHARED}), dataset, tmp_path, ["base"])
    assert trained[4:] == ["base/trial-0", "base/trial-1"]


def test_trials_that_come_out_alike_are_trained_once(trained: list[str], dataset: Dataset, tmp_path: Path) -> None:
    tuning = {"trials": 3, "shared": {"model.scenarios": [2, 4]}}
    tune(tuned_experiment(tuning), dataset, tmp_path, ["base"])
    assert trained == ["base/trial-0"]
    content = record(tmp_path / "base")
    assert ([trial["number"] for trial in content["trials"]], content["same"]) == ([0], {"1": 0, "2": 0})


def test_a_row_like_another_takes_over_its_values_but_not_what_sets_it_apart(
    trained: list[str], dataset: Dataset, tmp_path: Path
) -> None:
    shared = {"training.learning_rate": [0.03], "model.repeat_features": [True], "model.hidden": [[8]]}
    tuning = {"trials": 2, "requests": 0.5, "shared": shared, "like": {"base (plain)": "base"}}
    experiment = tuned_experiment(tuning)
    rows = tune(experiment, dataset, tmp_path, ["base (plain)"])
    assert trained == ["base/trial-0", "base/trial-1"]
    chosen = record(tmp_path / "base")["chosen"]["values"]
    plain = rows["base (plain)"]
    assert plain.model.repeat_features is False
    assert plain.model.model_dump()["hidden"] == chosen["model.hidden"]
    assert plain.training.learning_rate == chosen["training.learning_rate"]
    taken_over = record(tmp_path / "base-plain")
    assert (taken_over["like"], set(taken_over["chosen"]["values"])) == (
        "base",
        set(shared) - {"model.repeat_features"},
    )


def test_a_trial_that_diverges_is_recorded_and_never_chosen(
    monkeypatch: pytest.MonkeyPatch, dataset: Dataset, tmp_path: Path
) -> None:
    loop = training_runs.train  # type: ignore[attr-defined]

    def diverging(experiment: Experiment, dataset: Dataset, run: RunFolder, **options: Any) -> Any:
        if experiment.training.learning_rate == 0.01:
            raise TrainingDivergedError("the loss is no longer a number")
        return loop(experiment, dataset, run, **options)

    monkeypatch.setattr(training_runs, "train", diverging)
    tune(tuned_experiment({"trials": 2, "shared": {"training.learning_rate": [0.003]}}), dataset, tmp_path, ["base"])
    content = record(tmp_path / "base")
    assert (content["chosen"]["number"], content["chosen"]["margin"]) == (1, None)
    assert (content["trials"][1]["number"], content["trials"][1]["auc"]) == (0, None)
    assert "no longer a number" in content["trials"][1]["failed"]
    with pytest.raises(RunError, match="none of its 1 trials"):
        tune(tuned_experiment({"trials": 1}), dataset, tmp_path / "alone", ["base"])


@pytest.mark.parametrize(
    ("tuning", "sentence"),
    [
        ({"shared": {"model.idz": [[]]}}, "no model has the key 'model.idz'"),
        ({"shared": {"learning_rate": [0.1]}}, "cannot be tuned"),
        ({"shared": {"training.learning_rate": [0.1, -1]}}, "-1 does not fit"),
        ({"shared": {"training.epochs": {"low": 3, "high": 2}}}, "must be below high"),
        ({"shared": {"training.learning_rate": {"low": 0, "high": 1, "log": True}}}, "low above 0"),
        ({"own": {"base": {"model.scenarios": [2]}}}, "no model has the key 'model.scenarios'"),
        ({"own": {"bse": {}}}, "'bse' is none of the models"),
        ({"like": {"base": "sofd"}}, "'sofd' is none of the models"),
        ({"like": {"base": "soft", "soft": "base"}}, "a row that is tuned"),
        ({"trials": 0}, "trials"),
    ],
)
def test_a_mistake_in_the_space_is_said_before_anything_runs(tuning: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        tuned_experiment(tuning)


def test_a_point_that_a_row_does_not_take_as_a_whole_is_said(dataset: Dataset, tmp_path: Path) -> None:
    paper = SMALL_MUSENET | {"objective": "robust"}
    shared = {"model.objective": ["paper"], "model.assignment": ["gate"]}
    content = tuned_experiment({}).model_dump(mode="json", by_alias=True)
    experiment = validate_experiment(
        content | {"compare": {"models": {"soft": paper}, "tuning": {"trials": 2, "shared": shared}}}, "tuned"
    )
    with pytest.raises(ConfigError, match="gate"):
        tune(experiment, dataset, tmp_path, ["soft"])
