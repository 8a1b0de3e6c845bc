"""Each call that README.md and the docs show is made: Python blocks of pages and cells of notebooks, on small logs."""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import musenet
from frame_logs import shop_frames
from musenet.reporting.pages import report
from places import ROOT
from shown_runs import measure_little

pytestmark = pytest.mark.usefixtures("graphs_traced_once")

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = {page.name: FENCED.findall(page.read_text(encoding="utf-8")) for page in PAGES}
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
SMALLER = {
    r"impressions=\d+_000(_000)?": "impressions=20_000",
    r"scale=0\.01": "scale=0.001",
    r"\.epochs = \d+": ".epochs = 1",
    r'(experiment\.name = "hotels"|experiment\.model\.ids = \[\])': r"\1; experiment.model.scenarios = 2",
    r'"scenarios": 4': '"scenarios": 2',
}
"""Sizes that a page shows and that no test waits for."""
TINY = [
    "model.scenarios=2",
    "model.hidden=[4]",
    "model.embedding=2",
    "training.epochs=1",
    "training.threads=1",
    "data.timezone=UTC",
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages speak of: the hotels' configuration, a run of it and an export, all small."""
    folder = tmp_path_factory.mktemp("docs")
    musenet.simulate_hotels(folder / "data" / "hotels", impressions=20_000)
    configuration = musenet.load(ROOT / "configs" / "hotels.yaml", TINY)
    content = configuration.content
    for name in ("impressions", "events", "users", "items"):
        content["data"][name]["path"] = f"../data/hotels/{Path(content['data'][name]['path']).name}"
    (folder / "configs").mkdir()
    (folder / "configs" / "hotels.yaml").write_text(str(musenet.Experiment.read(content)))
    run = musenet.train(
        folder / "configs" / "hotels.yaml",
        folder / "runs" / "hotels",
        dataset=folder / "datasets" / "hotels",
        listener=musenet.SILENT,
    )
    run.export(folder / "exports" / "hotels")
    return folder


def smaller(text: str) -> str:
    for size, small in SMALLER.items():
        text = re.sub(size, small, text)
    return text


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def with_value(text: str) -> tuple[ast.Module, ast.Expression | None]:
    """A cell's statements, and apart what a notebook shows: the expression that it ends with, if it does."""
    *done, last = ast.parse(text).body
    if isinstance(last, ast.Expr):
        return ast.Module(done, []), ast.Expression(last.value)
    return ast.Module([*done, last], []), None


def test_calls_are_shown() -> None:
    assert len(BLOCKS["python.md"]) >= 5
    assert sum(map(len, BLOCKS.values())) >= 11


@pytest.mark.parametrize("page", [name for name, blocks in BLOCKS.items() if blocks])
def test_the_python_of_a_page_runs(page: str, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    measure_little(monkeypatch)
    monkeypatch.setattr(report, "find_browser", lambda: None)
    for name in ("configs", "data", "datasets", "exports"):
        (tmp_path / name).symlink_to(workplace / name)
    if page not in ("python.md", "README.md"):
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "hotels").symlink_to(workplace / "runs" / "hotels")
    else:
        (tmp_path / "datasets").unlink()
    frames = shop_frames()
    names: dict[str, Any] = {
        "shown": frames["impressions"],
        "clicks": frames["events"],
        "users": frames["users"],
        "hotels": frames["items"],
        "tonight": frames["impressions"].drop(columns="clicked").tail(20),
        "run": "runs/hotels",
        "dataset": "datasets/hotels",
        "request": {"user": 1, "candidates": [{"item": 1}]},
    }
    for block in BLOCKS[page]:
        exec(compile(smaller(block), page, "exec"), names)
    if page == "python.md":
        assert names["run"].path == Path("runs/hotels")
        assert len(names["comparison"].models) == 2
        assert names["page"].is_file()
        assert names["scores"]


def test_every_command_is_a_call_and_every_call_is_told_of() -> None:
    from musenet.cli.main import COMMANDS

    calls = {command.__name__ for command in COMMANDS} | {"config_schema", "simulate_hotels", "simulate_ads"}
    assert calls <= set(musenet.__all__)
    told = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "python.md").read_text().split("## All calls")[1]))
    assert told >= set(musenet.__all__) - {"__version__"}


@pytest.fixture
def names_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Runs a notebook's cells, one after the other; what there is at its end, and as `shown` what they ended with."""
    monkeypatch.chdir(tmp_path)
    measure_little(monkeypatch)
    monkeypatch.setattr(report, "find_browser", lambda: None)

    def run(notebook: str) -> dict[str, Any]:
        names: dict[str, Any] = {}
        shown = []
        for cell in code_cells(ROOT / "docs" / "notebooks" / f"{notebook}.ipynb"):
            statements, value = with_value(smaller("".join(cell["source"])))
            exec(compile(statements, notebook, "exec"), names)
            if value is not None:
                shown.append(eval(compile(value, notebook, "eval"), names))
        return names | {"shown": shown}

    return run


def test_a_log_of_frames_becomes_scores_scenarios_and_a_report(names_of: Callable[[str], dict[str, Any]]) -> None:
    names = names_of("own-log")
    _, experiment, run, evaluation, scenarios, *_ = names["shown"]
    assert "impressions:" in repr(experiment)
    assert run.path == Path("runs/hotels")
    assert "Protocol" in evaluation._repr_html_()
    assert scenarios["confidence"].between(0, 1).all()
    pd.testing.assert_frame_equal(names["scores"].drop(columns="score"), names["tonight"])
    assert names["scores"]["score"].between(0, 1).all()
    assert names["page"]._repr_html_().startswith("<iframe")


def test_a_comparison_has_rivals_controls_and_seeds(names_of: Callable[[str], dict[str, Any]]) -> None:
    comparison = names_of("comparison")["comparison"]
    assert [row.role for row in comparison.models] == ["baseline", "control", "control", "musenet"]
    assert all(len(row.auc.per_seed) == 2 for row in comparison.models)
    assert comparison.row("musenet soft").agreement is not None
    assert comparison.verdict.best_control.model in ("one scenario (parameters of four)", "soft (permuted)")


def test_scenarios_are_named_and_joined_with_the_truth(names_of: Callable[[str], dict[str, Any]]) -> None:
    names = names_of("scenarios")
    requests, known = names["requests"], names["known"]
    named = requests.loc[requests["scenario"] == names["faithful"], "scenario_name"]
    assert set(named) <= {"routine stays"}
    assert len(known) == len(requests) > 0
    assert set(known["true_scenario"]) <= {0, 1, 2, 3}


def test_a_request_is_explained_and_a_mix_followed(names_of: Callable[[str], dict[str, Any]]) -> None:
    names = names_of("serve-and-adapt")
    answer = names["answer"]
    assert answer["unknown"]["missing"] == {}
    parts = [np.dot(answer["scenarios"], candidate["scenarios"]) for candidate in answer["candidates"]]
    assert parts == pytest.approx(answer["scores"], abs=1e-5)
    assert all(week.adaptation.answered > 0 for week in names["weeks"].values())
    assert names["weeks"]["as before"].positives != names["weeks"]["mix changed"].positives


def test_every_notebook_is_run_above() -> None:
    assert [notebook.stem for notebook in NOTEBOOKS] == ["comparison", "own-log", "scenarios", "serve-and-adapt"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_with_what_their_cells_showed(notebook: Path) -> None:
    """As `make notebooks` leaves them: executed once from top to bottom, without an error or a path of one machine."""
    text = notebook.read_text(encoding="utf-8")
    assert len(text) < 300_000, "an output is too large to keep"
    assert not re.search(r"/(home|tmp|root|work|Users)/", text)
    cells = code_cells(notebook)
    assert len(cells) <= 8
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "run `make notebooks`"
    for cell in cells:
        kinds = {output["output_type"] for output in cell["outputs"]}
        assert "error" not in kinds
        _, value = with_value("".join(cell["source"]))
        assert value is None or kinds & {"execute_result", "stream"}
