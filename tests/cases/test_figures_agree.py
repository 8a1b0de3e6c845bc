"""Figures that agree with each other: what is counted, what is one training, what is shown where nothing is learned."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from musenet import api
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.errors import RunError
from musenet.evaluation.draws import UserDraws
from musenet.evaluation.evaluation import measure
from musenet.evaluation.intervals import Interval
from musenet.evaluation.predictions import Predictions
from musenet.evaluation.recovery import agreement
from musenet.reporting.contents import training_curves
from musenet.reporting.words.tables import comparison_table, model_facts_table
from musenet.runs.folder import RunFolder
from musenet.runs.run import Run
from musenet.studies.comparison.results import Comparison, Measured, TransferLoss, WhereTrained
from musenet.studies.comparison.table import cells, columns
from musenet.training.train_run import train_run

MakeExperiment = Callable[..., Experiment]
REPORTED = {
    "model": "Model",
    "AUC": "AUC",
    "AUC where trained": "AUC where trained",
    "loss": "Loss",
    "loss over MUSENET soft": "Loss over MUSENET soft",
    "GAUC": "GAUC",
    "NDCG": "NDCG",
    "logloss": "Logloss",
    "RelaImpr to BaseModel": "RelaImpr over BaseModel",
    "ΔAUC to MUSENET soft": "AUC minus MUSENET soft",
    "p (Holm)": "p (Holm)",
    "pred/obs": "Predicted / observed",
    "valid AUC": "AUC on validation",
    "ARI": "ARI",
    "tuned by (± seeds)": "Tuned by",
    "seeds agree": "Seeds agree",
    "parameters*": "Parameters",
    "s/epoch": "s/epoch",
}
"""Columns of a comparison on a terminal, and those of the report that hold the same."""


def weighted_predictions() -> Predictions:
    """40 requests of 4 candidates; of every third request the positives have no weight, of every fifth no row has."""
    random = np.random.default_rng(5)
    request = np.repeat(np.arange(40), 4)
    label = (random.random(160) < 0.4).astype(np.int8)
    weight = random.uniform(0.5, 2.0, 160)
    weight[(request % 3 == 0) & (label == 1)] = 0.0
    weight[request % 5 == 0] = 0.0
    return Predictions(
        request=request,
        user=request // 4,
        item=np.zeros(160, dtype=np.int64),
        time=request,
        label=label,
        logit=random.normal(size=160) + label,
        weight=weight,
        repeat_indicator=np.zeros(160, dtype=bool),
        requests=np.arange(40),
        assignment=None,
        repeat_probability=None,
        true_scenario=None,
    )


def test_groups_left_out_are_those_whose_weight_is_of_one_class() -> None:
    """Beside pandas and sklearn: a group that GAUC cannot use is one that `left_out_groups` counts."""
    predictions = weighted_predictions()
    found = measure(predictions, "test", "", UserDraws(predictions.user, 20))
    rows = pd.DataFrame(
        {name: getattr(predictions, name) for name in ("request", "user", "label", "logit", "weight")}
    ).query("weight > 0")
    for metric, group in (("gauc", "request"), ("gauc_by_user", "user")):
        both = rows.groupby(group).filter(lambda part: part["label"].nunique() == 2).groupby(group)
        everyone = predictions.request if group == "request" else predictions.user
        assert found.left_out_groups[metric] == len(np.unique(everyone)) - both.ngroups
        of_groups = [
            (part["weight"].sum(), roc_auc_score(part["label"], part["logit"], sample_weight=part["weight"]))
            for _, part in both
        ]
        weights, aucs = np.array(of_groups).T
        assert found.metrics[metric].value == pytest.approx(np.average(aucs, weights=weights), abs=1e-12)


def test_without_weights_groups_of_one_class_are_left_out_as_before() -> None:
    predictions = Predictions(**weighted_predictions().__dict__ | {"weight": None})
    found = measure(predictions, "test", "", UserDraws(predictions.user, 20))
    rows = pd.DataFrame({"request": predictions.request, "label": predictions.label})
    assert found.left_out_groups["gauc"] == int((rows.groupby("request")["label"].nunique() < 2).sum())


GARBAGE = [
    "",
    "null",
    "[1, 2]",
    "17",
    '"step"',
    "{}",
    '{"step": "soon"}',
    '{"step": 3, "lo',
    '{"step": -1}',
    "\x00\xff",
]
GARBAGE += ['{"step": 200, "losses": [1]}', '{"step": 200, "valid": {"auc": "high"}}', '{"step": 1.5}']


def test_garbage_in_metrics_is_skipped_and_said(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.append_metrics({"step": 100, "losses": {"click": 0.5}})
    with run.metrics_file.open("a") as file:
        file.write("\n".join(GARBAGE) + "\n")
    run.append_metrics({"step": 200, "valid": {"auc": 0.75, "logloss": 0.2}, "warnings": ["melted"]})
    curves = training_curves(run)
    assert curves.losses == {"click": [(100, 0.5)]}
    assert curves.validation_auc == [(200, 0.75)]
    unreadable = len(GARBAGE) - 1  # an empty line says nothing
    assert curves.warnings == ["melted", f"{unreadable} lines of metrics.jsonl cannot be read and are left out."]


def test_going_on_over_garbage_keeps_what_can_be_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (1, 2, 3):
        run.append_metrics({"step": step})
        with run.metrics_file.open("a") as file:
            file.write("[]\n")
    assert run.keep_metrics_until(2) == 3
    assert run.metrics() == ([{"step": 1}, {"step": 2}], 0)


@pytest.fixture(scope="module")
def seeds(
    tiny_dataset: Dataset, make_experiment: MakeExperiment, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """Two seeds of one model."""
    runs = tmp_path_factory.mktemp("seeds")
    for seed in (1, 2):
        train_run(make_experiment(seed=seed), tiny_dataset, runs / f"seed-{seed}")
    return [runs / "seed-1", runs / "seed-2"]


def test_a_run_given_twice_is_not_two_seeds(seeds: list[Path]) -> None:
    assert api.compare_runs(seeds, resamples=20).seeds == [1, 2]
    with pytest.raises(RunError, match=r"seed-1 and .*seed-1 hold the same weights, so they are one training"):
        api.compare_runs([seeds[0], seeds[1], seeds[0]], resamples=20)


def test_the_copy_of_a_run_is_not_another_seed(seeds: list[Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(seeds[0], tmp_path / "copy"))
    with pytest.raises(RunError, match=r"seed-1 and .*copy hold the same weights"):
        api.compare_runs([seeds[0], copy], resamples=20)
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace("seed: 1", "seed: 3"))
    with pytest.raises(RunError, match=r"seed-1 and .*copy hold the same weights"):
        api.compare_runs([seeds[0], copy], resamples=20)


def test_one_seed_trained_under_other_threads_is_not_two_seeds(
    seeds: list[Path], tiny_dataset: Dataset, make_experiment: MakeExperiment, tmp_path: Path
) -> None:
    """Its weights may differ in rounding; what chance decided is the same."""
    train_run(make_experiment(), tiny_dataset, tmp_path / "again")
    state = RunFolder.open(tmp_path / "again").load_state()
    state = {name: value + 1e-7 if value.is_floating_point() else value for name, value in state.items()}
    RunFolder(tmp_path / "again").save_model(state)
    training = RunFolder.open(tmp_path / "again").read_json("training.json")
    RunFolder(tmp_path / "again").write_json("training.json", training | {"weights": None})
    with pytest.raises(RunError, match="are of the same seed"):
        api.compare_runs([seeds[0], tmp_path / "again"], resamples=20)


def test_seeds_agree_only_where_something_was_found() -> None:
    eye = np.eye(3)
    first, second, one = eye[[0, 1, 2, 0, 1]], eye[[1, 0, 2, 1, 1]], eye[[2, 2, 2, 2, 2]]
    expected = adjusted_rand_score([0, 1, 2, 0, 1], [1, 0, 2, 1, 1])
    assert agreement([first, second]) == pytest.approx(expected)
    assert agreement([one, one[:, ::-1]]) is None, "both took one scenario for everything"
    assert agreement([one, first]) == 0.0, "one found nothing, so they do not agree"
    assert agreement([one, one, first, first]) == pytest.approx((4 * 0.0 + 1.0) / 5)


def test_rows_that_learn_no_scenarios_do_not_say_that_seeds_agree(
    tiny_dataset: Dataset, make_experiment: MakeExperiment, tmp_path: Path
) -> None:
    """Uniform and given assignments are the same whatever the seed."""
    shared = {"name": "musenet", "hidden": [4], "embedding": 2}
    for assignment in ("uniform", "true", "soft"):
        model = shared | {"assignment": assignment, "scenarios": 2}
        for seed in (1, 2):
            train_run(make_experiment(model=model, seed=seed), tiny_dataset, tmp_path / assignment / f"seed-{seed}")
    runs = [tmp_path / name / f"seed-{seed}" for name in ("uniform", "true", "soft") for seed in (1, 2)]
    comparison = api.compare_runs(runs, resamples=20)
    assignments = [Run.open(run).predictions("test").assignment for run in runs[-2:]]
    expected = agreement([one for one in assignments if one is not None])
    assert [row.agreement for row in comparison.models] == [None, None, expected]
    place = columns(comparison).index("seeds\nagree")
    assert [cells(row, comparison)[place] for row in comparison.models[:2]] == ["–", "–"]


def test_the_reports_tables_and_the_comparisons_have_the_same_columns_and_figures(
    write_comparison: Callable[..., Path],
) -> None:
    """One figure for one thing, whichever the comparison has."""
    lost = Interval(0.01, 0.005, 0.015)
    elsewhere = {
        "auc_where_trained": Measured(0.79, 0.78, 0.80, [0.79, 0.79]),
        "loss": TransferLoss(0.01, 0.005, 0.015, lost),
    }
    tuned = {"tuning_margin": 0.003, "tuning_spread": 0.0011, "recovery": {"ari": 0.7, "nmi": 0.6}}
    sizes = {"parameters": 10_000, "parameters_outside_embedding": 777}
    changes = {"BaseModel": sizes | elsewhere, "one scenario, wide": tuned | {"ndcg": elsewhere["auc_where_trained"]}}
    comparison = Comparison.read(write_comparison(changes=changes))
    comparison = comparison.model_copy(update={"where_trained": WhereTrained("a", "b", 100, 10, 5)})
    heads = [head.replace("\n", " ") for head in columns(comparison)]
    tables = comparison_table(comparison), model_facts_table(comparison)
    assert heads == list(REPORTED)
    assert sorted({head for table in tables for head in table.heads}) == sorted(REPORTED.values())
    for row in comparison.models:
        told = dict(zip(heads, map(figure, cells(row, comparison)), strict=True))
        shown: dict[str, str] = {}
        for table in tables:
            line = next(line for line in table.rows if line[0].text == row.name)
            shown |= zip(table.heads, (figure(cell.text) for cell in line), strict=True)
        assert told == {head: shown[here] for head, here in REPORTED.items()}
    assert tables[0].note.startswith("Means of 2 seeds;")


def figure(cell: str) -> str:
    """A cell's first figure or word, however minus and percent are set."""
    return cell.replace("\u2212", "-").replace("\xa0", " ").split()[0].removesuffix("%")
