"""The ten lines of docs/python.md: from frames to scenarios and a report, alike for every library."""

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

import musenet as mn
from frame_logs import LIBRARIES, REQUESTS, shop_frames
from musenet.errors import DataError, UserError
from musenet.reporting.pages import report
from shown_runs import measure_little

TYPES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.Table}


def train_in(folder: Path, library: str) -> mn.Run:
    frames = {name: LIBRARIES[library](frame) for name, frame in shop_frames().items()}
    experiment = mn.guess(mn.Log(**frames, folder=folder / "logs"))
    experiment.training.epochs = 2
    experiment.model = {"name": "musenet", "scenarios": 2, "hidden": [8], "embedding": 4}  # type: ignore[assignment]
    return mn.train(experiment, folder / "run", dataset=folder / "dataset", listener=mn.SILENT)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, mn.Run]:
    return {library: train_in(tmp_path_factory.mktemp(library), library) for library in TYPES}


@pytest.mark.parametrize("library", TYPES)
def test_a_run_gives_frames_of_the_library_that_the_log_came_in(runs: dict[str, mn.Run], library: str) -> None:
    scenarios = runs[library].scenarios()
    assert type(scenarios) is TYPES[library]
    assert type(runs[library].evaluate().to_frame()) is TYPES[library]
    table = pa.table(scenarios)
    assert table.num_rows == REQUESTS
    assert sorted(table["search_id"].to_pylist()) == sorted(f"s{request}" for request in range(REQUESTS))
    probabilities = np.stack([table[f"probability_{k}"].to_numpy() for k in range(2)])
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(table["scenario"].to_numpy(), probabilities.argmax(axis=0))


@pytest.mark.parametrize("library", ["polars", "arrow"])
def test_every_library_gives_the_same_run(runs: dict[str, mn.Run], library: str) -> None:
    first, other = runs["pandas"], runs[library]
    assert first.dataset.manifest.fingerprint == other.dataset.manifest.fingerprint
    for one, same in zip(first.evaluate().to_frame().itertuples(), other.evaluate().metrics.values(), strict=True):
        assert one.value == pytest.approx(same.value, abs=1e-6)
    expected, found = (pa.table(run.scenarios())["probability_0"].to_numpy() for run in (first, other))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_result_is_its_figures_and_shows_itself(runs: dict[str, mn.Run]) -> None:
    run = runs["pandas"]
    frame = run.evaluate().to_frame().set_index("metric")
    predictions = pd.read_parquet(run.path / "predictions" / "test.parquet")
    assert frame.loc["auc", "value"] == pytest.approx(roc_auc_score(predictions["label"], predictions["logit"]))
    assert frame.loc["auc", "low"] < frame.loc["auc", "value"] < frame.loc["auc", "high"]
    shown = run.evaluate()._repr_html_()
    assert shown.startswith("<pre")
    assert f"{frame.loc['auc', 'value']:.4f}" in shown
    assert "Protocol" in shown
    printed = str(run.evaluate())
    assert f"{frame.loc['auc', 'value']:.4f}" in printed
    assert "Interval(" not in printed


def test_frames_come_out_as_asked_from_a_run_that_was_opened(runs: dict[str, mn.Run]) -> None:
    path = runs["arrow"].path
    assert type(mn.Run(path).scenarios()) is pd.DataFrame
    assert type(mn.Run(path, frames="polars").scenarios()) is pl.DataFrame
    assert type(mn.Run(path).evaluate().to_frame("arrow")) is pa.Table
    assert mn.evaluate(mn.Run(path)).auc == runs["arrow"].evaluate().auc
    assert mn.Run(path).training.run == str(path)


def test_a_report_shows_itself_in_a_notebook_and_is_a_file_elsewhere(
    runs: dict[str, mn.Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_little(monkeypatch)
    monkeypatch.setattr(report, "find_browser", lambda: None)
    page = runs["pandas"].report(tmp_path / "page.html", listener=mn.SILENT)
    assert page.read_text().lower().startswith("<!doctype html>")
    html = page._repr_html_()
    assert html is not None
    assert html.startswith("<iframe srcdoc=")
    assert html.count("<iframe") == 1
    assert json.loads(json.dumps(str(page))) == str(tmp_path / "page.html")


def test_models_side_by_side_are_a_table_and_a_frame(tmp_path: Path, runs: dict[str, mn.Run]) -> None:
    experiment = runs["polars"].experiment
    small = {"hidden": [8], "embedding": 4}
    content: dict[str, Any] = experiment.content
    content["compare"] = {
        "seeds": 1,
        "models": {"plain": {"name": "base_model", **small}, "soft": {"name": "musenet", "scenarios": 2, **small}},
    }
    told: list[mn.Moment] = []
    found = mn.compare(content, tmp_path / "table", dataset=runs["polars"].dataset.folder, listener=told.append)
    frame = found.to_frame("pandas").set_index("model")
    assert list(frame.index) == ["plain", "soft"]
    for row in found.models:
        assert frame.loc[row.name, "auc"] == row.auc.mean
        assert f"{row.auc.mean:.4f}" in found._repr_html_()
    ends = [moment for moment in told if moment.name == "end"]
    assert [moment.of for moment in ends] == ["plain, seed 1", "soft, seed 1"]
    assert [moment.content["best"]["auc"] for moment in ends] == [row.valid_auc for row in found.models]


def test_a_listener_is_told_named_moments(tmp_path: Path, runs: dict[str, mn.Run]) -> None:
    told: list[mn.Moment] = []
    run = mn.train(
        runs["pandas"].experiment,
        tmp_path / "run",
        dataset=runs["pandas"].dataset.folder,
        overrides=["seed=2"],
        listener=told.append,
    )
    names = [moment.name for moment in told if moment.name in ("step", "validation", "kept", "end")]
    assert names[0] == "step"
    assert names.count("validation") == 2
    assert names[-1] == "end"
    kept = [moment.content for moment in told if moment.name == "kept"]
    assert kept[-1]["step"] == run.training.best["step"]
    assert kept[-1]["valid"]["auc"] == run.training.best["auc"]
    assert told[-1].content["stopped"] == run.training.stopped


@pytest.fixture(scope="module")
def tonight() -> pd.DataFrame:
    """The last requests in reverse order, with a column that nobody asks for."""
    rows = shop_frames()["impressions"].drop(columns="clicked").tail(60)
    return rows.assign(note=[f"n{row}" for row in range(60)]).iloc[::-1]


@pytest.fixture(scope="module")
def expected(runs: dict[str, mn.Run], tonight: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The scores of the same rows and events as files."""
    folder = tmp_path_factory.mktemp("files")
    tonight.to_parquet(folder / "tonight.parquet", index=False)
    shop_frames()["events"].to_parquet(folder / "events.parquet", index=False)
    rows = runs["pandas"].predict(folder / "tonight.parquet", folder / "out.parquet", events=folder / "events.parquet")
    assert rows == len(tonight)
    return pd.read_parquet(folder / "out.parquet")["score"].to_numpy()


@pytest.mark.parametrize("library", TYPES)
def test_frames_are_scored_in_their_order_and_come_back_as_they_were(
    runs: dict[str, mn.Run], tonight: pd.DataFrame, expected: Any, library: str
) -> None:
    rows, events = LIBRARIES[library](tonight), LIBRARIES[library](shop_frames()["events"])
    found = runs["pandas"].predict(rows, events=events)
    assert type(found) is TYPES[library]
    table = pa.table(found)
    np.testing.assert_allclose(table["score"].to_numpy(), expected, atol=1e-6)
    assert table["note"].to_pylist() == tonight["note"].tolist()
    if library == "pandas":
        pd.testing.assert_frame_equal(found.drop(columns="score"), tonight)
    else:
        assert table.column_names == [*tonight.columns, "score"]


def test_a_duckdb_relation_comes_back_as_one(runs: dict[str, mn.Run], tonight: pd.DataFrame, expected: Any) -> None:
    found = runs["pandas"].predict(LIBRARIES["duckdb"](tonight), events=LIBRARIES["duckdb"](shop_frames()["events"]))
    assert type(found) is duckdb.DuckDBPyRelation
    np.testing.assert_allclose(found.to_arrow_table()["score"].to_numpy(), expected, atol=1e-6)


def test_what_is_done_without_events_is_said(runs: dict[str, mn.Run], tonight: pd.DataFrame, expected: Any) -> None:
    with pytest.warns(UserWarning, match="no histories are given"):
        found = runs["pandas"].predict(tonight)
    assert not np.allclose(found["score"], expected)
    explained = runs["pandas"].predict(tonight, events=shop_frames()["events"], explain=True)
    np.testing.assert_allclose(explained["score"], expected, atol=1e-6)
    np.testing.assert_allclose(explained[["probability_0", "probability_1"]].sum(axis=1), 1, atol=1e-6)


def test_mistakes_of_frames_are_one_sentence(runs: dict[str, mn.Run], tonight: pd.DataFrame, tmp_path: Path) -> None:
    run = runs["pandas"]
    with pytest.raises(DataError, match=r"the frame lacks .*item_id"):
        run.predict(tonight.drop(columns="item_id"), events=shop_frames()["events"])
    with pytest.raises(DataError, match="the frame holds no rows"):
        run.predict(tonight.head(0), events=shop_frames()["events"])
    with pytest.raises(UserError, match="give `out` with files alone"):
        run.predict(tonight, tmp_path / "out.parquet")
    with pytest.raises(UserError, match="give `out` with files alone"):
        run.predict(tmp_path / "in.parquet")


def test_an_export_of_other_weights_is_replaced(
    runs: dict[str, mn.Run], tonight: pd.DataFrame, expected: Any, tmp_path: Path
) -> None:
    copied = mn.Run(shutil.copytree(runs["pandas"].path, tmp_path / "run"))
    manifest = copied.path / "export" / "manifest.json"
    version = mn.Scorer(copied.path / "export").version
    manifest.write_text(manifest.read_text().replace(version, "shop-of-others"))
    assert mn.Scorer(copied.path / "export").version == "shop-of-others"
    found = copied.predict(tonight, events=shop_frames()["events"])
    assert mn.Scorer(copied.path / "export").version == version
    np.testing.assert_allclose(found["score"], expected, atol=1e-6)
