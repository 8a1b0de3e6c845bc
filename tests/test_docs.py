"""The docs keep step with the code: commands, options, keys, the demo's output, links; and they build as a site."""

import csv
import importlib.util
import io
import json
import math
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml
from rich.console import Console
from typer.testing import CliRunner

from musenet import __version__
from musenet.cli.main import app
from musenet.config.loading import load_experiment
from musenet.evaluation.evaluation import Evaluation
from musenet.evaluation.intervals import Interval
from musenet.evaluation.scenario_figures import ScenarioFigures
from musenet.files import json_ready
from musenet.portraits.contrasts import NumericContrast, ValueContrast
from musenet.portraits.portraits import Portrait, show_portraits
from musenet.runs.training_result import TrainingResult
from musenet.studies.ablation import Ablation, Step
from musenet.studies.comparison.results import METRICS, Comparison, Measured, Row
from musenet.studies.comparison.table import columns, show
from musenet.studies.comparison.verdict import Verdict
from musenet.studies.demo import Demo
from musenet.studies.sweep.sweep import Sweep, SweepLine, SweepPoint
from places import ROOT

PACKAGE = ROOT / "src" / "musenet"
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def load_refresh() -> ModuleType:
    spec = importlib.util.spec_from_file_location("refresh", ROOT / "docs" / "refresh.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


refresh = load_refresh()


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def documented_commands() -> dict[str, str]:
    """What docs/commands.md says of each command, by its name."""
    found: dict[str, str] = {}
    for part in read("docs/commands.md").split("\n## ")[1:]:
        head, _, body = part.partition("\n")
        if head.startswith("musenet "):
            found[" ".join(word for word in head.split()[1:] if re.fullmatch(r"[a-z-]+", word))] = body
    return found


def commands(group: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    whole: Any = typer.main.get_command(app)
    for name, command in (group or whole).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        elif not command.hidden:  # another name of one that is shown
            yield f"{prefix}{name}", command


def published_keys(command: str) -> set[str]:
    """Every key in the JSON that docs/commands.md shows for a command."""
    blocks = re.findall(r"```json\n(.*?)```", documented_commands()[command], re.DOTALL)
    return {key for block in blocks for key in _keys(json.loads(block))}


def _keys(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        yield from content
    for value in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from _keys(value)


def names(kind: Any) -> set[str]:
    return (
        set(kind.model_fields) | set(kind.model_computed_fields)
        if hasattr(kind, "model_fields")
        else {field.name for field in fields(kind)}
    )


def test_the_table_of_changing_mixes_is_that_of_its_figures() -> None:
    text, figures = read("docs/changing-mix.md"), read("docs/changing-mix.csv")
    assert text == refresh.changing_mix_text(text, figures), "run `make docs`"
    rows = [line for line in text.splitlines() if line.startswith("| sudden, shift 1 | dcn v2, fine-tuned |")]
    row = next(
        one
        for one in csv.DictReader(figures.splitlines())
        if one["model"] == "dcn v2, fine-tuned" and one["drift"] == "shift-1"
    )
    assert [f"{float(row['week']):.4f}" in line for line in rows] == [True]


def test_the_documented_commands_are_those_there_are():
    assert sorted(documented_commands()) == sorted(name for name, _ in commands())


@pytest.mark.parametrize("command", ["", "simulate", *(name for name, _ in commands())])
def test_help_fits_a_screen_and_gives_an_example_that_parses(command: str) -> None:
    told = CliRunner().invoke(app, [*command.split(), "--help"], terminal_width=80, env={"COLUMNS": "80"})
    lines = told.output.splitlines()
    assert told.exit_code == 0
    assert len(lines) <= 40, told.output
    assert max(map(len, lines)) <= 80
    if command in ("", "simulate"):  # what these list has examples of its own
        return
    found = dict(commands())[command]
    example = shlex.split(found.help.split("For example: musenet ")[1])
    assert example[: len(command.split())] == command.split()
    words = example[len(command.split()) :]
    known = {name: one for one in found.params for name in one.opts}
    given = [word for word in words if word.startswith("--")]
    assert set(given) <= known.keys()
    wanted = {name for name, one in known.items() if one.required and name.startswith("--")}
    assert wanted <= set(given)


@pytest.mark.parametrize("command", [name for name, _ in commands()])
def test_every_option_is_documented(command: str):
    options = [opt for param in dict(commands())[command].params for opt in param.opts if opt.startswith("--")]
    shown = re.findall(r"^\| `(--[\w-]+)` \|", documented_commands()[command], re.MULTILINE)
    assert sorted(shown) == sorted(option for option in options if option != "--help")


def test_published_json_keys_are_documented():
    assert published_keys("train") >= names(TrainingResult)
    assert published_keys("evaluate") >= names(Evaluation) | names(ScenarioFigures)
    assert published_keys("compare") >= (names(Comparison) | names(Row)) - {"missing"}
    assert published_keys("ablate") >= (names(Ablation) - names(Comparison)) | names(Step) | {"holds"}
    assert published_keys("sweep") >= names(Sweep) | names(SweepLine) | names(SweepPoint)
    assert published_keys("scenarios") >= names(Portrait)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_ready_configurations_are_valid(config: Path):
    assert load_experiment(config).name


def test_the_schema_is_that_of_the_code():
    assert read("configs/schema.json") == refresh.schema_text(), "run `make docs`"


def test_the_tables_of_keys_are_those_of_the_code():
    text = read("docs/configuration.md")
    assert text == refresh.configuration_text(text), "run `make docs`"
    assert sorted(refresh.documented_classes(text)) == sorted(
        [*json.loads(refresh.schema_text())["$defs"], "Experiment", refresh.SHARED]
    )
    assert not re.findall(r"^\| `\w+` \|.*\|  \|$", text, re.MULTILINE), "keys without a meaning"


def test_options_that_the_models_page_speaks_of_exist():
    schema = json.loads(refresh.schema_text())["$defs"]
    known = {key for definition in schema.values() for key in definition.get("properties", {})}
    part = read("docs/model.md").split("## Options, and when to change them")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*`) \|", part, re.MULTILINE)
    shown = {name for cell in cells for name in re.findall(r"`\.?([\w.]+)`", cell)}
    assert {name.rsplit(".", 1)[-1] for name in shown} <= known
    assert set(schema["MusenetOptions"]["properties"]) - {"name", "objective"} <= {
        name.split(".", 1)[0] for name in shown
    }


def test_the_ablations_and_controls_of_the_models_page_are_valid():
    part = read("docs/model.md").split("## Ablations and controls")[1]
    shown = re.findall(r"^\| [^|]+ \| `(\{name: [^`]*\})`", part, re.MULTILINE)
    assert len(shown) == 15
    for model in shown:
        load_experiment(ROOT / "configs" / "hotels.yaml", [f"model={model}"])


@pytest.fixture
def demo() -> dict[str, Any]:
    """The JSON that the last demo left in the docs."""
    if not refresh.DEMO.is_file():
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail("docs/demo.json is missing: run `make demo-docs`")
        pytest.skip("the demo's output is not in the docs yet")
    content: dict[str, Any] = json.loads(refresh.DEMO.read_text(encoding="utf-8"))
    return content


def test_the_output_that_is_shown_is_what_the_demo_prints(demo: dict[str, Any]):
    assert refresh.shown_block(read("docs/start-here.md")) == f"```text\n{refresh.demo_text(demo)}```\n", (
        "run `make demo-docs`"
    )


def test_the_demo_in_the_docs_is_that_of_its_configuration(demo: dict[str, Any]):
    experiment = load_experiment(ROOT / "configs" / "demo.yaml")
    comparison, options = refresh.comparison_of(demo["comparison"]), experiment.compare
    assert comparison.data == experiment.name
    assert [row.name for row in comparison.models] == list(options.models)
    assert comparison.seeds == list(range(experiment.seed, experiment.seed + options.seeds))
    first = next(iter(options.models))
    assert (comparison.reference, comparison.base) == (options.reference or first, options.base or first)
    block = refresh.shown_block(read("docs/start-here.md"))
    for head in columns(comparison):
        assert all(line in block for line in head.split("\n"))
    assert refresh.without_times(demo) == demo, "times of one machine"


NO_VERDICT = Verdict(reference="base [b]", best_baseline=None, best_control=None, outcome="unknown", not_beaten=[])


def row(name: str, **changes: Any) -> Row:
    interval = Interval(0.7, 0.65, math.nan)
    content: dict[str, Any] = {
        "name": name,
        **dict.fromkeys(METRICS, Measured(0.7, 0.65, math.nan, [0.7])),
        "rela_impr": interval,
        "difference_to": {
            "model": "base [b]",
            "value": 0.01,
            "low": 0.0,
            "high": math.nan,
            "p": 0.5,
            "standard_error": 0.01,
            "p_holm": 0.5,
        },
        "role": "baseline",
        "valid_auc": 0.7,
        "parameters": 10,
        "parameters_outside_embedding": 5,
        "samples_per_second": 123_456.0,
        "seconds_per_epoch": 1.5,
        "tuned": None,
        "recovery": None,
        "agreement": None,
        "mean_max_probability": None,
        "runs": ["demo/base/seed-1"],
    }
    return Row(**content | changes)


def test_a_demos_json_prints_what_the_demo_printed():
    """Numbers that are not defined and names like markup included; only times are elided."""
    comparison = Comparison(
        data="shop",
        seeds=[1],
        protocol="as shown",
        reference="base [b]",
        base="base [b]",
        impressions=100,
        users=10,
        models=[row("base [b]"), row("musenet")],
        verdict=NO_VERDICT,
    )
    interval = Interval(0.1, 0.05, 0.2)
    rates = {name: interval for name, field in Portrait.model_fields.items() if field.annotation is Interval}
    numbers = [NumericContrast("days_ahead", "requests", 0.5)]
    values = [ValueContrast("stars", "clicked", "5", 0.4, 0.2, 2.0, 30.0)]
    portrait = Portrait(
        scenario=0,
        name="high days ahead",
        requests=5.0,
        share=0.5,
        repeat_probability=None,
        numbers=numbers,
        values=values,
        **rates,
    )
    printed = io.StringIO()
    console = Console(file=printed, width=80)
    show(comparison, console)
    show_portraits([portrait], console)
    console.print("The report: report.html")
    told = json_ready(Demo(comparison=comparison, scenarios=[portrait], report=Path("report.html")).to_json())
    text = refresh.demo_text(refresh.without_times(json.loads(json.dumps(told))))
    assert text.split() == printed.getvalue().replace("1.5", "…").split()
    assert not [line for line in text.splitlines() if line != line.rstrip() or len(line) > 80]


def test_a_new_demo_replaces_the_block_of_output_alone():
    before = "a\n<!-- demo:begin -->\nold\n<!-- demo:end -->\nb\n"
    demo: dict[str, Any] = {
        "comparison": {"data": "d", "seeds": [1], "protocol": "p", "reference": "r", "base": "r"},
        "scenarios": [],
    }
    demo["report"] = "demo/report.html"
    demo["comparison"] |= {"impressions": 0, "users": 0, "models": [], "verdict": NO_VERDICT.to_json(), "slices": None}
    after = refresh.start_here_text(before, demo)
    assert after.startswith("a\n<!-- demo:begin -->\n```text\n")
    assert after.endswith("```\n<!-- demo:end -->\nb\n")
    assert "old" not in after


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path):
    for target in LINK.findall(re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)):
        if target.startswith(("https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = page if not name else (page.parent / name).resolve()
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ .*$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {refresh.slug(heading) for heading in headings}, f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_that_pages_name_exist(page: Path):
    """From the repository or `src/musenet`, or from a folder of `src/musenet` that the page names as its own."""
    text = page.read_text(encoding="utf-8")
    files = re.findall(r"`((?:src|tests|configs|docs|benchmarks)/[\w./-]+\.\w+|[\w./-]+\.py|[\w.-]+/[\w./-]*/)`", text)
    made = {"configs/demo.yaml", "docs/demo.json"}  # tested above
    places = [ROOT, PACKAGE, *(ROOT / folder for folder in re.findall(r"`(src/musenet/\w[\w/]*)/`", text))]
    assert not [name for name in files if name not in made and not any((place / name).exists() for place in places)]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_names_that_pages_tell_exist(page: Path):
    for name in re.findall(r"(?<![.\w])musenet(?:\.[A-Za-z_]\w*)+\b(?!/)", page.read_text(encoding="utf-8")):
        if name != "musenet.yaml":
            pkgutil.resolve_name(name)


def test_the_walk_of_an_impression_names_functions():
    hops = re.findall(r"^\| (\d+) \| `([\w.]+)` \| .+ \|$", read("docs/architecture.md"), re.MULTILINE)
    assert [int(number) for number, _ in hops] == list(range(1, len(hops) + 1))
    assert len(hops) > 20
    assert all(callable(pkgutil.resolve_name(f"musenet.{name}")) for _, name in hops)


def test_every_page_is_reached_from_the_readme():
    linked = {Path(link.split("#")[0]).name for link in LINK.findall(read("README.md"))}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= linked


def test_readme_is_read_in_two_minutes():
    assert len(read("README.md").splitlines()) <= 150


def test_the_site_builds_without_a_warning_and_leads_to_every_page(tmp_path: Path):
    """Strictly: a link, an anchor or a page that is not in the navigation is an error."""
    if importlib.util.find_spec("mkdocs") is None and os.environ.get("REQUIRE_ALL") != "1":
        pytest.skip("the extra docs is not installed")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert not [page for page in pages if not (tmp_path / "site" / page).is_file()]
    home = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert 'srcset="changing-mix-dark.svg"' in home
    assert 'href="start-here.html"' in home
    assert "fonts.googleapis" not in home


def test_the_changelog_is_by_version():
    """As https://keepachangelog.com asks: the unreleased first, then versions with their dates, in kinds of change."""
    text = read("CHANGELOG.md")
    versions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version) for version in versions[1:])
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed"}
    assert f"[{__version__}]" in text or f"What will be {__version__}." in text


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == __version__
    assert citation["references"][0]["doi"] in read("README.md")


def test_constraints_pin_every_dependency_exactly():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    asked = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    lines = [line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in lines), "no local versions, no addresses"
    pinned = {line.split("==")[0] for line in lines}
    wanted = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=~! ]", name)[0]).lower() for name in asked}
    assert wanted - {project["name"]} <= pinned
