"""Each call that README.md and the docs show is made: the Python blocks of every page, in order, on small logs."""

import re
from pathlib import Path
from typing import Any

import pytest

import musenet
from frame_logs import shop_frames
from musenet.reporting.pages import report
from places import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = {page.name: FENCED.findall(page.read_text(encoding="utf-8")) for page in PAGES}
SMALLER = {"impressions=2_000_000": "impressions=20_000", "scale=0.01": "scale=0.001"}
"""Sizes that a page shows and that no test waits for."""
TINY = ["model.hidden=[4]", "model.embedding=2", "training.epochs=1", "training.threads=1", "data.timezone=UTC"]


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


def test_calls_are_shown() -> None:
    assert len(BLOCKS["python.md"]) >= 5
    assert sum(map(len, BLOCKS.values())) >= 11


@pytest.mark.parametrize("page", [name for name, blocks in BLOCKS.items() if blocks])
def test_the_python_of_a_page_runs(page: str, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
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
        "run": "runs/hotels",
        "dataset": "datasets/hotels",
        "request": {"user": 1, "candidates": [{"item": 1}]},
    }
    for block in BLOCKS[page]:
        text = block
        for size, smaller in SMALLER.items():
            text = text.replace(size, smaller)
        exec(compile(text, page, "exec"), names)
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
