"""Options that all models share.

No options need PyTorch, whose import takes longer than to read a configuration: those of each model stand beside it, in
the `options.py` of its folder.
"""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from musenet.options import Options

Activation = Literal["prelu", "dice"]
HistoryEncoder = Literal["mean", "attention"]
Numbers = Literal["plain", "embedded"]
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
    """Options that all models share; what a model is follows from them."""

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
