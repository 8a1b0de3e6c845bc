"""Each call that README.md and the docs show is made: the Python blocks of every page, in order, on small logs."""

import ast
import json
import re
from pathlib import Path
from typing import Any

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
SMALLER = {
    "impressions=2_000_000": "impressions=20_000",
    "impressions=200_000": "impressions=20_000",
    "scale=0.01": "scale=0.001",
    'experiment.name = "hotels"': 'experiment.name = "hotels"; experiment.model.scenarios = 2',
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
        text = text.replace(size, small)
    return text


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


def test_the_notebook_goes_from_frames_to_scores_scenarios_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cells, one after the other; what a cell ends with shows itself as a notebook would have it."""
    monkeypatch.chdir(tmp_path)
    measure_little(monkeypatch)
    monkeypatch.setattr(report, "find_browser", lambda: None)
    notebook = json.loads((ROOT / "docs" / "frames.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    shown = []
    for cell in (cell for cell in notebook["cells"] if cell["cell_type"] == "code"):
        text = smaller("".join(cell["source"]))
        *done, last = ast.parse(text).body
        exec(compile(ast.Module([*done, *([] if isinstance(last, ast.Expr) else [last])], []), "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    experiment, evaluation, scenarios, scores, page = shown
    assert "impressions:" in repr(experiment)
    assert "Protocol" in evaluation._repr_html_()
    assert scenarios["confidence"].between(0, 1).all()
    pd.testing.assert_frame_equal(scores.drop(columns="score"), names["tonight"].head())
    assert scores["score"].between(0, 1).all()
    assert page._repr_html_().startswith("<iframe")
