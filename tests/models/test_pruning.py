"""`scenarios: auto`: what a scenario is worth, and when it is dropped."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from musenet.dataset.batch import Batch, schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.models.musenet.model import Musenet
from musenet.models.musenet.options import MusenetOptions, PruningOptions
from musenet.models.musenet.pruning import ScenarioPruning, cost_of_absence
from planted import REQUESTS, SMALL_MUSENET

ASSIGNMENT = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
LIKELIHOOD = torch.tensor([[0.9, 0.2, 0.2], [0.5, 0.5, 0.5]])


def auto_options(**changes: object) -> MusenetOptions:
    return MusenetOptions.model_validate(SMALL_MUSENET | {"scenarios": "auto", "pruning": {"start": 5}} | changes)


def training_batch(dataset: Dataset) -> Batch:
    return BatchBuilder(dataset).build(np.arange(REQUESTS["train"]))


def test_the_cost_of_absence_is_what_the_request_would_lose():
    cost = cost_of_absence(ASSIGNMENT.log(), LIKELIHOOD.log())
    whole = 0.5 * 0.9 + 0.3 * 0.2 + 0.2 * 0.2
    without_first = (0.3 * 0.2 + 0.2 * 0.2) / 0.5
    without_second = (0.5 * 0.9 + 0.2 * 0.2) / 0.7
    assert cost[0, 0].item() == pytest.approx(math.log(whole / without_first), abs=1e-6)
    assert cost[0, 1].item() == pytest.approx(math.log(whole / without_second), abs=1e-6)
    torch.testing.assert_close(cost[1], torch.zeros(3), atol=1e-6, rtol=0)  # where all say the same, none is missed


def drop_where_twins_are(pruning: ScenarioPruning, batch: Batch, progress: float) -> bool:
    """One step in which scenarios 1 and 2 say the same and scenario 0 alone explains half of the requests."""
    first = torch.where(batch.label > 0.5, 3.0, -3.0)
    twin = torch.zeros_like(first)
    logit = torch.stack([first, twin, twin], dim=1)[:, : len(pruning.left)]
    assignment = torch.full((batch.requests, len(pruning.left)), 1.0).log_softmax(1)
    return pruning.after_step(assignment, logit, batch, progress)


def test_a_twin_is_dropped_and_what_is_needed_stays(planted_dataset: Dataset):
    batch = training_batch(planted_dataset)
    pruning = ScenarioPruning(PruningOptions(start=3, begin=0.5, end=0.9, least_use=0.05))
    assert not any(drop_where_twins_are(pruning, batch, 0.4) for _ in range(200))
    assert drop_where_twins_are(pruning, batch, 0.5)
    assert pruning.left.tolist() in ([0, 1], [0, 2])
    assert float(pruning.dropped_at[pruning.dropped_at >= 0]) == 0.5
    dropped_again = [drop_where_twins_are(pruning, batch, 0.5 + step / 1000) for step in range(400)]
    assert 0 in pruning.left
    assert sum(dropped_again) == 1  # the second twin is worth nothing beside the first scenario either
    assert pruning.left.tolist() == [0]
    assert not drop_where_twins_are(pruning, batch, 0.95)


def test_the_left_share_the_assignment_out_anew():
    pruning = ScenarioPruning(PruningOptions(start=3))
    pruning.dropped_at[1] = 0.4
    left = pruning.among_the_left(ASSIGNMENT.log()).exp()
    torch.testing.assert_close(left, torch.tensor([[5 / 7, 0, 2 / 7], [1 / 8, 0, 7 / 8]]))


@pytest.mark.parametrize("assignment", ["soft", "hard", "gate"])
def test_a_dropped_scenario_has_no_part_in_anything(assignment: str, planted_dataset: Dataset):
    model = Musenet(auto_options(assignment=assignment), schema_of(planted_dataset))
    batch = training_batch(planted_dataset)
    assert model.pruning is not None
    model.pruning.dropped_at[torch.tensor([0, 3])] = 0.4
    for training in (True, False):
        model.train(training)
        prediction = model(batch)
        assert prediction.log_assignment.shape == (batch.requests, 3)
        assert prediction.scenario_logit.shape == (batch.candidates, 3)
        assert prediction.repeat_probability.shape == (batch.requests, 3)
        torch.testing.assert_close(prediction.log_assignment.exp().sum(1), torch.ones(batch.requests))
    before = model.eval()(batch).logit
    with torch.no_grad():
        intentions: Any = model.intentions
        intentions.repeat.mlp.rest[-1].bias[0] += 5
        intentions.explore.mlp.rest[-1].bias[3] += 5
    assert torch.equal(model(batch).logit, before)


def test_weights_are_kept_only_after_the_last_judgement(planted_dataset: Dataset):
    options = auto_options(pruning={"start": 5, "begin": 0.2, "end": 0.7})
    model = Musenet(options, schema_of(planted_dataset))
    assert model.keep_from() == 0.7
    batch = replace(training_batch(planted_dataset))
    assert model.losses(model(batch), batch, 0.1)["balance"].weight == options.balance
    assert model.losses(model(batch), batch, 0.2)["balance"].weight == 0


def test_the_scenarios_left_survive_saving(planted_dataset: Dataset):
    model, other = (Musenet(auto_options(), schema_of(planted_dataset)) for _ in range(2))
    assert model.pruning is not None
    assert other.pruning is not None
    model.pruning.dropped_at[2] = 0.5
    other.load_state_dict(model.state_dict())
    assert other.pruning.left.tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize("changes", [{"assignment": "uniform"}, {"objective": "paper"}, {"assignment": "true"}])
def test_auto_is_refused_where_nothing_is_learned(changes: dict[str, str]):
    with pytest.raises(ValidationError, match="scenarios `auto` needs"):
        auto_options(**changes)


def test_a_window_must_begin_before_it_ends():
    with pytest.raises(ValidationError, match="begin"):
        PruningOptions(begin=0.7, end=0.6)
