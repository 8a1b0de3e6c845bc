"""Whose turn a request is, and that the models that are told it keep scenarios apart, rare ones included."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from musenet.dataset.batch import Batch, schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.errors import ConfigError
from musenet.models.baselines.scenarios.blocks import BLOCK, ScenarioBlocks, own
from musenet.models.baselines.scenarios.ple import Ple
from musenet.models.baselines.scenarios.revman import RevMan
from musenet.models.baselines.scenarios.sarnet import SarNet
from musenet.models.baselines.scenarios.star import Star
from musenet.models.baselines.scenarios.treems import TreeMs
from musenet.models.interface import ClickModel
from musenet.models.musenet.model import Musenet
from musenet.models.predefined import PredefinedScenario
from planted import HAND_MADE_SCHEMA, REQUESTS, hand_made_batch

SCENARIOS = 15
SMALL: dict[str, Any] = {"embedding": 4, "hidden": [12, 8]}
OWNED = {Ple: "towers.rest.0.weight", RevMan: "towers.rest.0.weight", Star: "deeper.0.own_weight", SarNet: "scale.0"}
"""What each scenario has of its own, by rows; all that is in TreeMS is shared."""
every_model = pytest.mark.parametrize("kind", [*OWNED, TreeMs, Musenet])


def model_of(kind: type[ClickModel], dataset: Dataset) -> ClickModel:
    schema = replace(schema_of(dataset), predefined_scenarios=tuple(map(str, range(SCENARIOS))))
    told = {"assignment": "predefined"} if kind is Musenet else {}
    return kind(kind.options_type.model_validate(SMALL | told), schema)


def batch_of(dataset: Dataset, scenarios: list[int], requests: int = REQUESTS["train"]) -> Batch:
    """The first requests, their scenarios taken in turn from a list."""
    batch = BatchBuilder(dataset).build(np.arange(requests))
    return replace(batch, predefined_scenario=torch.tensor([scenarios[r % len(scenarios)] for r in range(requests)]))


def scenario_of(seen: list[int]) -> PredefinedScenario:
    """Trained on one batch of these scenarios, K = 4; then scoring."""
    scenario = PredefinedScenario(replace(HAND_MADE_SCHEMA, predefined_scenarios=tuple("abcd")), "ple")
    scenario.train()(replace(hand_made_batch(), predefined_scenario=torch.tensor(seen)))
    return scenario.eval()


@pytest.mark.parametrize("kind", [*OWNED, TreeMs])
def test_a_log_without_predefined_scenarios_is_refused(kind: type[ClickModel]):
    name = kind.options_type.model_fields["name"].default
    with pytest.raises(ConfigError, match=f"model.name: {name} needs `predefined_scenario`"):
        kind(kind.options_type(name=name), HAND_MADE_SCHEMA)


def test_scenarios_that_training_did_not_see_are_answered_by_the_most_frequent_one():
    scenario = scenario_of([1, 2, 2, 0])
    asked = replace(hand_made_batch(), predefined_scenario=torch.tensor([0, 1, 2, 3, -1]))
    assert scenario(asked).tolist() == [0, 1, 2, 2, 2]
    assert scenario.state_dict()["requests_seen"].tolist() == [1, 1, 2, 0], "scoring counts nothing"


def test_an_unknown_scenario_in_training_counts_for_none():
    assert scenario_of([-1, 3, -1]).requests_seen.tolist() == [0, 0, 0, 1]


def test_own_takes_each_rows_scenario():
    of_all = torch.arange(12.0).view(2, 3, 2)
    assert own(of_all, torch.tensor([2, 0])).tolist() == [[4.0, 5.0], [6.0, 7.0]]


def test_blocks_hold_one_scenario_each_and_give_the_rows_back():
    codes = torch.tensor([3, 0, 3] * BLOCK + [5])
    blocks = ScenarioBlocks(codes, 7)
    assert blocks.scenario.tolist() == [0, 3, 3, 5]
    x = torch.stack([torch.arange(1.0, len(codes) + 1), codes + 1.0], dim=1)
    spread = blocks.spread(x)
    for block, scenario in zip(spread, blocks.scenario, strict=True):
        rows = block[block[:, 0] != 0]
        assert (rows[:, 1] == scenario + 1).all()
        assert (block[len(rows) :] == 0).all(), "empty places come last"
    assert torch.equal(blocks.collect(spread), x)


@every_model
def test_a_scenario_never_trained_gets_the_most_frequent_ones_answer(kind: type[ClickModel], planted_dataset: Dataset):
    model = model_of(kind, planted_dataset).train()
    model(batch_of(planted_dataset, [4, 9, 4]))
    model.eval()
    frequent, other = (model(batch_of(planted_dataset, [code])).logit for code in (4, 9))
    for code in (7, -1):
        assert torch.equal(model(batch_of(planted_dataset, [code])).logit, frequent)
    assert not torch.allclose(other, frequent)


@every_model
def test_answers_do_not_depend_on_which_scenarios_share_the_batch(kind: type[ClickModel], planted_dataset: Dataset):
    model = model_of(kind, planted_dataset).train()
    model(batch_of(planted_dataset, list(range(SCENARIOS))))
    model.eval()
    among_others = batch_of(planted_dataset, [6, 0, 14, 2])
    assert among_others.predefined_scenario is not None
    alone = batch_of(planted_dataset, [6])
    sixth = (among_others.predefined_scenario == 6)[among_others.request]
    torch.testing.assert_close(model(among_others).logit[sixth], model(alone).logit[sixth], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", OWNED)
def test_a_step_leaves_what_absent_scenarios_own_alone(kind: type[ClickModel], planted_dataset: Dataset):
    model, batch = model_of(kind, planted_dataset).train(), batch_of(planted_dataset, [0, 0, 0, 11])
    model.losses(model(batch), batch, 1.0)["click"].value.backward()
    gradient = model.get_parameter(OWNED[kind]).grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert gradient.flatten(1).any(dim=1).nonzero().flatten().tolist() == [0, 11]
