"""What a service shows of scenarios is the report's own section."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from musenet.reporting.pages.report import write_report
from musenet.reporting.pages.scenario_section import scenario_fragment
from musenet.runs.run import Run


def test_the_section_is_the_reports(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run("soft")
    found = scenario_fragment(run)
    assert found is not None
    page = write_report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert " ".join(found["html"].split()) in " ".join(page.split())
    assert [one["scenario"] for one in found["scenarios"]] == [0, 1, 2, 3]
    assert sum(one["share"] for one in found["scenarios"]) == pytest.approx(1)
    assert set(re.findall(r'id="plot-([a-z-]+)"', found["html"])) == set(found["figures"])


@pytest.mark.parametrize("scenarios", ["one", "none"])
def test_without_scenarios_there_is_nothing_to_show(make_run: Callable[..., Run], scenarios: str) -> None:
    assert scenario_fragment(make_run(scenarios)) is None
