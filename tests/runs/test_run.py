"""A run is opened once: what is read and computed of it is kept for all who ask."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from musenet.errors import RunError
from musenet.evaluation import evaluation, scenario_figures
from musenet.evaluation.predictions import Predictions
from musenet.portraits.portraits import describe_scenarios
from musenet.reporting.pages.report import write_report
from musenet.reporting.pages.scenario_section import scenario_fragment
from musenet.runs import folder as run_folder
from musenet.runs import run as under_test
from musenet.runs.run import Run


def counted(monkeypatch: pytest.MonkeyPatch, counts: Counter[str], place: Any, name: str) -> None:
    """Have every call counted."""
    work = getattr(place, name)

    def call(*args: Any, **options: Any) -> Any:
        counts[name] += 1
        return work(*args, **options)

    monkeypatch.setattr(place, name, call)


def test_a_run_that_something_else_trained_and_a_split_that_there_is_not_are_refused(
    make_run: Callable[..., Run],
) -> None:
    run = make_run("soft")
    with pytest.raises(RunError, match="there is no split 'tset': there are train, valid, test"):
        run.evaluate("tset")  # type: ignore[arg-type]
    config = run.path / "config.yaml"
    config.write_text(config.read_text().replace("name: musenet", "name: my_musenet"))
    with pytest.raises(
        RunError, match=r"there is no 'my_musenet'.* or of a package that is not installed here; install"
    ):
        _ = Run.open(run.path).experiment
    config.unlink()
    with pytest.raises(RunError, match=r"config\.yaml is missing: train again"):
        _ = run_folder.RunFolder(run.path).experiment


def test_the_way_from_a_run_to_its_report_reads_and_computes_everything_once(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = make_run("soft").path
    (path / "evaluation" / "test.json").unlink()
    counts: Counter[str] = Counter()
    for place, name in (
        (run_folder, "load_experiment"),
        (run_folder, "Dataset"),
        (run_folder, "checksum"),
        (under_test, "load_model"),
        (under_test, "measure"),
        (under_test, "UserDraws"),
        (evaluation, "scenario_figures"),
        (under_test, "scenario_figures"),
        (scenario_figures, "repeat_rates"),
        (Predictions, "from_parquet"),
    ):
        counted(monkeypatch, counts, place, name)
    run = Run.open(path)
    run.evaluate("test")
    portraits = describe_scenarios(run)
    write_report(run, tmp_path / "report.html")
    write_report(run, tmp_path / "report.md")
    assert scenario_fragment(run) is not None
    assert len(portraits) == run.evaluation("test").scenarios.count  # type: ignore[union-attr]
    assert counts == {
        "load_experiment": 1,
        "Dataset": 1,
        "checksum": 1,
        "load_model": 1,
        "measure": 1,
        "UserDraws": 1,
        "scenario_figures": 1,
        "repeat_rates": 1,
        "from_parquet": 2,  # of the test and of the validation period
    }


def test_what_was_let_go_of_is_read_again(make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("soft")
    before = run.predictions("test")
    assert run.predictions("test") is before
    run.release()
    after = run.predictions("test")
    assert after is not before
    assert (after.logit == before.logit).all()
