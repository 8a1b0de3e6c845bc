"""The demo from an empty folder: what it leaves, what it finds again, what it refuses."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from musenet import api
from musenet.api import demos
from musenet.cli import main as cli
from musenet.errors import UserError
from musenet.studies.comparison.results import Comparison
from musenet.studies.demo import Demo
from shown_runs import measure_little

SMALL = ["--impressions", "20000", "--set", "training.epochs=1", "--set", "training.batch_size=2048"]
BASE = "base model (repeat features)"
ROWS = f"{{{BASE}: {{name: base_model, hidden: [4]}}, musenet soft: {{name: musenet, hidden: [4]}}}}"


@pytest.mark.slow
def test_a_folder_is_all_that_the_demo_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    measure_little(monkeypatch)
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # trained here: processes of their own begin for seconds
    command = ["demo", "--out", "demo", *SMALL, "--set", f"compare.models={ROWS}"]
    assert cli.run(command) == 0
    printed = capsys.readouterr().out
    for shown in (
        "ΔAUC to",
        "repeat intention",
        "The report: demo/report.html",
        "The configuration: demo/demo.yaml",
    ):
        assert shown in printed
    assert Path("demo/report.html").stat().st_size > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    compared = Comparison.read(Path("demo/comparison.json"))
    assert [row.name for row in compared.models] == [BASE, "musenet soft"]

    made = [
        *Path("demo/log").iterdir(),
        Path("demo/dataset/manifest.json"),
        *Path("demo").glob("*/*/model.safetensors"),
    ]
    assert len(made) == 4 + 1 + 2
    before = {file: file.stat() for file in made}
    assert cli.run([*command, "--json"]) == 0
    found = Demo.model_validate(json.loads(capsys.readouterr().out))
    assert found.config == Path("demo/demo.yaml")
    assert found.comparison == compared
    assert {file: file.stat() for file in made} == before

    assert cli.run(["demo", "--out", "demo", "--impressions", "30000"]) == 2
    assert "demo/log is not the demo's log of 30,000 impressions: name another" in capsys.readouterr().err
    assert {file: file.stat() for file in made} == before


def test_what_the_demo_cannot_do_is_said_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").touch()
    Path("mine.yaml").touch()
    for arguments, sentence in {
        ("--out", "taken"): "taken is a file: name a folder for the demo with --out",
        ("--out", "taken/demo"): "taken",
        ("--out", "s3://bucket/demo"): "s3://bucket/demo: this is written to local folders only",
        ("--impressions", "20"): "demo: impressions: Input should be greater than or equal to 20000 (found 20)",
        ("mine.yaml", "--impressions", "20000"): "--impressions is for the bundled log",
        ("--set", "compare.models={base: {name: base_model}}"): "'musenet soft' is none of the models: base",
    }.items():
        assert cli.run(["demo", *arguments]) == 2
        (told,) = capsys.readouterr().err.splitlines()
        assert sentence in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml", "taken"]


def test_the_report_is_not_missed_after_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demos, "find_spec", lambda package: None if package == "plotly" else find_spec(package))
    with pytest.raises(UserError, match=r"the demo's report needs the package plotly: .* 'musenet\[report\]'"):
        api.demo(out=tmp_path / "demo")
    assert not list(tmp_path.iterdir())
