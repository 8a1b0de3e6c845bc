"""Typical situations: conditions that only matter together are found, and nothing is made up."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from musenet.portraits.situations import Situation, best_rule, typical_situations
from musenet.reporting.words import sentences
from musenet.runs.run import Run

MakeRun = Callable[..., Run]


def test_conditions_that_mean_nothing_alone_are_found_together() -> None:
    random = np.random.default_rng(0)
    fields = np.array(["far", "far", "family", "family", "noise", "noise"])
    first, second, noise = (random.random(4000) < 0.5 for _ in range(3))
    holds = np.stack([first, ~first, second, ~second, noise, ~noise], axis=1)
    own = (first == second).astype(float)
    assert best_rule(holds, fields, own) in ([0, 2], [1, 3])
    assert best_rule(holds, fields, (first & ~second & noise).astype(float)) == [0, 3, 4]


def test_one_condition_is_enough_where_others_add_nothing() -> None:
    random = np.random.default_rng(1)
    first, noise = random.random(4000) < 0.3, random.random(4000) < 0.5
    holds = np.stack([first, ~first, noise, ~noise], axis=1)
    own = first.astype(float)
    assert best_rule(holds, np.array(["a", "a", "b", "b"]), own) == [0]


def test_a_rule_never_speaks_of_few_requests() -> None:
    rare = np.arange(1000) < 10
    assert best_rule(rare[:, None], np.array(["a"]), rare.astype(float)) == []


def test_situations_of_a_run_are_measured_on_other_users_than_they_were_found_on(make_run: MakeRun) -> None:
    run = make_run("sharp")
    predictions = run.predictions("test")
    assert predictions.assignment is not None
    found = typical_situations(run.dataset, predictions)
    third = found[2]
    assert third is not None
    assert third.conditions[0].startswith(("distance travelled up to −", "days ahead"))
    odd = run.dataset.requests.user[800:] % 2 == 1
    assert third.overall == pytest.approx(predictions.assignment[odd, 2].mean())
    assert third.share > 2 * third.overall


def test_scenarios_that_follow_nothing_have_no_situation(make_run: MakeRun) -> None:
    run = make_run("sharp")
    predictions = run.predictions("test")
    assert predictions.assignment is not None
    shuffled = np.random.default_rng(0).permutation(predictions.assignment)
    assert typical_situations(run.dataset, dataclasses.replace(predictions, assignment=shuffled)) == [None] * 4


def test_a_situation_in_words() -> None:
    words = sentences.situation_clause(
        Situation(["days ahead above 6", "family = true", "holiday = false"], 0.76, 0.25)
    )
    assert words == (
        "typical is days ahead above 6 with family = true and holiday = false "
        "(76\u00a0% of such requests belong here, 25\u00a0% of all)"
    )
