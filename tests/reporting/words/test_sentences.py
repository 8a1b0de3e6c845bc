"""Sentences follow the data: what is claimed, what is warned of, what is left unsaid."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from musenet.evaluation.intervals import Interval
from musenet.portraits.words import percent
from musenet.reporting.contents import Contents, gather
from musenet.reporting.words import sentences
from musenet.runs.run import Run
from musenet.studies.comparison.results import Comparison, DifferenceTo

ContentsOf = Callable[[str], Contents]
MakeRun = Callable[..., Run]
WriteComparison = Callable[..., Path]


@pytest.mark.parametrize(
    ("gap", "outcome", "title", "pairs", "words"),
    [
        (-0.01, "gain", "Scenarios paid", "10 more", "ahead of the best control, one scenario, wide"),
        (-0.001, "no gain", "No gain from scenarios", "1.0 more", "level with the best control, one scenario, wide"),
        (0.001, "no gain", "No gain from scenarios", "1.0 fewer", "level with the best control, one scenario, wide"),
        (0.01, "loss", "Scenarios lost", "10 fewer", "behind the best control, one scenario, wide"),
    ],
)
def test_verdict_says_what_the_interval_says(
    write_comparison: WriteComparison, gap: float, outcome: str, title: str, pairs: str, words: str
) -> None:
    comparison = Comparison.read(write_comparison({"BaseModel": -0.03, "one scenario, wide": gap}))
    assert comparison.verdict.outcome == outcome
    assert sentences.verdict_title(comparison) == title
    assert words in sentences.verdict_sentence(comparison)
    chance = ", which may be chance" if outcome == "no gain" else ""
    said = sentences.verdict_in_pairs(comparison)
    assert said is not None
    assert said.endswith(
        f"puts about {pairs} in the right order than the best one without, “one scenario, wide”{chance}."
    )


def test_a_gain_counts_only_against_every_row(write_comparison: WriteComparison) -> None:
    unsure = DifferenceTo("MUSENET soft", -0.012, -0.03, 0.006, 0.1, 0.009, 0.2)
    changes = {"uniform": {"difference_to": unsure}}
    comparison = Comparison.read(write_comparison({"one scenario": -0.01, "uniform": -0.012}, changes=changes))
    assert comparison.verdict.outcome == "no gain"
    assert comparison.verdict.not_beaten == ["uniform"]
    assert "but not surely ahead of uniform" in sentences.verdict_sentence(comparison)
    assert "but not surely more than “uniform”" in (sentences.verdict_in_pairs(comparison) or "")


def test_without_intervals_nothing_is_claimed(write_comparison: WriteComparison) -> None:
    nothing = DifferenceTo("MUSENET soft", -0.01, math.nan, math.nan, math.nan, math.nan, math.nan)
    file = write_comparison({"one scenario": -0.01}, changes={"one scenario": {"difference_to": nothing}})
    comparison = Comparison.read(file)
    assert comparison.verdict.outcome == "unknown"
    assert sentences.verdict_title(comparison) == "Whether scenarios paid is not known"
    assert sentences.verdict_in_pairs(comparison) is None


def test_a_table_without_controls_is_cautioned(write_comparison: WriteComparison) -> None:
    comparison = Comparison.read(write_comparison({"BaseModel": -0.03}))
    assert "holds no control" in (sentences.verdict_caution(comparison) or "")


def test_a_table_without_rivals_says_so(write_comparison: WriteComparison) -> None:
    comparison = Comparison.read(write_comparison({"true scenario": 0.05, "MUSENET hard": 0.01}))
    assert "holds no model without learned scenarios" in sentences.verdict_sentence(comparison)


@pytest.mark.parametrize(
    ("scenarios", "words"),
    [("soft", "scenarios are soft"), ("melted", "have melted"), ("dead", "Scenario 3 (0.0\u00a0%) is dead")],
)
def test_warnings_appear_when_they_should(contents_of: ContentsOf, scenarios: str, words: str) -> None:
    found = sentences.warnings(contents_of(scenarios).scenarios)
    assert any(words in warning for warning in found), found


def test_clear_scenarios_are_not_warned_of(contents_of: ContentsOf) -> None:
    assert sentences.warnings(contents_of("sharp").scenarios) == []


def test_scenarios_that_were_given_are_called_so(make_run: MakeRun) -> None:
    found = sentences.warnings(gather(make_run("sharp", assignment="permuted")).scenarios)
    assert len(found) == 1
    assert "not found by the model" in found[0]


def test_unsteady_scenarios_are_called_so(make_run: MakeRun, write_comparison: WriteComparison) -> None:
    run = make_run("sharp")
    file = write_comparison(runs=[str(run.path)])
    file.write_text(file.read_text().replace('"agreement": 0.8', '"agreement": 0.3'))
    found = sentences.warnings(gather(run).scenarios)
    assert any("unsteady" in warning and "0.30" in warning for warning in found)


def test_a_scenario_is_described_by_its_own_figures(contents_of: ContentsOf) -> None:
    contents = contents_of("sharp")
    assert contents.scenarios is not None
    portrait = contents.scenarios.portraits[2]
    words = sentences.scenario_sentence(portrait, contents.scenarios)
    assert words.startswith(f"Scenario 2 (“{portrait.name}”) holds {percent(portrait.share)} of the requests: ")
    assert "lower distance travelled (−1." in words
    share = percent(portrait.repeat_share_of_positives.value)
    assert f"{share} of its clicks go back to something the user had before" in words
    known, new = portrait.click_rate_on_repeats.value, portrait.click_rate_on_new.value
    assert f"a known item is clicked {known / new:.1f} times as often as a new one" in words
    assert f"({percent(known)} against {percent(new)})" in words
    assert words.count(". ") == 0


def test_a_scenario_that_clicks_known_and_new_alike_is_not_said_to_prefer_any(contents_of: ContentsOf) -> None:
    scenarios = contents_of("sharp").scenarios
    assert scenarios is not None
    level = scenarios.portraits[0].model_copy(
        update={"click_rate_on_repeats": Interval(0.11, 0.09, 0.13), "click_rate_on_new": Interval(0.10, 0.08, 0.12)}
    )
    assert "known items are clicked about as often as new ones" in sentences.scenario_sentence(level, scenarios)


def test_what_is_too_small_to_matter_is_left_unsaid(contents_of: ContentsOf) -> None:
    scenarios = contents_of("melted").scenarios
    assert scenarios is not None
    words = sentences.scenario_sentence(scenarios.portraits[1], scenarios)
    assert "nothing known of its requests or clicks sets it clearly apart" in words


def test_steady_scenarios_are_said_to_be_so(make_run: MakeRun, write_comparison: WriteComparison) -> None:
    run = make_run("sharp")
    file = write_comparison(runs=[str(run.path)])
    scenarios = gather(run, file).scenarios
    assert scenarios is not None
    assert "agreement 0.80" in (sentences.agreement_sentence(scenarios) or "")
    file.write_text(file.read_text().replace('"agreement": 0.8', '"agreement": 0.3'))
    unsteady = gather(run, file).scenarios
    assert unsteady is not None
    assert sentences.agreement_sentence(unsteady) is None, "the warning says it"


def test_the_model_is_called_as_the_comparison_calls_it(make_run: MakeRun, write_comparison: WriteComparison) -> None:
    run = make_run("sharp")
    file = write_comparison(runs=[str(run.path)])
    file.write_text(file.read_text().replace('"MUSENET soft"', '"four situations"'))
    assert sentences.model_sentence(gather(run)) == "The model shown is “four situations”, seed 1."
    file.unlink()
    assert sentences.model_sentence(gather(run)) == "The model shown is “musenet”, seed 1."


def test_most_and_least_need_intervals_that_do_not_touch(contents_of: ContentsOf) -> None:
    contents = contents_of("sharp")
    assert contents.scenarios is not None
    portraits = contents.scenarios.portraits
    ranks = [sentences.repeat_rank(portrait, portraits) for portrait in portraits]
    assert ranks == [", the least of all", "", "", ""]


def test_calibration_in_words() -> None:
    assert "about as many clicks" in sentences.calibration_sentence(Interval(1.01, 0.98, 1.04))
    assert "20.0\u00a0% too many clicks" in sentences.calibration_sentence(Interval(1.2, 1.1, 1.3))
    assert "20.0\u00a0% too few clicks" in sentences.calibration_sentence(Interval(0.8, 0.7, 0.9))
    assert "could not be measured" in sentences.calibration_sentence(Interval(math.nan, math.nan, math.nan))
