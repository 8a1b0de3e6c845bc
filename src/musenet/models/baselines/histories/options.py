"""Options of the models that are about the history."""

from typing import Literal

from pydantic import Field

from musenet.models.options import Activation, ModelOptions


class AtRankOptions(ModelOptions):
    """Options of ATRank."""

    name: Literal["atrank"] = "atrank"
    hidden: list[int] = Field([128, 64], min_length=1, description="sizes of the ReLU layers of the MLP")
    spaces: int = Field(4, ge=1, description="S, latent semantic spaces")
    units: int = Field(8, ge=1, description="A, units of each space")


class DinOptions(ModelOptions):
    """Options of DIN."""

    name: Literal["din"] = "din"
    hidden: list[int] = Field([128, 64], min_length=1, description="sizes of the hidden layers of the MLP")
    attention_hidden: int = Field(32, ge=1, description="units of the activation unit")
    activation: Activation = Field("dice", description="activation of the MLP and the activation unit")


class HifnOptions(ModelOptions):
    """Options of HIFN."""

    name: Literal["hifn"] = "hifn"
    hidden: list[int] = Field([128, 64], min_length=1, description="sizes of the ReLU layers of the MLP")
    units: int = Field(32, ge=1, description="A, units of every interest")
    recent: int = Field(10, ge=1, description="number of latest events that define short-term interests")
    disentangle: float = Field(
        0.1, ge=0, description="weight of the loss that separates long-term and short-term interests"
    )


class RepeatNetOptions(ModelOptions):
    """Options of RepeatNet."""

    name: Literal["repeatnet"] = "repeatnet"
    hidden: list[int] = Field([128, 64], min_length=1, description="sizes of the ReLU layers of both decoders' MLPs")
    encoder: int = Field(32, ge=1, description="units of the GRU and of the attentions")
    form: Literal["log", "probability"] = Field(
        "log", description="how the repeat or explore probability is used; see MUSENET's `form`"
    )
    mode_loss: float = Field(0.1, ge=0, description="weight of the loss on whether clicks were repeats or explorations")
