"""Where a run gains over the base model of its comparison."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from musenet.config.loading import validate_experiment
from musenet.files import checksum
from musenet.metrics import auc, logloss_from_logit
from musenet.reporting.contents import gather
from musenet.reporting.gains import base_run_of, gains_over
from musenet.reporting.words import captions
from musenet.runs.folder import RunFolder
from musenet.runs.run import Run
from musenet.studies.comparison.results import Comparison

MakeRun = Callable[..., Run]
WriteComparison = Callable[..., Path]


def base_run(run: Run, seed: int) -> Run:
    """A finished run of another model on the same dataset, whose predictions are the run's with noise."""
    content = run.experiment.model_dump(mode="json", by_alias=True) | {"seed": seed, "model": {"name": "base_model"}}
    path = run.path.parent.parent / "base" / f"seed-{seed}"
    base = RunFolder.create(path, validate_experiment(content, "base"), run.dataset)
    base.save_model({})
    ended = {"run": "", "best": {"step": 1}, "seconds": 1.0, "samples_per_second": 1.0}
    base.write_json("training.json", ended | {"stopped": "", "parameters": 1})
    own = run.predictions("test")
    noise = np.random.default_rng(seed).normal(size=len(own.logit))
    answers = dataclasses.replace(own, logit=own.logit + noise, assignment=None, repeat_probability=None)
    answers.to_parquet(base.predictions_file("test"), base.assignments_file("test"), checksum(base.model_file))
    return Run(base)


def test_gains_are_differences_within_each_scenario(make_run: MakeRun) -> None:
    run = make_run("sharp")
    own = run.predictions("test")
    base = base_run(run, 1).predictions("test")
    found = gains_over(base, own, "BaseModel", 40)
    assert own.assignment is not None
    likeliest = own.assignment.argmax(axis=1)[own.place]
    assert [row.scenario for row in found.rows] == [None, 0, 1, 2, 3]
    for row in found.rows:
        rows = np.full(len(likeliest), True) if row.scenario is None else likeliest == row.scenario
        gap = auc(own.label[rows], own.logit[rows]) - auc(base.label[rows], base.logit[rows])
        loss = logloss_from_logit(own.label[rows], own.logit[rows]) - logloss_from_logit(
            base.label[rows], base.logit[rows]
        )
        assert row.auc.value == pytest.approx(gap)
        assert row.auc.low <= gap <= row.auc.high
        assert row.logloss.value == pytest.approx(loss)
        assert row.impressions == rows.sum()


def test_against_itself_nothing_is_gained_and_nothing_claimed(make_run: MakeRun) -> None:
    own = make_run("sharp").predictions("test")
    found = gains_over(own, own, "itself", 20)
    assert all((row.auc.value, row.auc.low, row.auc.high) == (0, 0, 0) for row in found.rows)
    assert captions.gains_sentence(found) == "In no scenario does its AUC differ clearly from that of “itself”."


def test_a_gain_in_words_names_the_scenarios_whose_whole_interval_lies_above_zero(make_run: MakeRun) -> None:
    run = make_run("sharp")
    own = run.predictions("test")
    found = gains_over(base_run(run, 1).predictions("test"), own, "base", 20)
    one_level = dataclasses.replace(found.rows[2], auc=dataclasses.replace(found.rows[2].auc, low=-0.01))
    mixed = dataclasses.replace(found, rows=[*found.rows[:2], one_level, *found.rows[3:]])
    every = dataclasses.replace(
        found, rows=[dataclasses.replace(row, auc=dataclasses.replace(row.auc, low=0.001)) for row in found.rows]
    )
    assert "in every scenario, most in scenario" in captions.gains_sentence(every)
    words = captions.gains_sentence(mixed)
    assert words.startswith("Against “base” it ranks better in scenarios 0")
    assert words.endswith("elsewhere the interval holds zero.")


def with_base(file: Path, runs: list[str]) -> Path:
    """The comparison with the runs of its base row named."""
    content = json.loads(file.read_text())
    next(row for row in content["models"] if row["name"] == "BaseModel")["runs"] = runs
    file.write_text(json.dumps(content))
    return file


def test_the_base_models_run_of_the_same_seed_is_taken(make_run: MakeRun, write_comparison: WriteComparison) -> None:
    run = make_run("sharp")
    bases = [base_run(run, seed) for seed in (run.experiment.seed + 1, run.experiment.seed)]
    file = with_base(write_comparison(runs=[str(run.path)]), [str(base.path) for base in bases])
    found = base_run_of(Comparison.read(file), run)
    assert found is not None
    assert found.path == bases[1].path
    gains = gather(run).gains
    assert gains is not None
    assert gains.base == "BaseModel"
    assert len(gains.rows) == 5


def test_a_comparison_that_was_moved_still_finds_the_base(make_run: MakeRun, write_comparison: WriteComparison) -> None:
    run = make_run("sharp")
    base = base_run(run, 1)
    file = with_base(write_comparison(runs=[str(run.path)]), ["/gone/base/seed-1"])
    found = base_run_of(Comparison.read(file), run)
    assert found is not None
    assert found.path.resolve() == base.path.resolve()


def test_without_a_readable_base_there_are_no_gains(make_run: MakeRun, write_comparison: WriteComparison) -> None:
    run = make_run("sharp")
    file = with_base(write_comparison(runs=[str(run.path)]), ["/gone/elsewhere/seed-1"])
    assert base_run_of(Comparison.read(file), run) is None
    assert gather(run, file).gains is None
