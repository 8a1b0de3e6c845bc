"""Figures of an evaluation against numbers computed by hand."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.errors import RunError
from musenet.evaluation.draws import UserDraws
from musenet.evaluation.evaluation import measure, protocol_line
from musenet.evaluation.intervals import Interval
from musenet.evaluation.predictions import Predictions
from musenet.evaluation.recovery import agreement, recovery
from musenet.evaluation.scenario_figures import ScenarioFigures, scenario_figures
from musenet.evaluation.scoring import predict, validation_scores
from musenet.metrics import auc
from musenet.runs.folder import RunFolder
from musenet.runs.run import Run, load_model
from musenet.training.train_run import train_run

# Requests 7 and 8 of user 1, 9 of user 2; request 9 has one class.
STUB = Predictions(
    request=np.array([7, 7, 7, 8, 8, 9, 9]),
    user=np.array([1, 1, 1, 1, 1, 2, 2]),
    item=np.arange(7),
    time=np.zeros(7, dtype=np.int64),
    label=np.array([1, 0, 0, 1, 0, 0, 0], dtype=np.int8),
    logit=np.array([2.0, 1.0, 3.0, 1.0, 0.0, -1.0, -2.0]),
    weight=None,
    repeat_indicator=np.array([True, False, True, False, True, False, True]),
    requests=np.array([7, 8, 9]),
    assignment=np.array([[0.75, 0.25], [0.5, 0.5], [0.0, 1.0]]),
    repeat_probability=np.array([[0.8, 0.4], [0.6, 0.2], [0.1, 0.6]]),
    true_scenario=np.array([0, 0, 1]),
)


def test_metrics_are_those_computed_by_hand() -> None:
    found = measure(STUB, "test", "a protocol", UserDraws(STUB.user, 20))
    # Positives at 2 and 1, negatives at 1, 3, 0, -1, -2: wins 4 + (3 + a tie's half).
    assert found.auc.value == pytest.approx((4 + 3.5) / 10)
    # Requests: 7 has one of two pairs right with 3 rows, 8 all right with 2 rows; 9 is left out.
    assert found.gauc.value == pytest.approx((0.5 * 3 + 1.0 * 2) / 5)
    # User 1 has positives 2, 1 and negatives 1, 3, 0: 2 + (1 + 0.5) of 6 pairs.
    assert found.gauc_by_user.value == pytest.approx(3.5 / 6)
    probability = 1 / (1 + np.exp(-STUB.logit))
    assert found.calibration_ratio.value == pytest.approx(probability.sum() / 2)
    losses = -np.log(np.where(STUB.label == 1, probability, 1 - probability))
    assert found.logloss.value == pytest.approx(losses.mean())
    assert found.left_out_groups == {"gauc": 1, "gauc_by_user": 1}
    assert (found.impressions, found.requests, found.users, found.positives) == (7, 3, 2, 2)


def test_an_evaluation_prints_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """In a script and in a notebook alike; not as pydantic prints its fields."""
    found = measure(STUB, "test", "a protocol", UserDraws(STUB.user, 20))
    print(found)
    told = capsys.readouterr().out
    assert "auc=Interval" not in told
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in told.splitlines() if line.startswith("│")]
    assert rows[0][:2] == ["AUC", f"{found.auc.value:.4f}"]
    assert {row[0]: row[1] for row in rows[:7]}["logloss"] == f"{found.logloss.value:.4f}"
    assert "Protocol: a protocol." in told
    assert "test: 7 impressions, 2 clicked, of 2 users" in told
    assert "AUC" in found._repr_html_()


def test_scenario_figures_are_those_computed_by_hand() -> None:
    figures = scenario_figures(STUB, UserDraws(STUB.user, 20))
    assert figures is not None
    assert figures.share == pytest.approx([1.25 / 3, 1.75 / 3])
    assert figures.mean_max_probability == pytest.approx((0.75 + 0.5 + 1.0) / 3)
    share = np.array([1.25, 1.75]) / 3
    assert figures.entropy == pytest.approx(-(share * np.log(share)).sum())
    assert figures.repeat_probability == pytest.approx([(0.6 + 0.3) / 1.25, (0.1 + 0.1 + 0.6) / 1.75])
    # Positives: request 7 a repeat, request 8 new.
    assert [one.value for one in figures.repeat_share_of_positives] == pytest.approx([0.75 / 1.25, 0.25 / 0.75])
    # Repeats: two in 7 of which one is clicked, one in 8, one in 9.
    rates = [one.value for one in figures.click_rate_on_repeats]
    assert rates == pytest.approx([0.75 / (1.5 + 0.5), 0.25 / (0.5 + 0.5 + 1.0)])
    assert [one.value for one in figures.click_rate_on_new] == pytest.approx([0.5 / 1.25, 0.5 / 1.75])
    for k, intention in enumerate(figures.repeat_intention):
        on_repeats, on_new = figures.click_rate_on_repeats[k].value, figures.click_rate_on_new[k].value
        assert intention.value == pytest.approx(on_repeats / (on_repeats + on_new))
    assert figures.recovery == recovery(STUB.assignment, STUB.true_scenario)


def test_weights_count_as_so_many_impressions() -> None:
    weighted = Predictions(**{**STUB.__dict__, "weight": np.array([2.0, 1, 1, 1, 1, 1, 1])})
    figures = scenario_figures(weighted, UserDraws(STUB.user, 20))
    assert figures is not None
    assert figures.repeat_share_of_positives[0].value == pytest.approx(1.5 / 2.0)


def test_recovery_does_not_depend_on_the_numbering() -> None:
    assignment = np.eye(3)[[0, 0, 1, 1, 2, 2]]
    swapped = assignment[:, [2, 0, 1]]
    truth = np.array([0, 0, 1, 1, 2, 2])
    assert recovery(swapped, truth) == {"ari": 1.0, "nmi": 1.0}
    assert recovery(swapped, np.full(6, -1)) is None
    assert agreement([assignment, swapped]) == 1.0
    assert agreement([assignment]) is None


def test_predictions_survive_parquet(tmp_path: Path) -> None:
    STUB.to_parquet(tmp_path / "p.parquet", tmp_path / "a.parquet")
    back = Predictions.from_parquet(tmp_path / "p.parquet", tmp_path / "a.parquet")
    for name, expected in STUB.__dict__.items():
        if expected is None:
            assert getattr(back, name) is None
        else:
            np.testing.assert_array_equal(getattr(back, name), expected)


@pytest.fixture(scope="module")
def run(
    tiny_dataset: Dataset, make_experiment: Callable[..., Experiment], tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    path = tmp_path_factory.mktemp("runs") / "tiny"
    train_run(make_experiment(), tiny_dataset, path)
    return RunFolder.open(path)


def test_evaluate_answers_with_the_published_keys(run: RunFolder) -> None:
    found = Run(run).evaluate("test", 20).to_json()
    assert set(found) == {
        "split", "impressions", "requests", "users", "positives", "protocol", "auc", "gauc", "gauc_by_user", "ndcg",
        "logloss", "calibration_ratio", "calibration_error", "left_out_groups", "scenarios", "weights",
    }  # fmt: skip
    assert {"value", "low", "high"} == set(found["auc"])
    published = {"count", "share", "mean_max_probability", "entropy", "repeat_probability", "repeat_share_of_positives"}
    assert published | {"recovery"} <= set(found["scenarios"])
    assert set(found["scenarios"]["recovery"]) == {"ari", "nmi"}
    assert json.loads(run.evaluation_file("test").read_text())["impressions"] == found["impressions"] == 100


def test_evaluate_prints_the_protocol_beside_the_metrics(run: RunFolder) -> None:
    console = Console(record=True, width=200)
    Run(run).evaluate("test", 20).show(console)
    text = " ".join(console.export_text().split())
    assert protocol_line(run.dataset, "test") in text
    assert "not clicked; test is from 1970-01-19 to 1970-01-25, training from 1970-01-01 to 1970-01-15" in text


def test_figures_fit_in_80_columns_and_undefined_ones_are_dashes() -> None:
    one, wide, none = Interval(0.5067, 0.1234, 0.5678), Interval(1.0, 1.0, 1.0), Interval(*[float("nan")] * 3)
    figures = ScenarioFigures(
        count=2,
        share=[1.0, 0.0],
        mean_max_probability=0.97,
        entropy=0.69,
        repeat_probability=[0.15, 0.18],
        repeat_share_of_positives=[one, one],
        click_rate_on_repeats=[one, none],
        click_rate_on_new=[one, wide],
        repeat_intention=[one, one],
        recovery=None,
    )
    found = measure(STUB, "test", "as logged", UserDraws(STUB.user, 20))
    found = found.model_copy(update={"gauc": none, "scenarios": figures})
    console = Console(record=True, width=80)
    found.show(console)
    text = console.export_text()
    assert {word for word in text.split() if "…" in word} == {"…"}
    assert "50.7 %" in text
    assert text.count("12.3 … 56.8") == 6
    assert "100.0 … 100.0" in text
    assert "nan" not in text


def test_saved_predictions_of_other_weights_are_not_used(run: RunFolder) -> None:
    before = Run(run).evaluate("test", 5).logloss.value
    state, ended = run.load_state(), run.read_json("training.json")
    try:
        run.write_json("training.json", ended | {"weights": None})  # as a run of an earlier version
        run.save_model({name: value * 0 if value.is_floating_point() else value for name, value in state.items()})
        assert Run(run).evaluate("test", 5).logloss.value != before
    finally:
        run.save_model(state)
        run.write_json("training.json", ended)
    assert Run(run).evaluate("test", 5).logloss.value == before


@pytest.mark.parametrize("file", ["run.json", "config.yaml", "model.safetensors"])
def test_a_damaged_run_is_refused_in_one_sentence(file: str, run: RunFolder, tmp_path: Path) -> None:
    broken = shutil.copytree(run.path, tmp_path / "run")
    (broken / file).write_text("{ this is nothing")
    with pytest.raises(RunError, match=file) as caught:
        load_model(RunFolder.open(broken))
    assert "\n" not in str(caught.value)
    (broken / file).unlink()
    with pytest.raises(RunError):
        load_model(RunFolder.open(broken))


def test_a_dataset_prepared_in_another_way_is_refused(run: RunFolder, tmp_path: Path) -> None:
    copy = shutil.copytree(run.path, tmp_path / "run")
    description = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(description | {"dataset_fingerprint": "other"}))
    with pytest.raises(RunError, match="prepared in another way"):
        load_model(RunFolder.open(copy))


def test_a_half_written_line_of_metrics_is_passed_over_and_counted(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in range(3):
        run.append_metrics({"step": step, "loss": float("nan")})
    with run.metrics_file.open("a") as file:
        file.write('{"step": 3, "lo')
    entries, unreadable = run.metrics()
    assert ([entry["step"] for entry in entries], unreadable) == ([0, 1, 2], 1)
    run.keep_metrics_until(1)
    assert run.metrics() == ([{"step": 0, "loss": None}, {"step": 1, "loss": None}], 0)


def test_validation_scores_are_the_same_every_time_and_leave_the_model_as_it_was(run: RunFolder) -> None:
    model, dataset = load_model(run), run.dataset
    model.train()
    first = validation_scores(model, dataset, limit=20)
    assert first == validation_scores(model, dataset, limit=20)
    assert model.training
    whole = predict(model, dataset, "valid")
    assert validation_scores(model, dataset, limit=10**9)["auc"] == pytest.approx(auc(whole.label, whole.logit))


def test_predictions_do_not_depend_on_the_batch_size(run: RunFolder) -> None:
    model, dataset = load_model(run), run.dataset
    first, second = predict(model, dataset, "test", 3), predict(model, dataset, "test", 10_000)
    np.testing.assert_allclose(first.logit, second.logit, atol=1e-5)
    np.testing.assert_array_equal(first.request, np.repeat(np.arange(75, 100), 4))
