"""Signs of health of scenarios (docs/model.md): values, and a warning for each way to die."""

import math

import pytest
import torch
from torch import Tensor

from musenet.models.musenet.assigners import Prototypes
from musenet.models.musenet.health import ScenarioHealth


def report_of(*assignments: list[list[float]], centres: Tensor | None = None, scale: float = 1.0):
    health = ScenarioHealth(2)
    for assignment in assignments:
        health.observe(torch.tensor(assignment).log(), torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    prototypes = None
    if centres is not None:
        prototypes = Prototypes(2, 2, scale)
        prototypes.centres.data = centres
    return health.report(prototypes)


ALIVE = [[0.9, 0.1], [0.3, 0.7]]


def test_values_are_means_over_the_steps():
    health = report_of(ALIVE, [[0.5, 0.5], [0.5, 0.5]])
    assert health.values["mean_max_probability"] == pytest.approx((0.8 + 0.5) / 2)
    assert health.values["share_0"] == pytest.approx((0.6 + 0.5) / 2)
    assert health.values["share_1"] == pytest.approx((0.4 + 0.5) / 2)
    assert health.values["entropy_of_use"] == pytest.approx(-0.55 * math.log(0.55) - 0.45 * math.log(0.45))
    assert health.warnings == []


def test_expansion_is_twice_scale_times_the_largest_eigenvalue():
    health = report_of(ALIVE, centres=torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), scale=0.4)
    assert health.values["expansion"] == pytest.approx(2 * 0.4 * 2.0)
    assert health.values["prototype_spread"] == pytest.approx(1.0)
    assert health.warnings == []


def test_melted_scenarios_are_warned_about():
    (warning,) = report_of([[0.51, 0.49], [0.49, 0.51]]).warnings
    assert "melted" in warning


def test_one_scenario_that_takes_everything_is_warned_about():
    (warning,) = report_of([[0.99, 0.01], [0.98, 0.02]]).warnings
    assert "one scenario takes nearly everything" in warning


def test_collapsed_prototypes_are_warned_about():
    (warning,) = report_of(ALIVE, centres=torch.ones(2, 2)).warnings
    assert "collapsed" in warning


def test_a_report_begins_anew():
    health = ScenarioHealth(2)
    health.observe(torch.tensor(ALIVE).log(), torch.zeros(2, 2))
    assert health.report(None).values
    assert health.report(None).values == {}
