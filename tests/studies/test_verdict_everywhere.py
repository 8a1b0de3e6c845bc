"""One verdict: the terminal, the JSON, the HTML and the Markdown of a comparison say the same."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from musenet import api
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.reporting.pages.report import write_report
from musenet.runs.run import Run
from musenet.studies.comparison.table import show
from shown_runs import measure_little

SMALL = {"hidden": [4], "embedding": 2}
MUSENET = {"name": "musenet", "scenarios": 2, **SMALL}
MODELS = {
    "MUSENET": MUSENET,
    "Wide&Deep": {"name": "wide_deep", **SMALL},
    "wide net": {"name": "base_model", **SMALL},
    "softmax (gate)": MUSENET | {"assignment": "gate"},
    "as in the paper": MUSENET | {"objective": "paper"},
}
ROLES = {
    "MUSENET": "musenet",
    "Wide&Deep": "baseline",
    "wide net": "baseline",
    "softmax (gate)": "control",
    "as in the paper": "control",
}


def words(text: str) -> str:
    return " ".join(re.sub(r"\\([&()|*_~-])", r"\1", text).replace("&amp;", "&").split())


def test_the_verdict_is_the_same_wherever_it_stands(
    make_experiment: Callable[..., Experiment],
    tiny_dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    measure_little(monkeypatch)
    monkeypatch.setattr("musenet.api.studies.prepared_dataset", lambda *_: tiny_dataset)
    experiment = make_experiment(compare={"models": MODELS, "seeds": 1})
    comparison = api.compare(experiment, tmp_path)
    content = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert {row["name"]: row["role"] for row in content["models"]} == ROLES
    verdict = content["verdict"]
    assert verdict["best_baseline"]["model"] in ("Wide&Deep", "wide net")
    assert verdict["best_control"]["model"] in ("softmax (gate)", "as in the paper")
    assert verdict["sentence"] == comparison.verdict.sentence
    assert verdict["outcome"] == comparison.verdict.outcome
    printed = io.StringIO()
    show(comparison, Console(file=printed, width=80))
    run = Run.open(tmp_path / "MUSENET" / "seed-1")
    pages = [write_report(run, tmp_path / "pages" / name).read_text("utf-8") for name in ("report.html", "report.md")]
    table = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    for text in (printed.getvalue(), table, *pages):
        assert verdict["sentence"] in words(text)
        assert comparison.verdict.title in words(text)
