"""What every click model answers, whatever it is inside.

Shapes: R requests, N candidates, K scenarios.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from musenet.dataset.batch import Batch, Schema
from musenet.distributed.pieces import InPieces
from musenet.errors import ConfigError, UserError
from musenet.models.embedding import EmbeddingTable, Inputs
from musenet.models.layers import weighted_cross_entropy
from musenet.models.options import ModelOptions, PoolingOptions


def inputs_of(options: ModelOptions, schema: Schema, **more: Any) -> Inputs:
    """Both sides of a batch as the options say that a model sees them; `more` of `Inputs` is the model's own."""
    seen: dict[str, Any] = {
        "ids": options.seen_ids,
        "repeat_features": options.repeat_features,
        "numbers": options.numbers,
    }
    return Inputs(schema, options.embedding, **(seen | more))


def pooling_inputs(options: PoolingOptions, schema: Schema) -> Inputs:
    """Both sides of a batch as a model with a history encoder sees them."""
    return inputs_of(options, schema, history=options.history_encoder)


def history_columns_of(inputs: Inputs, options: ModelOptions) -> list[int]:
    """The columns of the history for a model that cannot do without; raises `ConfigError` if there are none."""
    if not inputs.history_columns:
        raise ConfigError(f"model.name: {options.name} reads the history; name its columns in history.columns")
    return inputs.history_columns


@dataclass(frozen=True)
class Prediction:
    """What a model says of a batch."""

    logit: Tensor
    """(N,) of a click."""
    scenario_logit: Tensor | None = None
    """(N, K) z_k: each scenario's logit."""
    log_assignment: Tensor | None = None
    """(R, K) log a; (N, K) where the metric space sees the candidate."""
    repeat_probability: Tensor | None = None
    """(R, K) p_r of each scenario."""
    point: Tensor | None = None
    """(R, M) f_omega(x): where the request lies in the metric space; (N, M) where that sees the candidate."""
    extra: dict[str, Tensor] = field(default_factory=dict)
    """What further terms of a model's own loss are computed from."""


@dataclass(frozen=True)
class Term:
    """A named part of the loss."""

    value: Tensor
    weight: float = 1.0


def check_answer(model: "ClickModel", prediction: Prediction, batch: Batch) -> None:
    """Raise `UserError` if what a model's `forward` gave is no prediction of the batch that can be trained."""
    name = f"{type(model).__name__}.forward"
    if not isinstance(prediction, Prediction):
        raise UserError(f"{name} gives a {type(prediction).__name__}: it has to give a Prediction")
    shape = tuple(prediction.logit.shape)
    if shape != (batch.candidates,):
        raise UserError(
            f"{name} gives a logit of shape {shape} for {batch.candidates} candidates of {batch.requests} requests: it "
            f"has to be ({batch.candidates},), one for each candidate"
        )
    if not prediction.logit.requires_grad:
        raise UserError(f"{name} gives a logit without a gradient: nothing can learn from it: leave out detach()")


def check_terms(model: "ClickModel", terms: dict[str, Term]) -> None:
    """Raise `UserError` unless what a model's `losses` gave are named terms of one number each."""
    name = f"{type(model).__name__}.losses"
    if not isinstance(terms, dict) or not all(isinstance(term, Term) for term in terms.values()):
        raise UserError(f"{name} has to give a dictionary of Terms, by name")
    for term_name, term in terms.items():
        if term.value.dim() > 0:
            raise UserError(
                f"{name}: the value of '{term_name}' has the shape {tuple(term.value.shape)}: take its mean"
            )


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that learn at `rate` times the training's learning rate."""

    parameters: list[nn.Parameter]
    rate: float = 1.0


@dataclass(frozen=True)
class Health:
    """Signs of health of the scenarios (docs/model.md) and what is wrong with them, in words."""

    values: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class ClickModel(nn.Module):
    """A click model: an embedding table and what is computed from it.

    A model knows no files, devices or optimizers. It is built from its options and the schema of the batches, in which
    vectors are numbers like others: `vectors.py` projects them before `forward`.
    """

    options_type: ClassVar[type[ModelOptions]]
    table: EmbeddingTable

    def whole_state(self) -> dict[str, Tensor | InPieces]:
        """The `state_dict`, with all rows of the embedding table, whichever worker holds them."""
        return self.state_dict() | {"table.weight": self.table.whole(self.table.weight)}

    def count_parameters(self) -> int:
        """Numbers in all parameters, with all rows of the embedding table."""
        table = self.table.whole(self.table.weight)
        dense = sum(parameter.numel() for parameter in self.parameters() if parameter is not self.table.weight)
        return dense + table.shape[0] * table.shape[1]

    def forward(self, batch: Batch, progress: float = 1.0) -> Prediction:
        """Predict every candidate of the batch.

        Args:
            batch: of requests.
            progress: how far training has come, in [0, 1] of the planned steps.
        """
        raise NotImplementedError

    def losses(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Term]:
        """The terms whose weighted sum is trained; cross-entropy (Eq 11) unless a model has others."""
        return {"click": Term(weighted_cross_entropy(prediction.logit, batch.label, batch.weight))}

    def parameter_groups(self) -> list[ParameterGroup]:
        """What the dense optimizer trains; the embedding table is trained apart."""
        return [ParameterGroup([p for p in self.parameters() if p is not self.table.weight])]

    def after_step(self, prediction: Prediction, batch: Batch, progress: float) -> None:
        """Change what is not learned by gradient; called after each optimizer step."""

    def keep_from(self) -> float:
        """Progress from which on the weights may be kept as the best; 0 unless the model changes nature on the way."""
        return 0.0

    def scenario_count(self) -> int | None:
        """How many scenarios it tells apart; None for a model without."""
        return None

    def prototypes(self) -> Tensor | None:
        """(K, M) the prototypes of these scenarios in the metric space; None for a model without."""
        return None

    def health(self) -> Health:
        """How the scenarios did since the last call."""
        return Health()

    def health_state(self) -> dict[str, Tensor]:
        """What the next `health` will speak of so far, for the checkpoint."""
        return {}

    def load_health_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `health_state` gave."""
