"""MUSENET's objectives: how scenarios are mixed, and what is trained (the paper's 3.2.3 and 3.2.4).

`robust` is the default; `paper` is Eq 13 as printed, with two slips mended (`auxiliary_loss`, `Prototypes.move`).
docs/model.md says why.

Shapes: R requests, N candidates, K scenarios.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from musenet.dataset.batch import Batch
from musenet.distributed.workers import global_mean, global_quotient
from musenet.models.interface import Prediction, Term
from musenet.models.layers import weighted_cross_entropy
from musenet.models.musenet.options import MusenetOptions


def mix_probabilities(log_assignment: Tensor, scenario_logit: Tensor) -> Tensor:
    """(N,) logit of sum_k a_k sigma(z_k): the paper's Eq 17, second line, with P(c|x) given by Eq 3.

    logsumexp_k(log a_k + log sigma(z_k)) - logsumexp_k(log a_k + log sigma(-z_k)), so that cross-entropy on it is
    -log sum_k a_k P(y|x,k).

    Args:
        log_assignment: (N, K).
        scenario_logit: (N, K).
    """
    click = torch.logsumexp(log_assignment + F.logsigmoid(scenario_logit), dim=1)
    none = torch.logsumexp(log_assignment + F.logsigmoid(-scenario_logit), dim=1)
    return click - none


def mix_logits(log_assignment: Tensor, scenario_logit: Tensor) -> Tensor:
    """(N,) sum_k a_k z_k: the soft version's final score in the paper's 3.2.3."""
    return (log_assignment.exp() * scenario_logit).sum(1)


def bound_loss(log_assignment: Tensor, scenario_logit: Tensor, label: Tensor, weight: Tensor | None) -> Tensor:
    """E_a[cross-entropy_k]: the first term of the bound, Eq 2 and 6, averaged over candidates."""
    target = label[:, None].expand_as(scenario_logit)
    each = F.binary_cross_entropy_with_logits(scenario_logit, target, reduction="none")
    each = (log_assignment.exp() * each).sum(1)
    return global_mean(each if weight is None else each * weight)


def request_loss(log_assignment: Tensor, scenario_logit: Tensor, batch: Batch) -> Tensor:
    """-(1/N) sum_r log sum_k a_k prod_i P(y_i|x_i,k): the likelihood if all of a request lies in one scenario.

    Args:
        log_assignment: (R, K).
        scenario_logit: (N, K).
        batch: for labels, weights and the candidates' requests.
    """
    joint = request_log_likelihood(scenario_logit, batch)
    return global_quotient(-torch.logsumexp(log_assignment + joint, dim=1).sum(), batch.candidates)


def request_log_likelihood(scenario_logit: Tensor, batch: Batch) -> Tensor:
    """(R, K) sum_i w_i log P(y_i|x_i,k): how well each scenario explains all labels of a request."""
    evidence = label_log_likelihood(scenario_logit, batch.label)
    if batch.weight is not None:
        evidence = evidence * batch.weight[:, None]
    return evidence.new_zeros(batch.requests, evidence.shape[1]).index_add(0, batch.request, evidence)


def label_log_likelihood(scenario_logit: Tensor, label: Tensor) -> Tensor:
    """(N, K) log P(y|x,k)."""
    return F.logsigmoid(torch.where(label[:, None] > 0.5, scenario_logit, -scenario_logit))


def auxiliary_loss(assignment: Tensor, repeat_probability: Tensor, fraction: Tensor) -> Tensor:
    """Eq 10: L_A, mean of (r_i - sum_k p_r^k a_k)^2 over the requests whose repeat fraction is defined.

    Printed with a minus sign, which would reward being wrong; since L_A is minimised, the sign is mended.

    Args:
        assignment: (R, K).
        repeat_probability: (R, K) p_r^k.
        fraction: (R,) r_i, NaN where the user has no events.
    """
    known = ~torch.isnan(fraction)
    error = torch.nan_to_num(fraction) - (assignment * repeat_probability).sum(1)
    return global_quotient((error.square() * known).sum(), known.sum())


def divergence_from_uniform(log_assignment: Tensor) -> Tensor:
    """Eq 12: mean over samples of KL(a ‖ uniform) = sum_k a_k (log a_k + log K).

    It charges for every bit that the assignment carries: E_x KL(Q(c|x) ‖ uniform) = I(x; c) + KL(E_x Q ‖ uniform).
    """
    return math.log(log_assignment.shape[1]) - entropy(log_assignment)


def balance_loss(assignment: Tensor) -> Tensor:
    """KL(mean of a over the batch ‖ uniform): charges for dead scenarios alone (docs/model.md)."""
    mean = global_mean(assignment)
    # A dead scenario's share may be exactly 0, where the slope of x log x is infinite and the gradient would be NaN.
    return (mean * mean.clamp_min(1e-12).log()).sum() + math.log(len(mean))


def entropy(log_assignment: Tensor) -> Tensor:
    """Mean over samples of H(a), in nats."""
    return global_mean(-(log_assignment.exp() * log_assignment.clamp_min(-1e4)).sum(1))


def late(progress: float, start: float) -> float:
    """0 until `start`, then rising evenly to 1 at the end of training."""
    return max(0.0, progress - start) / (1 - start) if start < 1 else 0.0


def request_posterior(log_assignment: Tensor, scenario_logit: Tensor, label: Tensor, request: Tensor) -> Tensor:
    """(R, K) how likely each scenario is once the labels are known: what Eq 14 is weighted with (docs/model.md).

    Per request the mean over its candidates of a_k P(y|x,k), normalised.

    Args:
        log_assignment: (R, K).
        scenario_logit: (N, K).
        label: (N,).
        request: (N,) the candidate's request.
    """
    likelihood = torch.sigmoid(torch.where(label[:, None] > 0.5, scenario_logit, -scenario_logit))
    requests = log_assignment.shape[0]
    total = likelihood.new_zeros(requests, likelihood.shape[1]).index_add_(0, request, likelihood)
    counts = torch.bincount(request, minlength=requests).clamp_min(1)
    joint = log_assignment.exp() * total / counts[:, None]
    return joint / joint.sum(1, keepdim=True).clamp_min(1e-12)


class PaperObjective:
    """Eq 13 as printed, with the two slips mended: L_T + D_KL + beta L_A, logits mixed as in 3.2.3.

    Args:
        options: with the weights of the terms.
        scenarios: K.
    """

    mix = staticmethod(mix_logits)

    def __init__(self, options: MusenetOptions, scenarios: int) -> None:
        self.options, self.scenarios = options, scenarios
        self.metric_rate = 1.0
        """The metric space learns at so many times the learning rate."""
        self.keep_from = 0.0
        """Progress from which on weights count."""

    def losses(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Term]:
        """L_T, L_A where there is a repeat probability, and the terms of learned scenarios."""
        log_assignment = prediction.log_assignment
        assert log_assignment is not None
        assignment = log_assignment.exp()
        terms = {"click": Term(self.click(prediction, batch))}
        if prediction.repeat_probability is not None and self.options.auxiliary:
            terms["auxiliary"] = self.auxiliary(assignment, prediction.repeat_probability, batch)
        if prediction.point is None:
            return terms
        return terms | self.of_scenarios(log_assignment, assignment, progress)

    def click(self, prediction: Prediction, batch: Batch) -> Tensor:
        """L_T: Eq 11 on the mixed logit."""
        return weighted_cross_entropy(prediction.logit, batch.label, batch.weight)

    def auxiliary(self, assignment: Tensor, repeat_probability: Tensor, batch: Batch) -> Term:
        """Beta L_A: Eq 10 over requests, or over samples where the assignment is per candidate."""
        fraction = batch.repeat_fraction
        if assignment.shape[0] != repeat_probability.shape[0]:
            repeat_probability, fraction = repeat_probability[batch.request], fraction[batch.request]
        return Term(auxiliary_loss(assignment, repeat_probability, fraction), self.options.auxiliary)

    def of_scenarios(self, log_assignment: Tensor, assignment: Tensor, progress: float) -> dict[str, Term]:
        """How scenarios shall be used: D_KL, Eq 12."""
        return {"divergence": Term(divergence_from_uniform(log_assignment))}

    def weight_of_eq_14(self, prediction: Prediction, batch: Batch) -> Tensor:
        """(R, K) with which Eq 14 averages points: the assignment."""
        assert prediction.log_assignment is not None
        return prediction.log_assignment.exp()


class RobustObjective(PaperObjective):
    """The likelihood of the mixture, L_A, balance and late confidence: what works (docs/model.md)."""

    mix = staticmethod(mix_probabilities)

    def __init__(self, options: MusenetOptions, scenarios: int) -> None:
        super().__init__(options, scenarios)
        self.metric_rate = options.metric_learning_rate
        if options.confidence and options.learns_scenarios:  # of the penalty's second half
            self.keep_from = (1 + options.confidence_from) / 2

    def click(self, prediction: Prediction, batch: Batch) -> Tensor:
        """L_T: the likelihood of whole requests, Eq 11 on the mixed logit, or the bound's first term (Eq 2)."""
        log_assignment, scenario_logit = prediction.log_assignment, prediction.scenario_logit
        assert log_assignment is not None and scenario_logit is not None
        if self.options.likelihood == "mixture" or self.scenarios == 1:
            return super().click(prediction, batch)
        if self.options.likelihood == "request":
            return request_loss(log_assignment, scenario_logit, batch)
        return bound_loss(by_candidate(log_assignment, batch), scenario_logit, batch.label, batch.weight)

    def of_scenarios(self, log_assignment: Tensor, assignment: Tensor, progress: float) -> dict[str, Term]:
        """Balance and late confidence, in place of Eq 12."""
        options = self.options
        # Balance would hold on to scenarios that nobody needs.
        balances = options.scenarios != "auto" or progress < options.pruning.begin
        return {
            "balance": Term(balance_loss(assignment), options.balance * balances),
            "entropy": Term(entropy(log_assignment), options.confidence * late(progress, options.confidence_from)),
        }

    def weight_of_eq_14(self, prediction: Prediction, batch: Batch) -> Tensor:
        """(R, K) the posterior given the labels."""
        assert prediction.log_assignment is not None and prediction.scenario_logit is not None
        return request_posterior(prediction.log_assignment, prediction.scenario_logit, batch.label, batch.request)


def objective_of(options: MusenetOptions, scenarios: int) -> PaperObjective:
    """The objective that the options ask for, of K scenarios."""
    return (PaperObjective if options.objective == "paper" else RobustObjective)(options, scenarios)


def by_candidate(log_assignment: Tensor, batch: Batch) -> Tensor:
    """(N, K); of one request (1, K), which goes with each of its candidates."""
    return log_assignment if log_assignment.shape[0] in (1, batch.candidates) else log_assignment[batch.request]
