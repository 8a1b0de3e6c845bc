"""The map of requests, and the words of a request."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from musenet.dataset.manifest import Field, FieldSide
from musenet.portraits.points import points_of, prototypes_of
from musenet.portraits.request_map import CONFIDENT, RequestMap, choose_requests, lay_out
from musenet.portraits.request_words import RequestWords
from musenet.preparation.encoding.numeric_fit import fit_numeric
from musenet.recipe.features import NumericOptions
from musenet.reporting.contents import gather
from musenet.reporting.words import captions
from musenet.runs.run import Run
from shown_runs import of_ranks, with_column

MakeRun = Callable[..., Run]


def assignment_of(likeliest: list[int], probability: list[float]) -> np.ndarray:
    rows = np.tile((1 - np.array(probability))[:, None], (1, 2))
    rows[np.arange(len(likeliest)), likeliest] = probability
    return rows


def test_confident_requests_are_drawn_of_each_scenario() -> None:
    assignment = assignment_of([0] * 60 + [1] * 60, [0.9, 0.7] * 60)
    chosen, unsure = choose_requests(assignment, 20)
    assert len(chosen) == 40
    assert (assignment[chosen].max(axis=1) > CONFIDENT).all()
    assert np.bincount(assignment[chosen].argmax(axis=1)).tolist() == [20, 20]
    assert unsure == []
    again, _ = choose_requests(assignment, 20)
    assert np.array_equal(chosen, again)


def test_a_scenario_without_confident_requests_is_shown_by_its_most_confident_and_said_so() -> None:
    probability = [0.95] * 30 + list(np.linspace(0.51, 0.79, 30))
    chosen, unsure = choose_requests(assignment_of([0] * 30 + [1] * 30, probability), 10)
    assert unsure == [1]
    assert chosen[10:].tolist() == list(range(50, 60))
    caption = captions.map_caption(RequestMap([], [], unsure))
    assert "Scenario 1 has hardly any such request" in caption


def test_a_scenario_that_no_request_is_likeliest_in_is_left_out() -> None:
    chosen, unsure = choose_requests(assignment_of([0] * 30, [0.9] * 30), 10)
    assert len(chosen) == 10
    assert unsure == []


def test_the_layout_keeps_groups_apart_and_is_the_same_each_time() -> None:
    random = np.random.default_rng(0)
    positions = np.concatenate([random.normal(size=(40, 5)), random.normal(size=(40, 5)) + 20])
    found = lay_out(positions)
    assert np.array_equal(found, lay_out(positions))
    first, second = found[:40], found[40:]
    between = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    assert between > 2 * max(first.std(), second.std())


def test_a_request_belongs_to_the_scenario_whose_prototype_is_nearest(make_run: MakeRun) -> None:
    run = make_run()
    model, dataset = run.model, run.dataset
    requests = np.arange(800, 1100)
    positions, prototypes = points_of(model, dataset, requests), prototypes_of(model)
    assert positions is not None
    assert prototypes is not None
    assert positions.shape == (300, 3)
    nearest = np.square(positions[:, None] - prototypes).sum(axis=2).argmin(axis=1)
    run.folder.predictions_file("test").unlink()
    assignment = run.predictions("test").assignment
    assert assignment is not None
    assert np.array_equal(nearest, assignment[:300].argmax(axis=1))


@pytest.mark.parametrize("assignment", ["uniform", "gate"])
def test_a_map_needs_a_metric_space_but_no_prototypes(make_run: MakeRun, assignment: str) -> None:
    scenarios = gather(make_run(assignment=assignment)).scenarios
    assert scenarios is not None
    if assignment == "uniform":
        assert scenarios.request_map is None
    else:
        assert scenarios.request_map is not None
        assert scenarios.request_map.prototypes == []


def test_each_dot_tells_its_own_request(make_run: MakeRun) -> None:
    run = make_run()
    scenarios = gather(run).scenarios
    assert scenarios is not None
    assert scenarios.request_map is not None
    chosen, _ = choose_requests(np.asarray(run.predictions("test").assignment), 6)
    words = RequestWords(run.dataset)
    assert [one.words for one in scenarios.request_map.requests] == [words.lines(800 + int(row)) for row in chosen]
    assert len(scenarios.request_map.prototypes) == 4


def test_a_request_in_words(make_run: MakeRun) -> None:
    dataset = make_run().dataset
    request = next(row for row in range(800, 1800) if dataset.candidates.label[5 * row : 5 * row + 5].sum() == 1)
    clicked = 5 * request + int(np.argmax(dataset.candidates.label[5 * request : 5 * request + 5]))
    item = dataset.candidates.item[clicked]

    def told(side: FieldSide, name: str, row: int) -> Any:
        return dataset.values(dataset.field(side, name), row)

    device = ["phone", "desktop", '<script>alert("1")</script>'][told("context", "device", request) - 3]
    lines = RequestWords(dataset).lines(request)
    assert lines[0] == f"{np.datetime64(1_600_000_000 + 3600 * request, 's').item():%a %d %b %Y, %H:%M}"
    assert lines[1] == f"device {device}"
    assert lines[2] == f"days ahead {told('context', 'days_ahead', request):+.1f} sd".replace("-", "−")
    assert lines[4] == "1 earlier events"
    assert lines[5].startswith("clicked: city ")
    assert lines[5].endswith(f"{told('item', 'list_price', item):+.1f} sd".replace("-", "−"))


def test_a_number_of_quantiles_is_told_as_the_log_had_it_and_not_where_it_is_missing(make_run: MakeRun) -> None:
    dataset = of_ranks(make_run().dataset, "days_ahead")
    lacking = (np.arange(len(dataset.requests.user)) % 2).astype(np.float32)
    fields = [*dataset.manifest.fields, Field(name="days_ahead.missing", side="context", kind="dense")]
    dense = dataset.values(dataset.field("context", "days_ahead.rank"), 900)
    fitted = fit_numeric(np.arange(100.0), np.ones(100), NumericOptions(numeric="quantiles"))
    dataset = with_column(dataset, "context", "days_ahead.missing", lacking)
    known = {"fields": fields, "numeric": {"days_ahead": fitted.model_dump()}}
    dataset.manifest = dataset.manifest.model_copy(update=known)
    words = RequestWords(dataset)
    days = float(fitted.undone(np.asarray(dense)))
    said = words.lines(900)[2].removeprefix("days ahead ")
    assert float(said) == pytest.approx(days, abs=0.51)
    assert not any(line.startswith("days ahead") for line in words.lines(901))


@pytest.mark.parametrize("numeric", ["log", "standardise", "quantiles"])
def test_transformed_numbers_are_told_as_the_log_had_them(numeric: str) -> None:
    values = np.array([-3.0, 0.0, 1.0, 5.0, 40.0, 100.0])
    fitted = fit_numeric(values, np.ones(6), NumericOptions(numeric=numeric))  # type: ignore[arg-type]
    assert fitted.undone(fitted.dense(values).astype(np.float64)) == pytest.approx(values, abs=1e-3)
