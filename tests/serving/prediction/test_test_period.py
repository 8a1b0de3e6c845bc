"""A file of the log's own rows gets the predictions that training wrote of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import musenet
from musenet.cli.main import run as run_command
from musenet.config.loading import validate_experiment
from musenet.config.yaml_text import read_yaml
from musenet.dataset.roles import ITEM, REQUEST
from musenet.errors import LogWarning, NoHistoriesWarning, UserError
from musenet.evaluation.estimators import METRICS
from musenet.runs.run import Run
from places import ROOT

SMALL = {
    "model": {
        "name": "musenet",
        "scenarios": 2,
        "embedding": 4,
        "hidden": [12],
        "metric_space": {"hidden": [8], "dimension": 4},
        "history_encoder": "attention",
    },
    "training": {"epochs": 1, "batch_size": 1024, "learning_rate": 0.01},
    "split": {"test": "7 days", "valid": "3 days"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained on a generated log, whose files lie beside it."""
    folder = tmp_path_factory.mktemp("hotels")
    musenet.simulate_hotels(folder / "log", impressions=20_000, seed=3)
    content = read_yaml((ROOT / "configs" / "hotels.yaml").read_text(encoding="utf-8"))
    for part in ("impressions", "events", "users", "items"):
        content["data"][part]["path"] = str(folder / "log" / Path(content["data"][part]["path"]).name)
    content["features"]["context"].append("hour")  # which preparation computes
    content = {name: value for name, value in content.items() if name not in ("compare", "sweep", "ablate")}
    experiment = validate_experiment(content | SMALL, "hotels")
    musenet.train(experiment, dataset=folder / "dataset", out=folder / "run")
    musenet.export(folder / "run", folder / "export")
    return Run.open(folder / "run")


def test_the_test_period_gets_the_predictions_of_training(run: Run, tmp_path: Path) -> None:
    log = run.path.parent / "log"
    told = run.predictions("test")
    requests, items = run.dataset.keys("requests"), run.dataset.keys("items")
    trained = pl.DataFrame(
        {
            "search_id": requests[REQUEST].take(told.request).to_pylist(),
            "hotel_id": items[ITEM].take(told.item).to_pylist(),
            "expected": 1 / (1 + np.exp(-told.logit)),
        }
    )
    shown = pl.read_parquet(log / "impressions.parquet")
    tested = shown.filter(pl.col("search_id").is_in(trained["search_id"].unique().to_list()))
    tested.write_parquet(tmp_path / "tested.parquet")
    export, out = run.path.parent / "export", tmp_path / "scores.parquet"
    musenet.predict(export, tmp_path / "tested.parquet", out, events=log / "clicks.parquet")
    scored = pl.read_parquet(out)
    assert scored.drop("score").equals(tested)
    both = scored.join(trained, on=["search_id", "hotel_id"], how="left", maintain_order="left")
    np.testing.assert_allclose(both["score"], both["expected"], atol=1e-5, rtol=0)

    with pytest.warns(NoHistoriesWarning, match=r"no histories are given, but hotels-.* give the log's `events`"):
        musenet.predict(export, tmp_path / "tested.parquet", out)
    without = pl.read_parquet(out)["score"]
    assert np.abs(without.to_numpy() - both["expected"].to_numpy()).max() > 1e-3


def test_dates_are_read_in_the_order_that_the_log_told(tmp_path: Path) -> None:
    """A file of one day cannot tell day from month, the log that was prepared could."""
    musenet.simulate_hotels(tmp_path / "log", impressions=20_000, seed=3)
    for table, time in (("impressions", "shown_at"), ("clicks", "clicked_at")):
        rows = pl.read_parquet(tmp_path / "log" / f"{table}.parquet")
        layout = "%m/%d/%Y %H:%M:%S" if table == "impressions" else "%d.%m.%Y %H:%M:%S"
        rows.with_columns(pl.col(time).dt.strftime(layout)).write_csv(tmp_path / f"{table}.csv")
    content = read_yaml((ROOT / "configs" / "hotels.yaml").read_text(encoding="utf-8"))
    for part, name in (("impressions", "impressions.csv"), ("events", "clicks.csv")):
        content["data"][part]["path"] = str(tmp_path / name)
    for part in ("users", "items"):
        content["data"][part]["path"] = str(tmp_path / "log" / Path(content["data"][part]["path"]).name)
    content = {name: value for name, value in content.items() if name not in ("compare", "sweep", "ablate")}
    experiment = validate_experiment(content | SMALL | {"model": {"name": "base_model", "embedding": 4}}, "hotels")
    musenet.train(experiment, dataset=tmp_path / "dataset", out=tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert run.dataset.manifest.time_layouts == {"impressions": "%m/%d/%Y", "events": "%d/%m/%Y"}
    musenet.export(run.path, tmp_path / "export")
    told = run.predictions("test")
    expected = pl.DataFrame(
        {
            "search_id": run.dataset.keys("requests")[REQUEST].take(told.request).to_pylist(),
            "hotel_id": run.dataset.keys("items")[ITEM].take(told.item).to_pylist(),
            "expected": 1 / (1 + np.exp(-told.logit)),
        }
    )
    shown = pl.read_csv(tmp_path / "impressions.csv").filter(
        pl.col("search_id").is_in(expected["search_id"].unique().to_list())
    )
    shown.write_csv(tmp_path / "tested.csv")
    musenet.predict(tmp_path / "export", tmp_path / "tested.csv", tmp_path / "out.csv", events=tmp_path / "clicks.csv")
    both = pl.read_csv(tmp_path / "out.csv").join(expected, on=["search_id", "hotel_id"], how="left")
    np.testing.assert_allclose(both["score"], both["expected"], atol=1e-5, rtol=0)


def test_a_request_without_its_hour_is_scored_by_the_hour_of_its_time(run: Run, tmp_path: Path) -> None:
    """As the rows of a file are; an hour that is given as missing stays missing."""
    folder = run.path.parent
    shown = pl.read_parquet(folder / "log" / "impressions.parquet").filter(pl.col("search_id") % 97 == 0)
    shown.write_parquet(tmp_path / "some.parquet")
    musenet.predict(
        folder / "export", tmp_path / "some.parquet", tmp_path / "out.parquet", events=folder / "log" / "clicks.parquet"
    )
    scorer = musenet.Scorer(folder / "export")
    context = sorted(scorer.context_columns - {"hour"})
    for (_,), rows in pl.read_parquet(tmp_path / "out.parquet").group_by("search_id"):
        first = rows.row(0, named=True)
        events = pl.read_parquet(folder / "log" / "clicks.parquet").filter(user_id=first["user_id"])
        request: dict[str, Any] = {
            "user": first["user_id"],
            "time": first["shown_at"].timestamp(),
            "context": {name: first[name] for name in context},
            "candidates": [{"item": row["hotel_id"], "price": row["price"]} for row in rows.iter_rows(named=True)],
            "history": [
                {"item": row["hotel_id"], "kind": row["action"], "time": row["clicked_at"].timestamp()}
                for row in events.iter_rows(named=True)
            ],
        }
        answer = scorer.score(request)
        np.testing.assert_allclose(answer["scores"], rows["score"], atol=1e-6)
        assert answer["unknown"]["missing"] == {}
        request["context"]["hour"] = None
        assert scorer.score(request)["unknown"]["missing"] == {"hour": 1}


def test_evaluating_the_test_periods_rows_gives_the_figures_of_the_split(run: Run, tmp_path: Path) -> None:
    """Whatever their order, and as frames too; users and items that training never saw are served as unseen."""
    log = run.path.parent / "log"
    told, known = run.predictions("test"), run.dataset.keys("requests")[REQUEST]
    shown = pl.read_parquet(log / "impressions.parquet")
    tested = shown.filter(pl.col("search_id").is_in(known.take(told.requests).to_pylist()))
    expected = musenet.evaluate(run.path).to_json()
    shuffled = tested.sample(fraction=1, shuffle=True, seed=1)
    pl.concat(
        [shuffled, shuffled.head(40).with_columns(pl.lit(0, tested.schema["clicked"]).alias("clicked"))]
    ).write_parquet(tmp_path / "tested.parquet")
    (tmp_path / "days").mkdir()
    half = len(tested) // 2
    tested[:half].write_csv(tmp_path / "days" / "1.csv")
    tested[half:].write_csv(tmp_path / "days" / "2.csv")
    events = log / "clicks.parquet"
    with pytest.warns(LogWarning, match="40 rows show an item again in one request; each counts once"):
        found = [musenet.evaluate(run.path, data=tmp_path / "tested.parquet", events=events)]
    found.append(musenet.evaluate(run.path, data=tmp_path / "days", events=events))
    found.append(musenet.Run(run.path).evaluate(data=tested, events=pl.read_parquet(events)))
    for one in found:
        content = one.to_json()
        assert content.keys() == expected.keys()
        assert content["split"] == "data"
        for name in ("impressions", "requests", "users", "positives", "weights", "left_out_groups"):
            assert content[name] == expected[name]
        assert flat(content["scenarios"]) == pytest.approx(flat(expected["scenarios"]), abs=1e-4, nan_ok=True)
        for name in METRICS:
            assert flat(content[name]) == pytest.approx(flat(expected[name]), abs=1e-5)
    assert "the frame is from" in found[-1].protocol
    assert not (run.path / "evaluation.data.json").exists()

    strangers = tested.with_columns(user_id=pl.col("user_id").cast(pl.String) + "x")
    fresh = musenet.evaluate(run.path, data=strangers, events=events, resamples=2)
    assert (fresh.users, fresh.impressions) == (found[0].users, found[0].impressions)
    assert fresh.auc.value != found[0].auc.value


def flat(content: Any) -> list[float]:
    """All numbers of some JSON, in order."""
    if isinstance(content, dict | list):
        inside = content.values() if isinstance(content, dict) else content
        return [number for one in inside for number in flat(one)]
    return [float("nan") if content is None else content]


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        (lambda f: f.drop("clicked"), {}, r"lacks the column 'clicked', which says what was clicked"),
        (lambda f: f.with_columns(clicked=2), {}, r"row 1: column 'clicked' holds 2; a label is 0 or 1"),
        (lambda f: f.drop("price"), {}, r"lacks the column price"),
        (
            lambda f: f,
            {"adapt": True},
            r"--events goes with --data, which takes none of --dataset, --adapt and --verify",
        ),
        (lambda f: f, {"verify": True}, r"which takes none of --dataset, --adapt and --verify"),
    ],
)
def test_a_log_that_cannot_be_measured_on_says_why(
    run: Run, tmp_path: Path, change: Any, options: dict[str, Any], sentence: str
) -> None:
    log = run.path.parent / "log"
    change(pl.read_parquet(log / "impressions.parquet").head(50)).write_parquet(tmp_path / "shown.parquet")
    with pytest.raises(UserError, match=sentence):
        musenet.evaluate(run.path, data=tmp_path / "shown.parquet", events=log / "clicks.parquet", **options)
    with pytest.raises(UserError, match="--events goes with --data"):
        musenet.evaluate(run.path, events=log / "clicks.parquet")


def test_the_command_measures_on_another_log(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = run.path.parent / "log"
    pl.read_parquet(log / "impressions.parquet").head(500).write_csv(tmp_path / "december.csv")
    command = ["evaluate", str(run.path), "--data", str(tmp_path / "december.csv"), "--json"]
    assert run_command(command) == 0
    told = capsys.readouterr()
    assert "warning: no histories are given" in told.err
    content = json.loads(told.out)
    assert (content["split"], content["impressions"]) == ("data", 500)
    assert "december.csv is from" in content["protocol"]
