"""The repeat intention modules (the paper's 3.1.2 and 3.2.2), all K of them at once.

Shapes: R requests, N candidates, K scenarios.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musenet.dataset.batch import Batch, Schema
from musenet.errors import ConfigError
from musenet.models.layers import ParallelMLP, TwoSidedMLP
from musenet.models.musenet.options import Form, MusenetOptions


class SharedScore(nn.Module):
    """What holds in every scenario: the paper's scenario-agnostic correlations (its section 1), learned from all data.

    The scenarios' own scores then only have to learn how they differ.
    """

    def __init__(self, request: int, candidate: int, hidden: list[int]) -> None:
        super().__init__()
        self.score = TwoSidedMLP(1, request, candidate, hidden)

    def forward(self, request: Tensor, candidate: Tensor, batch: Batch) -> Tensor:
        """(N, 1), to be added to the score of every scenario."""
        return self.score(self.score.request_part(request), candidate, batch.request).T  # type: ignore[no-any-return]


class InOrder(nn.Module):
    """Puts what was computed of some candidates and of the others back into the candidates' order."""

    def forward(self, apart: Tensor, place: Tensor, batch: Batch) -> Tensor:
        """(N, K) from the same rows `apart` (N, K), of which the n-th candidate's is the one at place[n]."""
        return apart.index_select(0, place)


class IntentionModules(nn.Module):
    """K modules, each with its own repeat probability, repeat score and explore score.

    Args:
        scenarios: K.
        request: size of the request's input [p_u, B_u, o_u].
        candidate: size of the candidate's input b_t.
        hidden: sizes of the ReLU layers of the scores' MLPs.
        form: how Eq 5 and Eq 9 are read, see `combine`.
        intention_hidden: sizes of the ReLU layers of the networks of the repeat probability; `hidden` if left out.
        shared: a score to be added to those of every scenario.
    """

    def __init__(
        self,
        scenarios: int,
        request: int,
        candidate: int,
        hidden: list[int],
        form: Form,
        *,
        intention_hidden: list[int] | None = None,
        shared: SharedScore | None = None,
    ) -> None:
        super().__init__()
        self.form = form
        self.shared = shared
        self.intention = ParallelMLP(scenarios, request, intention_hidden or hidden)
        self.repeat = TwoSidedMLP(scenarios, request, candidate, hidden)
        self.explore = TwoSidedMLP(scenarios, request, candidate, hidden)
        self.in_order = InOrder()

    def forward(
        self, request: Tensor, candidate: Tensor, batch: Batch, scenario: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(N, K) each scenario's logit z_k of Eq 9, and (R, K) its repeat probability p_r.

        Of the repeat and explore branches only the one that the indicator leaves is computed; if one `scenario` (1,) is
        given, that one alone: (N, 1) and (R, 1).
        """
        intention = self.intention(request, scenario).squeeze(2).T  # (R, K), the logit of p_r
        common = self.shared(request, candidate, batch) if self.shared else None

        def branch(layer: TwoSidedMLP, mode: Tensor, chosen: Tensor) -> Tensor:
            """(chosen, K) logits of the candidates at these places."""
            of, sees = batch.request.index_select(0, chosen), request
            # Most requests of many logs have candidates of one branch alone; to ONNX they cannot be told apart.
            if request.shape[0] > 1 and not batch.equally_long:
                own, of = torch.unique_consecutive(of, return_inverse=True)
                mode, sees = mode.index_select(0, own), request.index_select(0, own)
            score = layer(layer.request_part(sees, scenario), candidate.index_select(0, chosen), of, scenario).T
            if common is not None:
                score = score + common.index_select(0, chosen)
            # One request's probability is taken as it is: its logarithm then stands for all candidates.
            return combine(mode if mode.shape[0] == 1 else mode.index_select(0, of), score, self.form)

        repeats, others = batch.repeat_indicator.nonzero()[:, 0], (~batch.repeat_indicator).nonzero()[:, 0]
        logits = [branch(self.repeat, intention, repeats), branch(self.explore, -intention, others)]
        place = torch.cat([repeats, others]).argsort()
        return self.in_order(torch.cat(logits), place, batch), torch.sigmoid(intention)

    def scores(self, request: Tensor, candidate: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """(N, K) repeat and (N, K) explore scores of every candidate, whichever of them its indicator leaves."""
        branches = (
            layer(layer.request_part(request), candidate, batch.request).T for layer in (self.repeat, self.explore)
        )
        common = self.shared(request, candidate, batch) if self.shared else 0.0
        repeat, explore = (score + common for score in branches)
        return repeat, explore


def combine(mode_logit: Tensor, score: Tensor, form: Form) -> Tensor:
    """Eq 9 in one branch: the logit of a click from the branch's score and the logit of its mode's probability p.

    p is p_r for a repeat and 1 - p_r otherwise.

    - `score`: z = p s, as Eq 9 is written.
    - `probability`: P = p sigma(s), Eq 5 with Eq 9's indicator, as a logit.
    - `log`: z = log p + s.
    """
    if form == "score":
        return torch.sigmoid(mode_logit) * score
    if form == "probability":
        log_click = F.logsigmoid(mode_logit) + F.logsigmoid(score)
        # log P - log(1 - P), with 1 - P = (1 - p) + p sigma(-s), both positive.
        log_none = torch.logaddexp(F.logsigmoid(-mode_logit), F.logsigmoid(mode_logit) + F.logsigmoid(-score))
        return log_click - log_none
    return F.logsigmoid(mode_logit) + score


class ScoreModules(nn.Module):
    """Without the repeat-aware mechanism (w/o M2): one MLP per scenario, repeat features among its inputs."""

    def __init__(
        self, scenarios: int, request: int, candidate: int, hidden: list[int], *, shared: SharedScore | None = None
    ) -> None:
        super().__init__()
        self.shared = shared
        self.score = TwoSidedMLP(scenarios, request, candidate, hidden)

    def forward(
        self, request: Tensor, candidate: Tensor, batch: Batch, scenario: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """(N, K) each scenario's logit, or (N, 1) of the one `scenario` (1,) given; no repeat probability."""
        score = self.score(self.score.request_part(request, scenario), candidate, batch.request, scenario).T
        return score if self.shared is None else score + self.shared(request, candidate, batch), None


def intentions_of(
    options: MusenetOptions, schema: Schema, scenarios: int, request: int, candidate: int
) -> IntentionModules | ScoreModules:
    """The K modules of the asked form; a log without a repeat key has no intentions to tell apart.

    Args:
        options: form, sizes, and how wide.
        schema: of the batches.
        scenarios: K.
        request: size of the request's input.
        candidate: size of the candidate's input.
    """
    if options.form == "auto":
        raise ConfigError("model.form: auto is decided before a model is built: use `musenet train`")
    form: Form = options.form if schema.has_repeats else "plain"

    def build(networks: int, width: float = 1.0) -> IntentionModules | ScoreModules:
        hidden, intention = (
            [round(size * width) for size in sizes]
            for sizes in (options.hidden, options.intention_hidden or options.hidden)
        )
        sizes = (networks, request, candidate, hidden)
        shares = options.shared_score and options.objective == "robust"
        shared = SharedScore(request, candidate, hidden) if shares else None
        if form == "plain":
            return ScoreModules(*sizes, shared=shared)
        return IntentionModules(*sizes, form, intention_hidden=intention, shared=shared)

    if options.parameters_of is None:
        return build(scenarios)
    target = _parameters(build(options.parameters_of))
    width = 1.0
    while _parameters(build(scenarios, width)) < target:
        width *= 1.02
    return build(scenarios, width)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
