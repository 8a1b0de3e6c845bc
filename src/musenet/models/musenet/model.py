"""MUSENET (Xu et al., WSDM 2023), to be read beside the paper's section 3.

Shapes: R requests, N candidates, M metric space, K scenarios.
"""

import torch
from torch import Tensor

from musenet.dataset.batch import Batch, Schema
from musenet.models.embedding import EmbeddingTable, HistoryMeans
from musenet.models.interface import ClickModel, Health, ParameterGroup, Prediction, Term, pooling_inputs
from musenet.models.layers import CrossLayers, full_precision
from musenet.models.musenet.assigners import assigner_of
from musenet.models.musenet.health import ScenarioHealth
from musenet.models.musenet.intentions import intentions_of
from musenet.models.musenet.metric_space import Embedded, metric_space_of
from musenet.models.musenet.objectives import by_candidate, objective_of
from musenet.models.musenet.options import MusenetOptions
from musenet.models.musenet.pruning import pruning_of
from musenet.models.musenet.versions import version_of

Sides = tuple[Tensor, Tensor, Tensor | None, Tensor]
"""What both sides tell before any click is predicted: see `Musenet.sides`."""


class Musenet(ClickModel):
    """K scenarios, each with its own repeat intention module (Fig 3)."""

    options_type = MusenetOptions

    def __init__(self, options: MusenetOptions, schema: Schema) -> None:
        super().__init__()
        self.options = options
        self.scenarios = options.scenario_count(schema)
        self.table = EmbeddingTable(schema.embedding_rows, options.embedding)
        self.inputs = pooling_inputs(options, schema)
        # 3.2.1: the scenario learning module
        self.metric_space = metric_space_of(options, schema, self.inputs)
        self.assigner = assigner_of(options, self.scenarios, schema)
        self.version = version_of(options, self.scenarios)
        # 3.2.2: the repeat intention modelling module
        request_size, candidate_size = self.inputs.request_size, self.inputs.candidate_size
        self.crosses = None
        if options.cross_layers and options.objective == "robust":
            candidate_size += request_size
            self.crosses = CrossLayers(options.cross_layers, candidate_size, None)
        told = request_size + self.version.told
        self.intentions = intentions_of(options, schema, self.scenarios, told, candidate_size)
        # 3.2.3 and 3.2.4: prediction, training and optimisation
        self.objective = objective_of(options, self.scenarios)
        self.pruning = pruning_of(options, self.scenarios)
        self.scenario_health = ScenarioHealth(self.scenarios)
        self.history_columns = sorted({*self.inputs.pooled, *self.metric_space.history})
        scaled = self.assigner.prototypes() is not None
        self.register_buffer("scale_is_fitted", torch.tensor(options.scale != "auto" or not scaled), persistent=scaled)
        self.scale_is_fitted: Tensor

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch: 3.2.3."""
        return self.predict(self.sides(batch, progress), batch)

    def predict(self, sides: Sides, batch: Batch) -> Prediction:
        """The same from what `sides` gave."""
        request, candidate, point, log_assignment = sides
        scenario_logit, repeat_probability = self.intentions(request, candidate, batch)  # Eq 9: (N, K), (R, K)
        log_assignment, scenario_logit, repeat_probability = self.pruning.of_the_left(
            log_assignment, scenario_logit, repeat_probability
        )
        return Prediction(
            logit=self.objective.mix(by_candidate(log_assignment, batch), scenario_logit),
            scenario_logit=scenario_logit,
            log_assignment=log_assignment,
            repeat_probability=repeat_probability,
            point=point,
        )

    def sides(self, batch: Batch, progress: float = 1.0) -> Sides:
        """The intention modules' inputs of both sides, f_omega(x), and (R, K) log a; (N, K) for `paper`."""
        x = self.embed(batch)
        with full_precision(x.values):
            point = self.metric_space(x)  # f_omega(x)
            log_q = self.log_q(point, batch)  # Eq 3
            log_assignment = self.version.assign(log_q, progress, self.training)  # Eq 4 and 7 of the hard version
            request = self.version.tell(x.request, log_q, progress, self.training)
        return request, self.crossed(x, batch), point, log_assignment

    def embed(self, batch: Batch) -> Embedded:
        """X: the embeddings of [p_u, B_u, b_t, o_u]."""
        values = self.table.look_up(batch.rows)
        history = HistoryMeans(values, batch, self.history_columns)
        request, candidate = self.inputs.request(values, batch, history), self.inputs.candidate(values, batch)
        return Embedded(batch, values, history, request, candidate)

    def crossed(self, x: Embedded, batch: Batch) -> Tensor:
        """b_t as the scores see it: as it is, or [p_u, B_u, o_u, b_t] after the cross layers."""
        if self.crosses is None:
            return x.candidate
        both = torch.cat([x.request.index_select(0, batch.request), x.candidate], dim=1)
        crossed: Tensor = self.crosses(both)
        return crossed

    def log_q(self, point: Tensor | None, batch: Batch) -> Tensor:
        """(R, K) log Q(c|x): Eq 3, or what a control puts in its place, among the scenarios that are left."""
        if self.training and point is not None and not self.scale_is_fitted:
            self.assigner.fit_scale(point)
            self.scale_is_fitted.fill_(True)
        return self.pruning.among_the_left(self.assigner.log_q(point, batch))

    def logit_of_one_scenario(self, batch: Batch, sides: Sides | None = None) -> Tensor:
        """(N,) the logit of one request's candidates from its hardened scenario; no other scenario is computed."""
        request, candidate, _, log_assignment = sides or self.sides(batch)
        scenario_logit, _ = self.intentions(request, candidate, batch, log_assignment.argmax(1))
        return scenario_logit[:, 0]  # type: ignore[no-any-return]

    def losses(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Term]:
        """Eq 13, or its robust form."""
        return self.objective.losses(prediction, batch, progress)

    def parameter_groups(self) -> list[ParameterGroup]:
        """The metric space learns faster than the rest (docs/model.md)."""
        fast = [*self.metric_space.parameters(), *self.assigner.parameters()]
        chosen = {id(p) for p in fast}
        slow = [p for p in self.parameters() if p is not self.table.weight and id(p) not in chosen]
        learned = [p for p in fast if p.requires_grad]
        groups = [ParameterGroup(slow), ParameterGroup(learned, self.objective.metric_rate)]
        return [group for group in groups if group.parameters]

    @torch.no_grad()
    def after_step(self, prediction: Prediction, batch: Batch, progress: float) -> None:
        """Step 1 of the alternation (3.2.4): move the prototypes by Eq 14 while Theta is fixed."""
        log_assignment, point = prediction.log_assignment, prediction.point
        if point is None:
            return
        assert log_assignment is not None and prediction.scenario_logit is not None
        self.scenario_health.observe(log_assignment, point)
        left = self.pruning.left
        if self.pruning.after_step(log_assignment, prediction.scenario_logit, batch, progress):
            self.scenario_health = ScenarioHealth(self.pruning.count)
        if self.assigner.moves:
            weight = point.new_zeros(len(point), self.scenarios)
            weight[:, left] = self.objective.weight_of_eq_14(prediction, batch)
            self.assigner.move(point, weight, self.options.prototype_rate)

    def keep_from(self) -> float:
        """Only weights after pruning and hardening count, and, with late confidence, of the penalty's second half."""
        return max(self.version.keep_from, self.objective.keep_from, self.pruning.keep_from)

    def scenario_count(self) -> int:
        """K, or how many of them are left."""
        return self.pruning.count

    def prototypes(self) -> Tensor | None:
        """(K, M) c_k of the scenarios that are left."""
        prototypes = self.assigner.prototypes()
        return None if prototypes is None else prototypes[self.pruning.left]

    def health(self) -> Health:
        """Signs of health of docs/model.md since the last call, and how many scenarios are left."""
        health = self.scenario_health.report(self.assigner)
        health.values.update(self.pruning.signs())
        return health

    def health_state(self) -> dict[str, Tensor]:
        """What the next `health` will speak of so far."""
        return self.scenario_health.state()

    def load_health_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `health_state` gave."""
        self.scenario_health.load(state)
