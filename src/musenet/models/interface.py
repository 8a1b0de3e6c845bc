"""What every click model answers, whatever it is inside.

Shapes: R requests, N candidates, K scenarios.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag
from torch import Tensor, nn

from musenet.dataset.batch import Batch, Schema
from musenet.distributed.pieces import InPieces
from musenet.errors import ConfigError
from musenet.models.embedding import EmbeddingTable, HistoryEncoder, Inputs, Numbers
from musenet.models.layers import weighted_cross_entropy
from musenet.options import Options

Role = Literal["musenet", "baseline", "control", "as published", "diagnostic"]


class IdOptions(Options):
    """Whose ids the model sees, side by side."""

    user: bool = Field(True, description="use the user's id")
    item: Literal[True, False, "match"] = Field(
        True,
        description="use the item's id; `match`: only to weight events in attention, not as an input of the networks",
    )


def _form_of_ids(value: object) -> str:
    return "(by side)" if isinstance(value, dict | IdOptions) else "(list)"


BOTH: list[Literal["user", "item"]] = ["user", "item"]
Ids = Annotated[
    Annotated[list[Literal["user", "item"]], Tag("(list)")] | Annotated[IdOptions, Tag("(by side)")],
    Discriminator(_form_of_ids),
]


class ModelOptions(Options):
    """Options that all models share; each model's own stand in its file. What a model is follows from them."""

    name: str
    embedding: int = Field(16, ge=1, description="size D of every embedding")
    ids: Ids = Field(BOTH, description="which ids the model uses; ids can overfit on a small log")
    repeat_features: bool = Field(
        True,
        description="use the repeat indicator, count and recency of each candidate; `false` gives a baseline as "
        "published",
    )
    numbers: Numbers = Field(
        "plain", description="`plain`: numeric values as inputs; `embedded`: a learned vector times the value"
    )

    @property
    def seen_ids(self) -> list[str]:
        """`ids` as `Inputs` take them."""
        if isinstance(self.ids, IdOptions):
            seen = {"user": self.ids.user, "item": self.ids.item is True, "match": self.ids.item == "match"}
            return [name for name, is_seen in seen.items() if is_seen]
        return list(self.ids)

    @property
    def role(self) -> Role:
        """What a row of it stands for in a comparison; baselines `as published` do not see repeat features."""
        return "baseline" if self.repeat_features else "as published"

    @property
    def table_columns(self) -> int:
        """Columns of the embedding table: all that is learned for each value."""
        return self.embedding

    @property
    def learns_scenarios(self) -> bool:
        """Whether it finds scenarios in the log."""
        return False

    @property
    def soft_scenarios(self) -> bool:
        """Whether it finds scenarios and every request has a share in each."""
        return False

    @property
    def unservable(self) -> str | None:
        """Why it cannot answer outside its own log; None if it can. Such a row never counts as the best."""
        return None

    @property
    def by_gradient(self) -> bool:
        """Whether it is learned step by step, by gradients; else it cannot go on learning, nor become a graph."""
        return True

    @property
    def heeded_training(self) -> frozenset[str] | None:
        """The training options that decide what it learns; all of them if None."""
        return None

    def check_installed(self) -> None:
        """Raise `UserError` if a library that it needs is missing."""

    def left_open(self, has_repeats: bool) -> "dict[str, ModelOptions]":
        """What an option `auto` stands for, by value, if training it side by side decides; nothing otherwise.

        Args:
            has_repeats: whether the log has a repeat key.
        """
        return {}


class PoolingOptions(ModelOptions):
    """Options of the models that pool the user's history."""

    history_encoder: HistoryEncoder = Field(
        "mean",
        description="how events are pooled: by the mean; `attention` adds a sum weighted for each candidate, as in DIN",
    )


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
