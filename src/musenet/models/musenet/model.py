"""MUSENET (Xu et al., WSDM 2023), to be read beside the paper's section 3.

Shapes: R requests, N candidates, M metric space, K scenarios.
"""

from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn

from musenet.dataset.batch import Batch, Schema
from musenet.errors import ConfigError
from musenet.models.embedding import EmbeddingTable, HistoryMeans
from musenet.models.interface import (
    ClickModel,
    Health,
    ParameterGroup,
    PoolingOptions,
    Prediction,
    Term,
    pooling_inputs,
)
from musenet.models.layers import full_precision, weighted_cross_entropy
from musenet.models.musenet import objective
from musenet.models.musenet.health import ScenarioHealth
from musenet.models.musenet.intentions import Form, IntentionModules, PlainIntention, SharedScore
from musenet.models.musenet.pruning import PruningOptions, ScenarioPruning
from musenet.models.musenet.scenarios import (
    Gate,
    MetricSpace,
    MetricSpaceOptions,
    Prototypes,
    gumbel_softmax,
    harden,
    one_hot_log,
)

Assignment = Annotated[
    Literal["soft", "hard", "gate", "uniform", "permuted", "predefined", "true"],
    BeforeValidator(lambda value: "true" if value is True else value),  # what YAML makes of a bare `true`
]


class MusenetOptions(PoolingOptions):
    """Options of MUSENET, its ablations and its controls."""

    name: Literal["musenet"] = "musenet"
    objective: Literal["robust", "paper"] = Field("robust", description="what works, or the paper taken literally")
    assignment: Assignment = Field("soft", description="how requests get their scenario; `true` is a diagnostic")
    scenarios: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = Field(
        4, description="K; `auto` finds it; `predefined` and `true` take theirs from the log"
    )
    pruning: PruningOptions = PruningOptions()
    form: Form | Literal["auto"] = Field("log", description="the reading of Eq 5 and 9; `plain` is without M2")
    hidden: list[int] = Field([64, 32], min_length=1, description="ReLU layers of every MLP of an intention module")
    intention_hidden: list[int] | None = Field(
        None, min_length=1, description="ReLU layers of the networks of the repeat probability; as `hidden` if unset"
    )
    parameters_of: int | None = Field(
        None, ge=1, description="widen the modules until they have the parameters of so many scenarios"
    )
    metric_space: MetricSpaceOptions = MetricSpaceOptions()
    metric_learning_rate: float = Field(10.0, gt=0, description="of the metric space, times the learning rate")
    shared_score: bool = Field(True, description="a score common to all scenarios beside their own; not for `paper`")
    crosses: int = Field(0, ge=0, description="products of request and candidate in the shared score")
    scale: float | Literal["auto"] | None = Field(None, description="s of Eq 3; unset: 0.5, or 1 for `paper`")
    spread: float = Field(0.3, gt=0, description="standard deviation of the prototypes' first coordinates")
    likelihood: Literal["request", "mixture", "bound"] = Field(
        "request", description="L_T: of whole requests, of candidates one by one, or the bound's first term"
    )
    prototypes: Literal["gradient", "posterior"] = Field("gradient", description="what moves them; posterior: Eq 14")
    prototype_rate: float = Field(0.2, gt=0, le=1, description="alpha of Eq 14")
    auxiliary: float = Field(0.5, ge=0, description="beta of Eq 13, the weight of L_A")
    balance: float = Field(0.1, ge=0, description="weight of the balance term")
    confidence: float = Field(0.0, ge=0, description="final weight of the entropy penalty; 0 leaves it out")
    confidence_from: float = Field(0.6, ge=0, lt=1, description="progress at which the penalty begins to rise")
    harden_from: float = Field(0.5, ge=0, lt=1, description="progress at which `hard` begins to sample by Eq 7")
    temperature: float = Field(0.1, gt=0, description="tau of Eq 7")

    @model_validator(mode="after")
    def _fits_objective(self) -> "MusenetOptions":
        if self.objective == "paper" and self.assignment not in ("soft", "hard"):
            raise ValueError(f"objective `paper` knows the assignments soft and hard, not {self.assignment}")
        given = self.objective == "paper" or self.assignment in ("uniform", "predefined", "true")
        if self.scenarios == "auto" and given:
            raise ValueError("scenarios `auto` needs the robust objective and an assignment that is learned")
        return self


class Musenet(ClickModel):
    """K scenarios, each with its own repeat intention module (Fig 3)."""

    options_type = MusenetOptions

    def __init__(self, options: MusenetOptions, schema: Schema) -> None:
        super().__init__()
        self.options = options
        self.scenarios = _scenario_count(options, schema)
        self.table = EmbeddingTable(schema.embedding_rows, options.embedding)
        self.inputs = pooling_inputs(options, schema)
        self.learns_scenarios = self.scenarios > 1 and options.assignment not in ("uniform", "predefined", "true")
        if self.learns_scenarios:
            self.build_scenario_learner(schema)
        sees = self.metric_space.history if self.learns_scenarios and isinstance(self.metric_space, MetricSpace) else []
        self.history_columns = sorted({*self.inputs.pooled, *sees})
        request_size = self.inputs.request_size + (self.scenarios if self.hardens() else 0)
        self.intentions = _intentions(options, schema, self.scenarios, request_size, self.inputs.candidate_size)
        self.pruning = ScenarioPruning(options.pruning) if options.scenarios == "auto" else None
        self.scenario_health = ScenarioHealth(self.scenarios)

    def build_scenario_learner(self, schema: Schema) -> None:
        """f_omega and the prototypes, or the gate."""
        options, space = self.options, self.options.metric_space
        paper = options.objective == "paper"
        self.metric_space: nn.Module
        if paper:
            self.metric_space = nn.Linear(
                self.inputs.request_size + self.inputs.candidate_size, space.dimension, bias=False
            )
        else:
            self.metric_space = MetricSpace(space, schema, options.embedding)
        if options.assignment == "gate":
            self.assigner: nn.Module = Gate(self.scenarios, space.dimension)
            return
        scale = options.scale if isinstance(options.scale, float) else (1.0 if paper else 0.5)
        self.moves_prototypes = paper or options.prototypes == "posterior"
        self.assigner = Prototypes(
            self.scenarios,
            space.dimension,
            scale,
            spread=1.0 if paper else options.spread,
            learned=not self.moves_prototypes,
        )
        self.register_buffer("scale_is_fitted", torch.tensor(options.scale != "auto"))
        self.scale_is_fitted: Tensor

    def forward(self, batch: Batch) -> Prediction:
        """Predict every candidate of the batch."""
        request, candidate, position, log_assignment = self.sides(batch)
        scenario_logit, repeat_probability = self.intentions(request, candidate, batch)  # (N, K), (R, K)
        if self.pruning is not None:
            left = self.pruning.left
            log_assignment, scenario_logit = log_assignment[:, left], scenario_logit[:, left]
            repeat_probability = None if repeat_probability is None else repeat_probability[:, left]
        mix = objective.mix_logits if self.options.objective == "paper" else objective.mix_probabilities
        return Prediction(
            logit=mix(_by_candidate(log_assignment, batch), scenario_logit),
            scenario_logit=scenario_logit,
            log_assignment=log_assignment,
            repeat_probability=repeat_probability,
            position=position,
        )

    def sides(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """The intention modules' inputs of both sides, f_omega(x), and (R, K) log a; (N, K) for `paper`."""
        values = self.table.look_up(batch.rows)
        history = HistoryMeans(values, batch, self.history_columns)
        request, candidate = self.inputs.request(values, batch, history), self.inputs.candidate(values, batch)
        with full_precision(values):
            position = self.position(values, history, request, candidate, batch)
            log_assignment = self.assign(position, batch)
            if self.hardens():
                request = torch.cat([request, self.doubt(position)], dim=1)
        return request, candidate, position, log_assignment

    def logit_of_one_scenario(self, batch: Batch) -> Tensor:
        """(N,) the logit of one request's candidates from its hardened scenario; no other scenario is computed."""
        request, candidate, _, log_assignment = self.sides(batch)
        scenario_logit, _ = self.intentions(request, candidate, batch, log_assignment.argmax(1))
        return scenario_logit[:, 0]  # type: ignore[no-any-return]

    def position(
        self, values: Tensor, history: HistoryMeans, request: Tensor, candidate: Tensor, batch: Batch
    ) -> Tensor | None:
        """f_omega(x): (R, M), or for `paper` (N, M) of everything, the candidate included."""
        if not self.learns_scenarios:
            return None
        if self.options.objective == "paper":
            whole = torch.cat([request.index_select(0, batch.request), candidate], dim=1)
            return self.metric_space(whole)  # type: ignore[no-any-return]
        return self.metric_space(values, batch, history)  # type: ignore[no-any-return]

    def assign(self, position: Tensor | None, batch: Batch) -> Tensor:
        """Log of the assignment a: Eq 3, 4 or 7, or what a control puts in its place."""
        if position is None:
            return self.given_assignment(batch)
        if self.training and isinstance(self.assigner, Prototypes) and not self.scale_is_fitted:
            self.assigner.fit_scale(position)
            self.scale_is_fitted.fill_(True)
        log_assignment = self.soft_assignment(position)
        if self.options.assignment == "hard" and not self.training:
            return harden(log_assignment)
        if self.hardens() and self.has_hardened():
            # The metric space rests from here on: samples would only teach it to be sure of itself.
            return gumbel_softmax(log_assignment.detach(), self.options.temperature)
        if self.options.assignment == "hard" and not self.hardens():
            return gumbel_softmax(log_assignment, self.options.temperature)
        if self.options.assignment == "permuted" and not self.training:
            return log_assignment.roll(1, dims=0)
        return log_assignment

    def soft_assignment(self, position: Tensor) -> Tensor:
        """(R, K) Eq 3, among the scenarios that are left."""
        log_assignment: Tensor = self.assigner(position)
        return log_assignment if self.pruning is None else self.pruning.among_the_left(log_assignment)

    def hardens(self) -> bool:
        """Whether the assignment turns from soft to sampled on the way (the robust hard version)."""
        return self.options.assignment == "hard" and self.options.objective == "robust" and self.learns_scenarios

    def has_hardened(self) -> bool:
        """Whether training has come to the hardened part."""
        return self.progress >= self.options.harden_from

    def doubt(self, position: Tensor | None) -> Tensor:
        """(R, K) Eq 3's soft assignment, told to the one module that a hardened request gets; 0 before hardening.

        The nearest prototype alone forgets how near the others were; knowing it, the module can hedge.
        """
        assert position is not None
        soft = self.soft_assignment(position).detach().exp()
        return soft * float(self.has_hardened())

    def given_assignment(self, batch: Batch) -> Tensor:
        """(R, K) where nothing is learned: uniform, or the scenario that a column names."""
        codes = {"predefined": batch.predefined_scenario, "true": batch.true_scenario}.get(self.options.assignment)
        if codes is None:
            return one_hot_log(torch.full_like(batch.request_index, -1), self.scenarios)
        return one_hot_log(codes, self.scenarios)

    def losses(self, prediction: Prediction, batch: Batch) -> dict[str, Term]:
        """Eq 13, or its robust form: the gated mixture likelihood, L_A, balance and late confidence."""
        options, log_assignment = self.options, prediction.log_assignment
        assert log_assignment is not None
        assignment = log_assignment.exp()
        terms = {"click": Term(self.click_loss(prediction, batch))}
        if prediction.repeat_probability is not None and options.auxiliary:
            terms["auxiliary"] = self.auxiliary(assignment, prediction.repeat_probability, batch)
        if not self.learns_scenarios:
            return terms
        if options.objective == "paper":
            return terms | {"divergence": Term(objective.divergence_from_uniform(log_assignment))}
        # Balance would hold on to scenarios that nobody needs.
        balances = self.pruning is None or self.progress < options.pruning.begin
        terms["balance"] = Term(objective.balance_loss(assignment), options.balance * balances)
        confidence = options.confidence * objective.late(self.progress, options.confidence_from)
        return terms | {"entropy": Term(objective.entropy(log_assignment), confidence)}

    def click_loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        """L_T: Eq 11 on the mixed logit, the likelihood of whole requests, or the bound's first term (Eq 2)."""
        log_assignment, scenario_logit = prediction.log_assignment, prediction.scenario_logit
        assert log_assignment is not None and scenario_logit is not None
        if self.options.objective == "paper" or self.options.likelihood == "mixture" or self.scenarios == 1:
            return weighted_cross_entropy(prediction.logit, batch.label, batch.weight)
        if self.options.likelihood == "request":
            return objective.request_loss(log_assignment, scenario_logit, batch)
        return objective.bound_loss(_by_candidate(log_assignment, batch), scenario_logit, batch.label, batch.weight)

    def auxiliary(self, assignment: Tensor, repeat_probability: Tensor, batch: Batch) -> Term:
        """Eq 10, over requests, or over samples where the assignment is per candidate."""
        fraction = batch.repeat_fraction
        if assignment.shape[0] != repeat_probability.shape[0]:
            repeat_probability, fraction = repeat_probability[batch.request], fraction[batch.request]
        return Term(objective.auxiliary_loss(assignment, repeat_probability, fraction), self.options.auxiliary)

    def parameter_groups(self) -> list[ParameterGroup]:
        """The metric space learns faster than the rest (docs/model.md)."""
        fast = [*self.metric_space.parameters(), *self.assigner.parameters()] if self.learns_scenarios else []
        chosen = {id(p) for p in fast}
        slow = [p for p in self.parameters() if p is not self.table.weight and id(p) not in chosen]
        rate = 1.0 if self.options.objective == "paper" else self.options.metric_learning_rate
        groups = [ParameterGroup(slow), ParameterGroup([p for p in fast if p.requires_grad], rate)]
        return [group for group in groups if group.parameters]

    @torch.no_grad()
    def after_step(self, prediction: Prediction, batch: Batch) -> None:
        """Step 1 of the alternation: move the prototypes by Eq 14 while Theta is fixed."""
        if not self.learns_scenarios:
            return
        log_assignment, position = prediction.log_assignment, prediction.position
        assert log_assignment is not None and position is not None and prediction.scenario_logit is not None
        self.scenario_health.observe(log_assignment, position)
        left = slice(None) if self.pruning is None else self.pruning.left
        if self.pruning is not None and self.pruning.after_step(
            log_assignment, prediction.scenario_logit, batch, self.progress
        ):
            self.scenario_health = ScenarioHealth(len(self.pruning.left))
        if not isinstance(self.assigner, Prototypes) or not self.moves_prototypes:
            return
        if self.options.objective == "paper":
            weight = log_assignment.exp()
        else:
            weight = objective.request_posterior(log_assignment, prediction.scenario_logit, batch.label, batch.request)
        of_all = weight.new_zeros(len(weight), self.scenarios)
        of_all[:, left] = weight
        self.assigner.move(position, of_all, self.options.prototype_rate)

    def keep_from(self) -> float:
        """Only weights after pruning and hardening count, and, with late confidence, of the penalty's second half."""
        return max(
            self.options.harden_from if self.hardens() else 0.0,
            (1 + self.options.confidence_from) / 2 if self.options.confidence else 0.0,
            self.options.pruning.end if self.pruning is not None else 0.0,
        )

    def health(self) -> Health:
        """Signs of health of docs/model.md since the last call, and how many scenarios are left."""
        prototypes = getattr(self, "assigner", None)
        health = self.scenario_health.report(prototypes if isinstance(prototypes, Prototypes) else None)
        if self.pruning is not None:
            health.values["scenarios_left"] = float(len(self.pruning.left))
        return health

    def health_state(self) -> dict[str, Tensor]:
        """What the next `health` will speak of so far."""
        return self.scenario_health.state()

    def load_health_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `health_state` gave."""
        self.scenario_health.load(state)


def _by_candidate(log_assignment: Tensor, batch: Batch) -> Tensor:
    """(N, K); of one request (1, K), which goes with each of its candidates."""
    return log_assignment if log_assignment.shape[0] in (1, batch.candidates) else log_assignment[batch.request]


def _scenario_count(options: MusenetOptions, schema: Schema) -> int:
    """K: from the options, or from the log where a column names the scenario."""
    if options.assignment == "predefined":
        if not schema.predefined_scenarios:
            raise ConfigError("model.assignment: predefined needs `predefined_scenario`, the columns that name it")
        return schema.predefined_scenarios
    if options.assignment == "true":
        if not schema.true_scenarios:
            raise ConfigError("model.assignment: true needs `true_scenario`, a generator's column")
        return schema.true_scenarios
    return options.pruning.start if options.scenarios == "auto" else options.scenarios


def _intentions(options: MusenetOptions, schema: Schema, scenarios: int, request: int, candidate: int) -> nn.Module:
    """The K intention modules of the asked form; a log without a repeat key has none to tell apart."""
    if options.form == "auto":
        raise ConfigError("model.form: auto is decided before a model is built: use `musenet train`")
    form: Form = options.form if schema.has_repeats else "plain"

    def build(networks: int, width: float = 1.0) -> nn.Module:
        hidden, intention = (
            _widened(sizes, width) for sizes in (options.hidden, options.intention_hidden or options.hidden)
        )
        sizes = (networks, request, candidate, hidden)
        shares = options.shared_score and options.objective == "robust"
        shared = SharedScore(request, candidate, hidden, options.crosses) if shares else None
        if form == "plain":
            return PlainIntention(*sizes, shared=shared)
        return IntentionModules(*sizes, form, intention_hidden=intention, shared=shared)

    if options.parameters_of is None:
        return build(scenarios)
    target = _parameters(build(options.parameters_of))
    width = 1.0
    while _parameters(build(scenarios, width)) < target:
        width *= 1.02
    return build(scenarios, width)


def _widened(hidden: list[int], width: float) -> list[int]:
    return [round(size * width) for size in hidden]


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
