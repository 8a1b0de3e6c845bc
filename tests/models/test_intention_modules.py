"""Repeat intention (Eq 5 and 9 in three forms) by hand, and the branches against a slow loop."""

import math
from dataclasses import replace

import pytest
import torch

from musenet.models.musenet.intentions import IntentionModules, ScoreModules, SharedScore, combine
from musenet.models.musenet.options import Form
from plain_networks import networks_of, plain_intention
from planted import hand_made_batch


def log_sigmoid(z: float) -> float:
    return -math.log1p(math.exp(-z)) if z > 0 else z - math.log1p(math.exp(z))


def by_hand(mode_logit: float, score: float, form: str) -> float:
    """The branch's logit, p = sigma(mode_logit)."""
    if form == "score":
        return math.exp(log_sigmoid(mode_logit)) * score
    if form == "log":
        return log_sigmoid(mode_logit) + score
    log_click = log_sigmoid(mode_logit) + log_sigmoid(score)
    none = math.exp(log_sigmoid(-mode_logit)) + math.exp(log_sigmoid(mode_logit) + log_sigmoid(-score))
    return log_click - math.log(none)


FORMS: list[Form] = ["score", "probability", "log"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode_logit", [-80.0, -1.3, 0.0, 0.8, 80.0])
@pytest.mark.parametrize("score", [-80.0, -0.6, 0.0, 2.0, 80.0])
def test_a_branchs_logit_is_right_and_stable(form: Form, mode_logit: float, score: float):
    mode, given = torch.tensor([mode_logit], requires_grad=True), torch.tensor([score], requires_grad=True)
    logit = combine(mode, given, form)
    assert logit.item() == pytest.approx(by_hand(mode_logit, score, form), rel=1e-5, abs=1e-6)
    logit.backward()
    assert mode.grad is not None
    assert given.grad is not None
    assert torch.isfinite(torch.stack([mode.grad, given.grad])).all()


def test_the_forms_read_eq_5_and_9_as_the_design_says():
    mode, score = 0.8, 2.0
    p, s = 1 / (1 + math.exp(-mode)), 1 / (1 + math.exp(-score))
    assert by_hand(mode, score, "score") == pytest.approx(p * score)
    assert by_hand(mode, score, "probability") == pytest.approx(math.log(p * s / (1 - p * s)))
    assert by_hand(mode, score, "log") == pytest.approx(math.log(p) + score)


def shared_score(shares: bool) -> SharedScore | None:
    return SharedScore(5, 4, [6]) if shares else None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("own_hidden", [None, [3]])
def test_computing_one_branch_equals_looping_over_candidates_and_scenarios(
    form: Form, shares: bool, own_hidden: list[int] | None
):
    modules = IntentionModules(
        3, request=5, candidate=4, hidden=[7, 6], form=form, intention_hidden=own_hidden, shared=shared_score(shares)
    )
    request, candidate, batch = torch.randn(2, 5), torch.randn(3, 4), hand_made_batch()
    logits, probability = modules(request, candidate, batch)
    expected_logits, expected_probability = plain_intention(modules, request, candidate, batch, by_hand)
    torch.testing.assert_close(logits.detach(), expected_logits)
    torch.testing.assert_close(probability.detach(), expected_probability)


@pytest.mark.parametrize(("indicator", "idle"), [(True, "explore"), (False, "repeat")])
def test_the_branch_that_the_indicator_excludes_learns_nothing(indicator: bool, idle: str):
    modules = IntentionModules(3, request=5, candidate=4, hidden=[7], form="log")
    batch = replace(hand_made_batch(), repeat_indicator=torch.full((3,), indicator))
    logits, _ = modules(torch.randn(2, 5), torch.randn(3, 4), batch)
    assert logits.shape == (3, 3)
    logits.sum().backward()
    for name, branch in (("repeat", modules.repeat), ("explore", modules.explore)):
        learns = any(p.grad is not None and bool((p.grad != 0).any()) for p in branch.parameters())
        assert learns == (name != idle)


@pytest.mark.parametrize("shares", [False, True])
def test_plain_intention_is_one_network_per_scenario_and_knows_no_repeat_probability(shares: bool):
    modules = ScoreModules(3, request=5, candidate=4, hidden=[7], shared=shared_score(shares))
    request, candidate, batch = torch.randn(2, 5), torch.randn(3, 4), hand_made_batch()
    logits, probability = modules(request, candidate, batch)
    assert probability is None
    whole = torch.cat([request[batch.request], candidate], dim=1)
    expected = torch.cat([network(whole) for network in networks_of(modules.score)], dim=1)
    if modules.shared is not None:
        expected = expected + networks_of(modules.shared.score)[0](whole)
    torch.testing.assert_close(logits, expected)
