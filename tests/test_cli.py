"""The command line as a user meets it: what it prints, what it says of mistakes, how it ends."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from musenet import api
from musenet.cli import main as cli
from musenet.dataset.dataset import Dataset
from musenet.errors import UserError
from musenet.workspace import MANIFEST
from places import ROOT
from shown_runs import measure_little

DAY = 86_400
USERS, ITEMS, REQUESTS, CANDIDATES = 12, 15, 120, 3

Columns = dict[str, Any]
CONFIG: dict[str, Any] = {
    "name": "shop",
    "data": {
        "source": "own_files",
        "impressions": {
            "path": "impressions.parquet",
            "user": "user",
            "item": "item",
            "time": "shown_at",
            "label": "clicked",
            "request": "page",
        },
    },
    "features": {"context": ["device"], "candidate": [{"price": {"numeric": "standardise"}}]},
    "history": {"columns": ["item"], "length": 5},
    "repeat": {"key": ["item"]},
    "split": {"parts": 6},
    "model": {"name": "musenet", "scenarios": 2, "hidden": [4], "embedding": 2},
    "training": {"epochs": 1, "batch_size": 128, "validations_per_epoch": 1, "threads": 1},
    "compare": {"models": {"base": {"name": "base_model", "hidden": [4]}, "musenet": {"name": "musenet"}}, "seeds": 1},
}


def columns() -> Columns:
    """A log of pages with three items each, one page every six hours."""
    random = np.random.default_rng(0)
    page = np.repeat(np.arange(REQUESTS), CANDIDATES)
    item = np.concatenate([random.permutation(ITEMS)[:CANDIDATES] for _ in range(REQUESTS)])
    return {
        "user": [f"u{user}" for user in random.integers(0, USERS, REQUESTS)[page]],
        "item": [f"i{number}" for number in item],
        "shown_at": 1_700_000_000 + page * DAY // 4,
        "clicked": (random.random(len(page)) < 0.3).astype(np.int8),
        "page": page,
        "device": np.array(["phone", "desktop"])[random.integers(0, 2, REQUESTS)][page],
        "price": random.normal(10, 2, len(page)),
        "truth": random.integers(0, 2, REQUESTS)[page],
    }


def write_log(folder: Path, config: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A log and its configuration; a change to None leaves a column out."""
    table = {name: column for name, column in (columns() | changes).items() if column is not None}
    pq.write_table(pa.table(table), folder / "impressions.parquet")
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(CONFIG | (config or {}), sort_keys=False))
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the small log, trained once."""
    folder = tmp_path_factory.mktemp("trained")
    api.train(write_log(folder), folder / "run", dataset=folder / "dataset")
    return folder / "run"


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration beside its log, with a true scenario; runs that one test has trained, another finds."""
    return write_log(tmp_path_factory.mktemp("studied"), {"true_scenario": "truth"})


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence with which a command refuses; nothing goes to standard output, no traceback anywhere."""
    status = cli.run(arguments)
    printed = capsys.readouterr()
    complaint = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert (status, len(complaint), printed.out) == (2, 1, ""), printed.err
    assert printed.err.rstrip().endswith(complaint[0])
    assert "Traceback" not in printed.err
    return complaint[0]


@pytest.mark.parametrize("command", [[], ["simulate"]])
def test_a_command_alone_shows_its_help_and_no_more(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(command) == 2
    printed = capsys.readouterr()
    assert "Usage: musenet" in printed.out
    assert printed.err == ""


# What is wrong with the configuration → what the sentence must say.
MISTAKES_IN_VALUES = {
    "misspelt key": (["--set", "traning.epochs=2"], "did you mean 'training'"),
    "misspelt key below": (["--set", "training.epoch=2"], "did you mean 'epochs'"),
    "wrong type": (["--set", "training.epochs=many"], "training.epochs"),
    "--set without a value": (["--set", "training.epochs"], "key.path=value"),
    "--set below a value": (["--set", "seed.value=1"], "seed"),
    "unknown model": (["--set", "model.name=musnet"], "musnet"),
    "another model's key": (
        ["--set", "model={name: din, scenarios: 4}"],
        "model.scenarios: there is no key 'scenarios' of din; there are name, embedding, ids",
    ),
    "misspelt key of a model": (
        ["--set", "model={name: din, atention_hidden: 8}"],
        "of din; did you mean 'attention_hidden'?",
    ),
    "no scenarios": (["--set", "model.scenarios=0"], "model.scenarios"),
    "unknown feature type": (["--set", "features.context=[{device: {numeric: logarithm}}]"], "features.context"),
    "unknown feature": (["--set", "features.context=[devise]"], "did you mean 'device'"),
    "split leaves nothing": (["--set", "split={test: 400 days, valid: 1 day}"], "split"),
    "split is no duration": (["--set", "split={test: a week, valid: 1 day}"], "not a duration"),
    "split has no end": (["--set", "split={test: .inf, valid: 1 day}"], "split.test"),
    "true scenario is a feature": (["--set", "true_scenario=device"], "never a feature"),
    "places in lists of sampled negatives": (
        ["--set", "features.relative=true", "--set", "negatives={per_request: 3}"],
        "features.relative: with sampled negatives",
    ),
    "places in lists of which negatives were left out": (
        ["--set", "features.relative=true", "--set", "data.negative_sampling_rate=0.5"],
        "features.relative: the log keeps 0.5 of the negatives",
    ),
    "no true scenario": (["--set", "model.assignment=true"], "true_scenario"),
    "no predefined scenario": (["--set", "model.assignment=predefined"], "predefined_scenario"),
    "context differs inside requests": (["--set", "features.context=[device, truth, price]"], "price"),
}


@pytest.mark.parametrize("mistake", MISTAKES_IN_VALUES)
def test_a_mistake_in_the_configuration_is_one_sentence(
    mistake: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, sentence = MISTAKES_IN_VALUES[mistake]
    if mistake == "context differs inside requests":
        changes = [*changes, "--set", "features.candidate=[]"]
    assert sentence in refused(["train", str(write_log(here)), *changes], capsys)


# What is wrong with the log → what the sentence must say; `sources/test_own_files_mistakes.py` has those of its files.
MISTAKES_IN_LOGS: dict[str, tuple[Callable[[], Columns], str]] = {
    "text in every label": (lambda: {"clicked": ["maybe"] * (REQUESTS * CANDIDATES)}, "clicked"),
    "a test period without positives": (
        lambda: {"clicked": columns()["clicked"] * (columns()["page"] < REQUESTS * 4 // 6)},
        "positive",
    ),
    "several users in a request": (
        lambda: {"user": [f"u{row % 5}" for row in range(REQUESTS * CANDIDATES)]},
        "user",
    ),
    "nothing was clicked": (lambda: {"clicked": np.zeros(REQUESTS * CANDIDATES, np.int8)}, "positive"),
}


@pytest.mark.parametrize("mistake", MISTAKES_IN_LOGS)
def test_a_mistake_in_the_log_is_one_sentence(mistake: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes, sentence = MISTAKES_IN_LOGS[mistake]
    assert sentence in refused(["prepare", str(write_log(here, **changes()))], capsys)


def test_a_mistake_in_a_path_is_one_sentence(here: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_log(here)
    assert "there is no file nowhere.yaml" in refused(["train", "nowhere.yaml"], capsys)
    assert "does not exist" in refused(["evaluate", "nowhere"], capsys)
    assert "holds no run" in refused(["evaluate", str(here)], capsys)
    assert "never overwritten" in refused(["init", "impressions.parquet", "--out", str(config)], capsys)
    assert "is not a run folder" in refused(["compare", str(trained), "nowhere"], capsys)
    assert ".parquet or .csv" in refused(["scenarios", str(trained), "--out", "s.xlsx"], capsys)
    (here / "broken.yaml").write_text("name: [")
    assert "not valid YAML" in refused(["prepare", "broken.yaml"], capsys)
    (here / "list.yaml").write_text("- name")
    assert "must hold keys" in refused(["prepare", "list.yaml"], capsys)
    assert "impressions" in refused(["simulate", "hotels", "--out", "hotels", "--impressions", "5"], capsys)
    assert "scale" in refused(["simulate", "ads", "--out", "ads", "--scale", "2"], capsys)
    assert "a drift needs a shift above 0" in refused(["simulate", "hotels", "--out", "h", "--drift", "slow"], capsys)


def test_a_mistake_in_the_command_line_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert "evaluate" in refused(["evaluat", "run"], capsys)
    resume = refused(["train", "shop.yaml", "--resum"], capsys)
    assert "--resume" in resume
    assert "see `musenet train --help`" in resume
    assert "--split" in refused(["evaluate", "run", "--split", "future"], capsys)
    assert "RUN" in refused(["evaluate"], capsys)


def test_a_damaged_manifest_is_made_anew_if_asked_and_refused_by_evaluate(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_log(here)
    assert cli.run(["train", str(config)]) == 0
    manifest = Path("datasets/shop") / MANIFEST
    manifest.write_text(manifest.read_text()[:100])
    for file in Path("runs/shop/predictions").glob("*"):
        file.unlink()
    capsys.readouterr()
    assert "prepare the dataset again" in refused(["evaluate", "runs/shop"], capsys)
    assert "--replace" in refused(["prepare", str(config)], capsys)  # what it held cannot be known
    assert cli.run(["prepare", str(config), "--replace"]) == 0
    assert cli.run(["evaluate", "runs/shop"]) == 0


def test_every_command_ends_with_one_json_object(
    studied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(studied.parent)
    config = str(studied)

    def answer(*arguments: str) -> dict[str, Any]:
        assert cli.run([*arguments, "--json"]) == 0
        printed = capsys.readouterr()
        assert printed.out.count("\n") == 1
        found: dict[str, Any] = json.loads(printed.out)
        return found

    prepared = answer("prepare", config)
    assert (prepared["requests"], prepared["candidates"]) == (REQUESTS, REQUESTS * CANDIDATES)
    trained = answer("train", config)
    assert {"run", "best", "seconds", "samples_per_second", "stopped"} <= set(trained)
    assert set(trained["best"]) == {"step", "epoch", "auc", "logloss"}
    assert answer("train", config, "--resume") == trained
    evaluated = answer("evaluate", trained["run"], "--out", "evaluation.json")
    assert evaluated == json.loads(Path("evaluation.json").read_text())
    assert evaluated["protocol"].count("\n") == 0
    adapted = answer("evaluate", trained["run"], "--dataset", prepared["dataset"], "--adapt")
    assert adapted["unadapted"] == evaluated
    handed_out = answer("scenarios", trained["run"], "--out", "scenarios.parquet")
    assert (handed_out["rows"], len(handed_out["scenarios"])) == (REQUESTS, 2)
    compared = answer("compare", config, "--out", "compared", "--models", "base,musenet", "--seeds", "1")
    assert [row["name"] for row in compared["models"]] == ["base", "musenet"]
    again = answer("compare", "compared/base/seed-1", "compared/musenet/seed-1")
    assert again["models"][1]["auc"] == compared["models"][1]["auc"]
    ablated = answer("ablate", config, "--models", "soft w/o M2,soft", "--seeds", "1")
    assert ablated == json.loads(Path("runs/shop/ablation/ablation.json").read_text())
    assert [(step["lower"], step["upper"]) for step in ablated["order"]] == [("soft w/o M2", "soft")]
    around = ("--parameter", "model.scenarios=1,2", "--parameter", "model.embedding=3", "--models", "musenet soft")
    swept = answer("sweep", config, "--seeds", "1", *around)
    assert swept == json.loads(Path("runs/shop/sweep/sweep.json").read_text())
    assert [(line["parameter"], line["configured"]) for line in swept["lines"]] == [
        ("model.scenarios", 2),
        ("model.embedding", 2),
    ]
    assert [[point["value"] for point in line["points"]] for line in swept["lines"]] == [[1, 2], [2, 3]]
    written = answer("init", "impressions.parquet", "--out", "guessed.yaml")
    assert Path(written["config"]).is_file()


def test_people_read_tables(trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.run(["evaluate", str(trained)]) == 0
    printed = capsys.readouterr().out
    assert "AUC" in printed
    assert "as logged" in printed
    assert cli.run(["scenarios", str(trained), "--out", str(tmp_path / "s.csv")]) == 0
    assert "scenario 1" in capsys.readouterr().out
    assert cli.run(["compare", str(trained)]) == 0
    assert "weights chosen on validation" in " ".join(capsys.readouterr().out.split())


def test_runs_are_scored_on_another_dataset_that_they_can_read(
    here: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = columns()["page"] >= REQUESTS * 5 // 6
    config = write_log(here, clicked=np.where(later, columns()["price"] > 10.5, columns()["clicked"]).astype(np.int8))
    assert cli.run(["prepare", str(config), "--out", "other"]) == 0
    capsys.readouterr()
    assert cli.run(["compare", str(trained), "--dataset", "other", "--reference", "run", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    (row,) = compared["models"]
    assert compared["where_trained"]["scored"] == "other"
    assert row["loss"]["value"] == pytest.approx(row["auc_where_trained"]["mean"] - row["auc"]["mean"])
    assert "no row is called 'musenet'; there are run" in refused(
        ["compare", str(trained), "--reference", "musenet"], capsys
    )
    assert "--set compare.reference=LABEL" in refused(["compare", str(config), "--reference", "musenet"], capsys)
    assert "compare.adapted" in refused(["compare", str(config), "--adapt"], capsys)
    for asked in (["--seeds", "3"], ["--models", "musenet"], ["--jobs", "2"], ["--set", "seed=2"]):
        assert "are for a configuration" in refused(["compare", str(trained), *asked], capsys)
    device = np.array(["tablet", "desktop"])[np.arange(REQUESTS) % 2][columns()["page"]]
    assert cli.run(["prepare", str(write_log(here, device=device)), "--out", "tablets"]) == 0
    capsys.readouterr()
    sentence = refused(["compare", str(trained), "--dataset", "tablets"], capsys)
    assert sentence == (
        f"error: tablets cannot be scored by runs of {trained.parent / 'dataset'}, it differs in vocabularies device: "
        "prepare it by the runs' own configuration, from a log that is the same up to the test period"
    )
    assert "holds no prepared dataset" in refused(["compare", str(trained), "--dataset", "nowhere"], capsys)


def test_the_schema_names_every_part_of_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["config-schema"]) == 0
    assert set(CONFIG) <= set(json.loads(capsys.readouterr().out)["properties"])


def test_people_read_ablations_and_sweeps(
    studied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(studied.parent)
    config = str(studied)
    assert cli.run(["ablate", config, "--models", "soft w/o M2,soft", "--seeds", "1"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "The paper's order of rows" in printed
    assert "predefined scenarios is left out" in printed
    assert (
        cli.run(["sweep", config, "--parameter", "model.scenarios=1", "--models", "musenet soft", "--seeds", "1"]) == 0
    )
    printed = capsys.readouterr().out
    assert "musenet soft, model.scenarios" in printed
    assert "2 (configured)" in printed
    assert "model.scenario=" in refused(["sweep", config, "--parameter", "model.scenario="], capsys)
    assert "ablate has no 'gate'" in refused(["ablate", config, "--models", "gate"], capsys)


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (UserError("mend this"), 2, "mend this"),
        (KeyboardInterrupt(), 130, "--resume"),
        (OSError(28, "No space left on device", "/data/x"), 1, "the disk is full"),
        (RuntimeError("PytorchStreamWriter failed: No space left on device"), 1, "the disk is full"),
        (KeyError("surprise"), 1, "the traceback is saved in"),
    ],
)
def test_whatever_goes_wrong_is_one_sentence(
    error: BaseException,
    status: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def fail(*_: object, **__: object) -> Dataset:
        raise error

    monkeypatch.setattr(api, "prepare", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    config = tmp_path / "x.yaml"
    config.touch()
    assert cli.run(["prepare", str(config)]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
    saved = list(tmp_path.glob("musenet-error-*.txt"))
    assert len(saved) == ("traceback" in sentence)
    assert all(str(file) in line and "KeyError" in file.read_text() for file in saved)


def test_help_and_misspelt_paths_are_answered_without_loading_what_computes() -> None:
    heavy = {"torch", "duckdb", "ibis", "pyarrow", "polars", "numpy", "scipy", "sklearn"}
    end = f"sys.exit(status or {heavy} & set(sys.modules) or 0)"
    misspelt = [["train", "no.yaml"], ["compare", "no.yaml"], ["demo", "no.yaml"], ["evaluate", "no"], ["report", "no"]]
    refused = f"status |= sum(cli.run(line) != 2 for line in {misspelt})"
    script = f"import sys; from musenet.cli import main as cli; status = cli.run(['--help']); {refused}; {end}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == len(misspelt)
    assert done.stderr.count("there is no file no.yaml: give") == 3
    assert done.stderr.count("no does not exist: give the folder that `musenet train` wrote") == 2
    assert {"train", "compare", "scenarios"} <= set(re.findall(r"\w+", done.stdout))


def test_logs_are_read_without_pytorch(tmp_path: Path) -> None:
    """With every model among the configuration's rows, up to the path that does not exist."""
    config = yaml.safe_load((ROOT / "configs" / "hotels.yaml").read_text(encoding="utf-8"))
    config["data"]["impressions"]["path"] = "no.parquet"
    (tmp_path / "hotels.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    commands = ["prepare", "train", "tune", "compare", "ablate", "sweep", "backtest", "demo"]
    run = f"for name in {commands}: assert cli.run([name, sys.argv[1]]) == 2"
    script = f"import sys; from musenet.cli import main as cli\n{run}\nsys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", script, str(tmp_path / "hotels.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert len(re.findall(r"there is no file \S+no\.parquet", done.stderr)) == len(commands)


def test_the_entry_point_ends_with_the_status(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "musenet.cli.main", "evaluate", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"NO_COLOR": "1"})
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, by two workers."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "musenet"]
    environment = os.environ | {"NO_COLOR": "1"}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
def test_two_workers_prepare_train_and_speak_once(here: Path) -> None:
    config, precise = str(write_log(here)), ["--set", "training.precision=float64"]
    done = torchrun("train", config, "--out", "two", "--json", *precise)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)["best"]
    expected = api.train(config, "one", overrides=precise[1:]).training.best
    assert found == pytest.approx(expected, abs=1e-9)
    for split in ("valid", "test"):
        one, two = (pq.read_table(here / run / "predictions" / f"{split}.parquet") for run in ("one", "two"))
        np.testing.assert_allclose(two["logit"].to_numpy(), one["logit"].to_numpy(), rtol=0, atol=1e-8)


@pytest.mark.slow
def test_a_mistake_is_told_by_the_first_of_two_workers(here: Path) -> None:
    done = torchrun("train", str(write_log(here, **{"clicked": None})))
    assert done.returncode != 0
    complaints = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(complaints) == 1, done.stderr
    assert "clicked" in complaints[0]


@pytest.mark.slow
def test_the_demo_compares_describes_and_reports(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_little(monkeypatch)
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # trained here: processes of their own begin for seconds
    config = str(write_log(here))
    assert cli.run(["demo", config, "--out", "demo", "--set", "compare.models.musenet.hidden=[4]"]) == 0
    printed = capsys.readouterr().out
    assert "ΔAUC to" in printed
    assert "repeat intention" in printed
    assert "demo/report.html" in printed
    assert Path("demo/report.html").stat().st_size > 1000
    base_only = ["--set", "compare.models={base: {name: base_model}}"]
    assert "no musenet with soft scenarios" in refused(["demo", config, "--out", "demo", *base_only], capsys)


def test_a_report_is_html_or_markdown(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measure_little(monkeypatch)
    page, note = tmp_path / "page.md", tmp_path / "note.md"
    note.write_text("Little was learned.")
    assert cli.run(["report", str(trained), "--out", str(page), "--note", str(note), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(page)}
    assert "## What was learned\n\nLittle was learned." in page.read_text(encoding="utf-8")
    assert "ends in neither .html nor .md" in refused(["report", str(trained), "--out", "page.txt"], capsys)
    assert "cannot be read" in refused(["report", str(trained), "--note", "nowhere.md"], capsys)
