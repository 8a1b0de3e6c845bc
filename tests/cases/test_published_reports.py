"""The reports in docs/reports and the tables of docs/numbers.md are of the same runs, so they tell the same figures."""

import csv
import re

import pytest

from places import ROOT

DOCS = ROOT / "docs"
NUMBERS = (DOCS / "numbers.md").read_text(encoding="utf-8")
LOGS = {"hotels": "Simulated hotels", "complete-journey": "Complete Journey", "kuairand": "KuaiRand"}
SAME = {
    "AUC": "AUC",
    "GAUC": "GAUC",
    "Logloss": "logloss",
    "RelaImpr over base model": "RelaImpr to base model",
    "AUC minus musenet soft": "ΔAUC to musenet soft",
    "p (Holm)": "p (Holm)",
    "Parameters": "parameters*",
    "s/epoch": "s/epoch",
}
"""The report's columns, and those of the numbers that hold the same."""
NEWER = {
    "NDCG": "NDCG",
    "Predicted / observed": "pred/obs",
    "AUC on validation": "valid AUC",
    "ARI": "ARI",
    "Seeds agree": "seeds agree",
}
"""Columns that only reports have which were made since they were added."""


def rows_of(table: str) -> dict[str, dict[str, str]]:
    """A Markdown table's rows by their first cell's first line, without what makes it bold; cells by their heads."""
    heads, _, *rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()]
    return {row[0].replace("*", "").split("<br>")[0]: dict(zip(heads, row, strict=True)) for row in rows}


def tables_with(head: str, text: str) -> list[str]:
    return [part for part in text.split("\n\n") if part.startswith(f"| {head} |")]


def models_in(report: str) -> dict[str, dict[str, str]]:
    """What a report's tables of models tell of each."""
    first, *more = map(rows_of, tables_with("Model", report))
    return {
        name: row | {head: cell for table in more for head, cell in table[name].items()} for name, row in first.items()
    }


def figures(cell: str) -> list[float]:
    """The numbers in a cell; of a p-value below .001, that bound."""
    return [float(number.replace(",", "")) for number in re.findall(r"-?\d[\d,]*\.?\d*", cell.replace("−", "-"))]


@pytest.mark.parametrize("log", LOGS)
def test_a_published_report_shows_the_comparison_of_the_numbers(log: str):
    part = NUMBERS.split(f"\n## {LOGS[log]}\n")[1].split("\n## ")[0]
    report = (DOCS / "reports" / f"{log}.md").read_text(encoding="utf-8")
    numbers, shown = rows_of(tables_with("model", part)[0]), models_in(report)
    assert sorted(shown) == sorted(numbers)
    for name, row in shown.items():
        for here, there in (SAME | {here: there for here, there in NEWER.items() if here in row}).items():
            assert figures(row[here]) == figures(numbers[name][there]), (name, here)
    verdict = re.search(r"musenet soft is .*\.$", part, re.MULTILINE)
    assert verdict is not None
    assert verdict[0] in report
    seeds = re.search(r"means of (.*?),", part)
    assert seeds is not None
    assert f"Means of {seeds[1]};" in report


@pytest.mark.parametrize("log", LOGS)
def test_the_picture_of_models_is_of_the_same_comparison(log: str):
    part = NUMBERS.split(f"\n## {LOGS[log]}\n")[1].split("\n## ")[0]
    expected = {name: figures(row["AUC"]) for name, row in rows_of(tables_with("model", part)[0]).items()}
    with (DOCS / "reports" / f"{log}-figures" / "auc.csv").open(encoding="utf-8") as file:
        drawn = {row["model"]: row for row in csv.DictReader(file)}
    columns = ("auc", "auc_low", "auc_high")
    assert {name: [round(float(row[key]), 4) for key in columns] for name, row in drawn.items()} == expected


def test_rows_that_learn_nothing_do_not_agree_in_the_docs():
    """What `compare` leaves out, older tables leave out as well."""
    given = {"four (uniform)", "predefined", "predefined scenarios", "told the truth"}
    tables = [part for part in re.split(r"\n\s*\n", NUMBERS) if "| seeds agree |" in part]
    rows = [item for table in tables for item in rows_of(table).items()]
    assert len(rows) > 60
    assert {row["seeds agree"] for name, row in rows if name in given} == {"–"}
