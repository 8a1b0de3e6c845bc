"""The page as a whole: self-contained, faithful to its numbers, safe, and honest about what it does not know."""

import csv
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musenet.errors import RunError
from musenet.reporting.contents import gather
from musenet.reporting.pages.report import figures_folder, write_report
from musenet.runs.run import Run
from reporting.page_reading import Heard, Page
from shown_runs import comparison_in, measure_little, write_run

MakeRun = Callable[..., Run]
WriteComparison = Callable[..., Path]


@dataclass(frozen=True)
class Written:
    """A run, a comparison that it stands in, and the page of both."""

    run: Run
    comparison: Path
    text: str

    @cached_property
    def page(self) -> Page:
        return Page(self.text)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """For all tests that only read: a page takes seconds to measure."""
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch)
        run, comparison = write_run(folder), comparison_in(folder)
        file = write_report(run, run.path / "report.html", comparison)
    return Written(run, comparison, file.read_text(encoding="utf-8"))


def page_of(run: Run, comparison: Path | None = None) -> Page:
    return Page(write_report(run, run.path / "report.html", comparison).read_text(encoding="utf-8"))


def test_page_loads_nothing_from_outside(written: Written) -> None:
    page, text = written.page, written.text
    assert page.addresses
    assert all(address.startswith("#") for address in page.addresses)
    assert not page.tags & {"link", "img", "iframe", "object", "embed", "base"}
    assert "default-src 'none'" in text
    assert "@import" not in text
    assert not re.search(r"url\(\s*['\"]?(https?:)?//", text[: text.index("</style>")])


def test_page_is_in_order_for_screen_readers(written: Written) -> None:
    page = written.page
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert page.unnamed_plots == 0


def test_numbers_of_the_comparison_are_those_of_the_file(written: Written) -> None:
    page, content = written.page, json.loads(written.comparison.read_text())
    for row in content["models"]:
        cells = page.row("Models on the test period, best first", row["name"])
        is_reference, is_base = row["name"] == content["reference"], row["name"] == content["base"]
        difference = row["difference_to"]
        assert [cell["value"] for cell in cells[1:]] == [
            row["auc"]["mean"],
            row["gauc"]["mean"],
            row["ndcg"]["mean"],
            row["logloss"]["mean"],
            row["calibration_ratio"]["mean"],
            None if is_base else row["rela_impr"]["value"],
            None if is_reference else difference["value"],
            None if is_reference else difference["p_holm"],
        ]
        facts = page.row("The same models: validation, size and time", row["name"])
        assert [cell["value"] for cell in facts[1:]] == [
            row["valid_auc"],
            row["agreement"],
            row["parameters_outside_embedding"],
            row["seconds_per_epoch"],
        ]
        auc = row["auc"]
        assert cells[1]["text"] == f"{auc['mean']:.4f}{auc['low']:.4f} to {auc['high']:.4f}"
        if not is_reference:
            shown = f"{difference['value']:+.4f}{difference['low']:+.4f} to {difference['high']:+.4f}"
            assert cells[7]["text"] == shown.replace("-", "−")


def test_numbers_of_the_scenarios_are_those_of_the_evaluation(written: Written) -> None:
    page, figures = written.page, written.run.folder.read_json("evaluation/test.json")["scenarios"]
    for k in range(figures["count"]):
        cells = page.row("Scenarios on the test period", f"Scenario {k}")
        expected = [
            figures["share"][k],
            figures["repeat_intention"][k]["value"],
            figures["repeat_probability"][k],
            figures["repeat_share_of_positives"][k],
            figures["click_rate_on_repeats"][k]["value"],
            figures["click_rate_on_new"][k]["value"],
        ]
        assert [cells[place]["value"] for place in (1, 3, 4, 5, 6, 7)] == pytest.approx(expected, rel=1e-12)


def test_numbers_of_the_run_are_those_of_the_evaluation(written: Written) -> None:
    page, evaluation = written.page, written.run.folder.read_json("evaluation/test.json")
    heads = {"auc": "AUC", "ndcg": "NDCG@", "logloss": "Logloss", "calibration_ratio": "Predicted over observed"}
    for name, head in heads.items():
        cells = page.row("This run on the test period", head)
        assert cells[1]["value"] == evaluation[name]["value"]


def test_periods_are_counted_from_the_dataset(written: Written) -> None:
    run, page = written.run, written.page
    label = np.asarray(run.dataset.candidates.label)
    repeat = np.asarray(run.dataset.candidates.repeat_indicator) > 0
    for split, head in (("train", "Training"), ("valid", "Validation"), ("test", "Test")):
        period = run.dataset.manifest.splits[split]  # type: ignore[index]
        rows = slice(period.begin * 5, period.end * 5)
        users = len(np.unique(run.dataset.requests.user[period.begin : period.end]))
        cells = page.row("Periods of the log", head)
        clicked = label[rows] == 1
        expected = [period.impressions, period.end - period.begin, users, clicked.mean(), repeat[rows][clicked].mean()]
        assert [cell["value"] for cell in cells[2:]] == pytest.approx(expected)
    assert f"{len(label):,} items in 1,800 requests" in page.text


def test_odd_values_are_shown_and_never_run(make_run: MakeRun, write_comparison: WriteComparison) -> None:
    run = make_run()
    file = write_comparison({"<img src=x onerror=alert(1)>": -0.01})
    page = page_of(run, file)
    text = (run.path / "report.html").read_text()
    assert '<script>alert("1")</script>' in page.text
    assert "<img src=x onerror=alert(1)>" in page.text
    assert "negatives are <shown> and not clicked" in page.text
    for odd in ("<script>alert", "<img src=x", "<i>c</i>", '<a href="https://example.org">', "<shown>"):
        assert odd not in text


def test_a_value_cannot_become_a_link_in_a_figure(written: Written) -> None:
    embedded = re.search(r'id="figures">(.*?)</script>', written.text, re.DOTALL)
    assert embedded is not None
    texts = list(_texts(json.loads(embedded[1])))
    assert any("&lt;script&gt;" in one for one in texts)
    assert not any(re.search(r"<(?!/?b>|br>)", one) for one in texts)


def _texts(content: Any) -> Any:
    if isinstance(content, dict):
        for value in content.values():
            yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)
    elif isinstance(content, str):
        yield content


def test_without_a_comparison_nothing_is_claimed(make_run: MakeRun) -> None:
    page = page_of(make_run())
    assert "Whether scenarios paid is not known" in page.text
    assert "Models on the test period, best first" not in page.tables


def test_the_comparison_beside_the_run_is_found(make_run: MakeRun, write_comparison: WriteComparison) -> None:
    run = make_run()
    write_comparison(runs=[str(run.path)])
    assert "Scenarios paid" in page_of(run).text


def test_a_comparison_of_other_runs_is_not_taken(make_run: MakeRun, write_comparison: WriteComparison) -> None:
    run = make_run()
    write_comparison(runs=["elsewhere/soft/seed-1"])
    assert gather(run).comparison is None


def test_a_run_without_repeats_or_metrics_has_a_page(make_run: MakeRun) -> None:
    run = make_run()
    run.folder.metrics_file.unlink()
    run.folder.training_file.unlink()
    contents = gather(run)
    assert contents.curves.validation_auc == []
    assert "Training ended" in page_of(run).text


@pytest.mark.parametrize("scenarios", ["none", "one"])
def test_a_model_without_scenarios_has_a_page(make_run: MakeRun, scenarios: str) -> None:
    page = page_of(make_run(scenarios))
    assert "there is nothing to tell apart" in page.text
    assert "Scenarios on the test period" not in page.tables


def test_the_evaluation_is_made_where_it_is_missing(make_run: MakeRun) -> None:
    run = make_run("none")
    run.folder.evaluation_file("test").unlink()
    assert math.isfinite(gather(run).evaluation.auc.value)
    assert run.folder.evaluation_file("test").is_file()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"data": "x", "seeds": 1, "models": [{"name": "a"}]}'])
def test_a_damaged_comparison_is_refused_in_one_sentence(make_run: MakeRun, tmp_path: Path, content: str) -> None:
    run, file = make_run(), tmp_path / "broken.json"
    file.write_text(content)
    with pytest.raises(RunError, match=r"broken\.json is no comparison.*: make it again with `musenet compare`$"):
        write_report(run, tmp_path / "report.html", file)
    assert not (tmp_path / "report.html").exists()


def test_a_missing_comparison_file_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        write_report(make_run(), tmp_path / "report.html", tmp_path / "nowhere.json")


def test_the_numbers_of_each_figure_lie_beside_the_page(written: Written) -> None:
    files = {file.stem: file for file in figures_folder(written.run.path / "report.html").iterdir()}
    embedded = re.search(r'id="figures">(.*?)</script>', written.text, re.DOTALL)
    assert embedded is not None
    figures = json.loads(embedded[1])
    assert set(files) == set(figures)
    rows = {name: list(csv.DictReader(file.open(encoding="utf-8"))) for name, file in files.items()}
    assert all(rows.values())
    assert [float(row["share"]) for row in rows["shares"]] == figures["shares"]["data"][0]["x"]
    drawn = [y for line in figures["by-date"]["data"] for y in line["y"]]
    assert sorted(float(row["share"]) for row in rows["by-date"]) == pytest.approx(sorted(drawn))
    dots = [x for trace in figures["map"]["data"] for x in trace["x"]]
    assert sorted(float(row["x"]) for row in rows["map"]) == pytest.approx(sorted(dots))
    important = figures["importance"]["data"][0]["x"][::-1]
    overall = [float(row["auc_lost"]) for row in rows["importance"] if row["scenario"] == "all"]
    assert overall[: len(important)] == important
    assert {row["scenario"] for row in rows["importance"]} == {"all", "0", "1", "2", "3"}


def test_an_unknown_number_is_an_empty_cell(make_run: MakeRun, write_comparison: WriteComparison) -> None:
    run, file = make_run(), write_comparison()
    content = json.loads(file.read_text())
    content["models"][1]["auc"] = {"mean": 0.7, "low": None, "high": None, "per_seed": []}
    file.write_text(json.dumps(content))
    page = write_report(run, run.path / "report.html", file)
    rows = list(csv.DictReader((figures_folder(page) / "auc.csv").open(encoding="utf-8")))
    assert rows[1] == {"model": "BaseModel", "kind": "baseline", "auc": "0.7", "auc_low": "", "auc_high": ""}


def test_without_a_browser_the_numbers_alone_are_written_and_it_is_said(
    make_run: MakeRun, heard: Heard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = make_run()
    monkeypatch.setenv("PATH", str(tmp_path))
    page = write_report(run, run.path / "report.html", draw=True, listener=heard)
    (said,) = heard.said
    assert "no Chromium or Chrome was found" in said
    assert {file.suffix for file in figures_folder(page).iterdir()} == {".csv"}


def test_a_browser_that_breaks_is_told_of_in_one_line(
    make_run: MakeRun, heard: Heard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = make_run()
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\necho no display >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    write_report(run, run.path / "report.html", draw=True, listener=heard)
    (said,) = heard.said
    assert "could not be drawn as PNG" in said
    assert "no display" in said
    assert "\n" not in said


@pytest.mark.parametrize("name", ["report.txt", "report", "report.md.html.pdf"])
def test_a_page_of_another_ending_is_refused_before_anything_is_measured(
    make_run: MakeRun, tmp_path: Path, name: str
) -> None:
    run = make_run("none")
    run.folder.evaluation_file("test").unlink()
    with pytest.raises(RunError, match=r"ends in neither \.html nor \.md"):
        write_report(run, tmp_path / name)
    assert not run.folder.evaluation_file("test").is_file()


def test_a_note_stands_below_the_headline_as_it_was_written(make_run: MakeRun, tmp_path: Path) -> None:
    run, note = make_run("none"), tmp_path / "note.md"
    note.write_text("It paid <b>a lot</b> & *more*.\nBy a hair.\n\n\nNot <script>alert(2)</script>.\n")
    page = Page(write_report(run, run.path / "report.html", None, note).read_text())
    learned = page.text[page.text.index("What was learned") : page.text.index("The scenarios")]
    assert "It paid <b>a lot</b> & *more*.\nBy a hair." in learned
    assert "Not <script>alert(2)</script>." in learned
    assert "b" not in page.tags
    assert (run.path / "report.html").read_text().count("<script>alert") == 0
    assert "What was learned" not in page_of(run).text


def test_a_note_that_is_not_there_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere\.md cannot be read"):
        write_report(make_run("none"), tmp_path / "report.html", None, tmp_path / "nowhere.md")
