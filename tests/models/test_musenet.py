"""MUSENET as a whole: what its scenarios see, its objective's sum, Eq 14 in a step, its controls."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from musenet.dataset.batch import Batch, schema_of
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.errors import ConfigError
from musenet.models.interface import Prediction
from musenet.models.musenet.assigners import Prototypes
from musenet.models.musenet.model import Musenet
from musenet.models.musenet.options import MusenetOptions
from plain_networks import plain_crosses
from planted import HAND_MADE_SCHEMA, SMALL_MUSENET, hand_made_batch


def musenet(dataset: Dataset, **options: Any) -> Musenet:
    torch.manual_seed(1)
    return Musenet(MusenetOptions.model_validate(SMALL_MUSENET | options), schema_of(dataset))


def hand_made_musenet(**options: Any) -> Musenet:
    """On the batch made by hand, whose only inputs of the metric space are context and hours."""
    return Musenet(MusenetOptions.model_validate(SMALL_MUSENET | options), HAND_MADE_SCHEMA)


@pytest.fixture
def batch(planted_dataset: Dataset) -> Batch:
    return BatchBuilder(planted_dataset).build(np.arange(20))


def weighted_sum(model: Musenet, prediction: Prediction, batch: Batch, progress: float = 1.0) -> float:
    return sum(term.weight * term.value.item() for term in model.losses(prediction, batch, progress).values())


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def cross_entropy(probability: float, label: float) -> float:
    return -math.log(probability if label else 1 - probability)


def log_assignment_of(model: Musenet, batch: Batch) -> Tensor:
    assignment = model.eval()(batch).log_assignment
    assert assignment is not None
    return assignment


def test_scores_see_the_crosses_of_request_and_candidate(planted_dataset: Dataset, batch: Batch):
    model = musenet(planted_dataset, cross_layers=2)
    assert model.crosses is not None
    request, crossed, _, _ = model.sides(batch)
    candidate = model.embed(batch).candidate
    for n, of in enumerate(batch.request.tolist()):
        expected = plain_crosses(model.crosses, torch.cat([request[of], candidate[n]]))
        torch.testing.assert_close(crossed[n], expected)
    scores, _ = model.intentions(request, crossed, batch)
    torch.testing.assert_close(model(batch).scenario_logit, scores)


def test_paper_objective_is_eq_13():
    """L_T + D_KL + beta L_A over samples, logits mixed as in 3.2.3, Eq 10 with its sign mended."""
    model, batch = hand_made_musenet(objective="paper", auxiliary=0.3, form="score"), hand_made_batch()
    prediction = model(batch)
    a = prediction.log_assignment.exp().tolist()  # (N, K): the paper's metric space sees the candidate
    z, p = prediction.scenario_logit.tolist(), prediction.repeat_probability.tolist()
    assert len(a) == 3
    label, request, fraction = [1.0, 0.0, 1.0], [0, 0, 1], {0: 0.25}
    click = divergence = auxiliary = 0.0
    for n in range(3):
        click += cross_entropy(sigmoid(sum(a[n][k] * z[n][k] for k in range(3))), label[n]) / 3
        divergence += sum(a[n][k] * (math.log(a[n][k]) + math.log(3)) for k in range(3)) / 3
        if request[n] in fraction:
            predicted = sum(p[request[n]][k] * a[n][k] for k in range(3))
            auxiliary += (fraction[request[n]] - predicted) ** 2 / 2
    assert weighted_sum(model, prediction, batch) == pytest.approx(click + divergence + 0.3 * auxiliary, rel=1e-5)
    assert set(model.losses(prediction, batch, 1.0)) == {"click", "divergence", "auxiliary"}


@pytest.mark.parametrize("likelihood", ["request", "mixture", "bound"])
def test_robust_objective_is_likelihood_auxiliary_balance_and_late_entropy(likelihood: str):
    options = {"auxiliary": 0.3, "balance": 0.2, "confidence": 0.05, "confidence_from": 0.6, "likelihood": likelihood}
    model, batch = hand_made_musenet(**options), hand_made_batch()
    prediction = model(batch)
    a = prediction.log_assignment.exp().tolist()  # (R, K)
    z, p = prediction.scenario_logit.tolist(), prediction.repeat_probability.tolist()
    label, request = [1.0, 0.0, 1.0], [0, 0, 1]
    evidence = [[sigmoid(z[n][k] if label[n] else -z[n][k]) for k in range(3)] for n in range(3)]  # P(y|x,k)
    if likelihood == "request":
        whole = [evidence[0][k] * evidence[1][k] for k in range(3)]
        click = -sum(math.log(sum(a[r][k] * e[k] for k in range(3))) for r, e in enumerate([whole, evidence[2]]))
    elif likelihood == "mixture":
        click = -sum(math.log(sum(a[request[n]][k] * evidence[n][k] for k in range(3))) for n in range(3))
    else:
        click = -sum(a[request[n]][k] * math.log(evidence[n][k]) for n in range(3) for k in range(3))
    auxiliary = (0.25 - sum(a[0][k] * p[0][k] for k in range(3))) ** 2
    mean = [(a[0][k] + a[1][k]) / 2 for k in range(3)]
    balance = sum(m * math.log(3 * m) for m in mean)
    entropy = -sum(x * math.log(x) for row in a for x in row) / 2
    expected = click / 3 + 0.3 * auxiliary + 0.2 * balance + 0.05 * 0.5 * entropy
    assert weighted_sum(model, prediction, batch, progress=0.8) == pytest.approx(expected, rel=1e-5)


def test_bound_replaces_the_mixture_likelihood(planted_dataset: Dataset, batch: Batch):
    mixture, bound = (musenet(planted_dataset, likelihood=likelihood) for likelihood in ("mixture", "bound"))
    prediction = mixture(batch)
    torch.testing.assert_close(bound(batch).logit, prediction.logit)
    assert bound.losses(prediction, batch, 1.0)["click"].value > mixture.losses(prediction, batch, 1.0)["click"].value


def centres_of(model: Musenet) -> Tensor:
    assert isinstance(model.assigner, Prototypes)
    return model.assigner.centres.detach().clone()


def step_of_eq_14(centres: Tensor, position: Tensor, weight: list[list[float]], rate: float) -> Tensor:
    moved = []
    for k, centre in enumerate(centres.tolist()):
        total = sum(row[k] for row in weight)
        mean = [
            sum(row[k] * x for row, x in zip(weight, column, strict=True)) / total for column in position.T.tolist()
        ]
        moved.append([(1 - rate) * c + rate * m for c, m in zip(centre, mean, strict=True)])
    return torch.tensor(moved)


def test_paper_moves_prototypes_by_eq_14_with_the_assignment():
    model, batch = hand_made_musenet(objective="paper"), hand_made_batch()
    before, prediction = centres_of(model), model(batch)
    model.after_step(prediction, batch, 1.0)
    expected = step_of_eq_14(before, prediction.point, prediction.log_assignment.exp().tolist(), 0.2)
    torch.testing.assert_close(centres_of(model), expected)


def test_robust_moves_prototypes_by_eq_14_with_the_posterior():
    model, batch = hand_made_musenet(prototypes="posterior", prototype_rate=0.3), hand_made_batch()
    before, prediction = centres_of(model), model(batch)
    model.after_step(prediction, batch, 1.0)
    a, z = prediction.log_assignment.exp().tolist(), prediction.scenario_logit.tolist()
    joint = [
        [a[0][k] * (sigmoid(z[0][k]) + sigmoid(-z[1][k])) / 2 for k in range(3)],
        [a[1][k] * sigmoid(z[2][k]) for k in range(3)],
    ]
    posterior = [[x / sum(row) for x in row] for row in joint]
    expected = step_of_eq_14(before, prediction.point, posterior, 0.3)
    torch.testing.assert_close(centres_of(model), expected, atol=1e-5, rtol=1e-5)


def test_prototypes_by_gradient_are_not_moved_by_eq_14():
    model, batch = hand_made_musenet(prototypes="gradient"), hand_made_batch()
    before = centres_of(model)
    model.after_step(model(batch), batch, 1.0)
    assert torch.equal(centres_of(model), before)


@pytest.mark.parametrize("objective", ["robust", "paper"])
def test_melted_prototypes_teach_the_metric_space_nothing(objective: str, planted_dataset: Dataset, batch: Batch):
    """docs/model.md: once equal, a = 1/K for every x and the gradient to omega vanishes."""

    def gradient_to_omega(melt: bool) -> float:
        model = musenet(planted_dataset, objective=objective)
        assert isinstance(model.assigner, Prototypes)
        if melt:
            model.assigner.centres.data = model.assigner.centres.data[:1].repeat(3, 1)
        prediction = model(batch)
        terms = model.losses(prediction, batch, 1.0).values()
        torch.stack([term.weight * term.value for term in terms]).sum().backward()
        if melt:
            torch.testing.assert_close(
                prediction.log_assignment.exp(), torch.full_like(prediction.log_assignment, 1 / 3)
            )
        return max(float(p.grad.abs().max()) for p in model.metric_space.parameters() if p.grad is not None)

    assert gradient_to_omega(melt=True) < 1e-7
    assert gradient_to_omega(melt=False) > 1e-4


def other_codes(codes: Tensor, batch: Batch, columns: list[int] | slice) -> Tensor:
    """The codes with some columns replaced by other rows of the batch."""
    changed = codes.clone()
    changed[:, columns] = changed[:, columns] % (len(batch.rows) - 1) + 1
    assert not torch.equal(changed, codes)
    return changed


def with_other_candidates(batch: Batch) -> Batch:
    return replace(
        batch,
        candidate_codes=other_codes(batch.candidate_codes, batch, slice(None)),
        candidate_dense=batch.candidate_dense + 1,
        repeat_indicator=~batch.repeat_indicator,
        repeat_features=batch.repeat_features + 1,
    )


def with_other_ids(batch: Batch) -> Batch:
    """User, item and the history's item are the first columns of their codes."""
    return replace(
        batch,
        request_codes=other_codes(batch.request_codes, batch, [0]),
        candidate_codes=other_codes(batch.candidate_codes, batch, [0]),
        history_codes=other_codes(batch.history_codes, batch, [0]),
    )


def test_the_first_columns_are_the_ids(planted_dataset: Dataset):
    schema = schema_of(planted_dataset)
    for fields in (schema.request_fields, schema.candidate_fields, schema.history_fields):
        assert [field.is_id for field in fields] == [True, *[False] * (len(fields) - 1)]


@pytest.mark.parametrize("assignment", ["soft", "gate"])
def test_metric_space_sees_no_candidate_and_no_id(assignment: str, planted_dataset: Dataset, batch: Batch):
    model = musenet(planted_dataset, assignment=assignment)
    log_assignment = log_assignment_of(model, batch)
    for changed in (with_other_candidates(batch), with_other_ids(batch)):
        torch.testing.assert_close(log_assignment_of(model, changed), log_assignment, atol=0, rtol=0)
        assert not torch.allclose(model(changed).logit, model(batch).logit)


@pytest.mark.parametrize(
    ("inputs", "column", "seen"),
    [
        (["profile", "context", "history"], "age", True),
        (["profile", "context", "history"], "device", True),
        (["profile", "context", "history"], "hours_bucket", False),
        (["profile"], "age", True),
        (["profile"], "device", False),
        (["context"], "age", False),
        (["context"], "device", True),
    ],
)
def test_metric_space_sees_the_columns_it_is_given(
    inputs: list[str], column: str, seen: bool, planted_dataset: Dataset, batch: Batch
):
    """Numbers enter standardised, so their buckets do not."""
    model = musenet(planted_dataset, metric_space={"inputs": inputs, "hidden": [8], "dimension": 4})
    place = {"age": 4, "device": 5, "hours_bucket": 6}[column]
    changed = replace(batch, request_codes=other_codes(batch.request_codes, batch, [place]))
    same = torch.allclose(log_assignment_of(model, changed), log_assignment_of(model, batch))
    assert same != seen


def test_metric_space_sees_dense_values_and_history_attributes(planted_dataset: Dataset, batch: Batch):
    model = musenet(planted_dataset)
    before = log_assignment_of(model, batch)
    for changed in (
        replace(batch, request_dense=batch.request_dense + 1),
        replace(batch, history_codes=other_codes(batch.history_codes, batch, [1])),
    ):
        assert not torch.allclose(log_assignment_of(model, changed), before)


def test_the_papers_metric_space_sees_the_candidate(planted_dataset: Dataset, batch: Batch):
    model = musenet(planted_dataset, objective="paper")
    assert not torch.allclose(log_assignment_of(model, with_other_candidates(batch)), log_assignment_of(model, batch))


@pytest.mark.parametrize(
    ("ids", "changes"), [([], False), (["user"], True), (["item"], True), (["user", "item"], True)]
)
def test_ids_are_hidden_unless_chosen(ids: list[str], changes: bool, planted_dataset: Dataset, batch: Batch):
    model = musenet(planted_dataset, ids=ids).eval()
    assert torch.allclose(model(with_other_ids(batch)).logit, model(batch).logit) != changes


@pytest.mark.parametrize("form", ["log", "plain"])
@pytest.mark.parametrize("hidden", [[64, 32], [128, 64]])
@pytest.mark.parametrize("scenarios", [2, 4, 8])
def test_parameters_of_matches_the_parameters_of_so_many_scenarios(
    form: str, hidden: list[int], scenarios: int, planted_dataset: Dataset
):
    def parameters(**options: Any) -> int:
        model = musenet(planted_dataset, embedding=16, form=form, hidden=hidden, **options)
        return sum(p.numel() for p in model.intentions.parameters())

    wide, many = parameters(scenarios=1, parameters_of=scenarios), parameters(scenarios=scenarios)
    assert wide == pytest.approx(many, rel=0.03)


def test_hard_assigns_the_nearest_prototype_when_scoring(planted_dataset: Dataset, batch: Batch):
    hard, soft = musenet(planted_dataset, assignment="hard"), musenet(planted_dataset)
    expected = torch.nn.functional.one_hot(log_assignment_of(soft, batch).argmax(1), 3).float()
    torch.testing.assert_close(log_assignment_of(hard, batch).exp(), expected)
    prediction = hard(batch)
    chosen = prediction.scenario_logit[torch.arange(batch.candidates), expected.argmax(1)[batch.request]]
    torch.testing.assert_close(prediction.logit, chosen, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("progress", "sampled"), [(0.0, False), (0.69, False), (0.7, True), (1.0, True)])
def test_robust_hard_trains_soft_and_samples_late(
    progress: float, sampled: bool, planted_dataset: Dataset, batch: Batch
):
    model = musenet(planted_dataset, assignment="hard", harden_from=0.7).train()
    assert torch.equal(model(batch, progress).log_assignment, model(batch, progress).log_assignment) != sampled


def test_a_hardened_module_is_told_how_near_the_other_prototypes_are(planted_dataset: Dataset, batch: Batch):
    model = musenet(planted_dataset, assignment="hard", harden_from=0.5)
    position = model.metric_space(model.embed(batch))

    def doubt(progress: float) -> Tensor:
        nothing = torch.empty(len(position), 0)
        return model.version.tell(nothing, model.log_q(position, batch), progress, model.training)

    assert not doubt(0.4).any()
    torch.testing.assert_close(doubt(0.6), model.assigner(position).exp())
    assert not doubt(0.6).requires_grad


def test_paper_hard_samples_from_the_start(planted_dataset: Dataset, batch: Batch):
    model = musenet(planted_dataset, objective="paper", assignment="hard").train()
    assert not torch.equal(model(batch, 0.0).log_assignment, model(batch, 0.0).log_assignment)


def test_weights_are_kept_only_once_the_assignment_is_what_was_asked_for(planted_dataset: Dataset):
    assert musenet(planted_dataset).keep_from() == 0
    assert musenet(planted_dataset, assignment="hard", harden_from=0.7).keep_from() == 0.7
    assert musenet(planted_dataset, confidence=0.02, confidence_from=0.6).keep_from() == pytest.approx(0.8)
    for without in ({"assignment": "uniform"}, {"scenarios": 1}, {"objective": "paper"}):
        assert musenet(planted_dataset, confidence=0.02, **without).keep_from() == 0


def test_uniform_predefined_and_true_assignments(planted_dataset: Dataset, batch: Batch):
    uniform = log_assignment_of(musenet(planted_dataset, assignment="uniform"), batch)
    torch.testing.assert_close(uniform.exp(), torch.full((20, 3), 1 / 3))
    for assignment, codes in (("predefined", batch.predefined_scenario), ("true", batch.true_scenario)):
        model = musenet(planted_dataset, assignment=assignment).train()
        model(batch)
        given = log_assignment_of(model, batch)
        assert codes is not None
        assert given.argmax(1).tolist() == codes.tolist()
        torch.testing.assert_close(given.exp().amax(1), torch.ones(20))


@pytest.mark.parametrize("assignment", ["predefined", "true"])
def test_scenarios_that_no_column_names_are_refused(assignment: str):
    with pytest.raises(ConfigError, match=assignment):
        hand_made_musenet(assignment=assignment)


def test_scale_is_fitted_once_on_the_first_batch(planted_dataset: Dataset, batch: Batch):
    model = musenet(planted_dataset, scale="auto").train()
    assert isinstance(model.assigner, Prototypes)
    covariance = torch.cov(model(batch).point.detach().double().T)
    fitted = float(model.assigner.scale)
    assert 2 * fitted * float(torch.linalg.eigvalsh(covariance)[-1]) == pytest.approx(1.5, rel=1e-4)
    model(replace(batch, request_dense=10 * batch.request_dense))
    assert float(model.assigner.scale) == fitted


def test_the_metric_space_learns_faster(planted_dataset: Dataset):
    model = musenet(planted_dataset, metric_learning_rate=7)
    slow, fast = model.parameter_groups()
    assert (slow.rate, fast.rate) == (1, 7)
    learner = [*model.metric_space.parameters(), *model.assigner.parameters()]
    assert {id(p) for p in fast.parameters} == {id(p) for p in learner}
    assert [group.rate for group in musenet(planted_dataset, objective="paper").parameter_groups()] == [1, 1]


@pytest.mark.parametrize("assignment", ["soft", "hard"])
@pytest.mark.parametrize("objective", ["robust", "paper"])
def test_a_dead_scenario_brings_no_nan(objective: str, assignment: str, planted_dataset: Dataset, batch: Batch):
    """Its share is exactly 0 in single precision."""
    options = {"objective": objective, "assignment": assignment, "scale": 1.0, "prototypes": "posterior"}
    model = musenet(planted_dataset, **options).train()
    assert isinstance(model.assigner, Prototypes)
    model.assigner.centres.data[2] = 1e3
    prediction = model(batch)
    assert bool((prediction.log_assignment[:, 2].exp() == 0).all())
    terms = model.losses(prediction, batch, 1.0).values()
    torch.stack([term.weight * term.value for term in terms]).sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
    model.after_step(prediction, batch, 1.0)
    assert centres_of(model)[2].tolist() == [1e3] * 4


def test_a_log_that_tells_nothing_but_ids_cannot_have_scenarios(planted_dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="this log has none: name columns in"):
        musenet(planted_dataset, metric_space={"inputs": []})
