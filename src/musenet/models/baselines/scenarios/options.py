"""Options of the models that are about scenarios."""

from typing import Annotated, Literal

from pydantic import Field

from musenet.models.options import ModelOptions, PoolingOptions


class AdaptDhmOptions(PoolingOptions):
    """Options of AdaptDHM."""

    name: Literal["adaptdhm"] = "adaptdhm"
    hidden: list[int] = Field([128, 64], min_length=1, description="sizes of the ReLU layers of the network")
    clusters: int = Field(4, ge=1, description="K, clusters of impressions")
    momentum: float = Field(
        0.9, gt=0, lt=1, description="share of a cluster's centre that is kept in one round of routing"
    )
    rounds: int = Field(3, ge=1, description="rounds of routing in a step")


class PleOptions(PoolingOptions):
    """Options of PLE."""

    name: Literal["ple"] = "ple"
    hidden: Annotated[list[int], Field(min_length=2, max_length=2)] = Field(
        [64, 32], description="size of an expert, one ReLU layer, in each of the two levels"
    )
    tower: list[int] = Field([32], min_length=1, description="sizes of the ReLU layers of each scenario's tower")
    own_experts: int = Field(1, ge=1, description="m, experts of each scenario")
    shared_experts: int = Field(2, ge=1, description="s, shared experts")


class RevManOptions(PoolingOptions):
    """Options of RevMan."""

    name: Literal["revman"] = "revman"
    hidden: list[int] = Field([64, 32], min_length=1, description="sizes of the ReLU layers of each scenario's expert")
    tower: list[int] = Field([32], min_length=1, description="sizes of the ReLU layers of each scenario's tower")


class SarNetOptions(ModelOptions):
    """Options of SAR-Net."""

    name: Literal["sarnet"] = "sarnet"
    hidden: list[int] = Field([64, 32], min_length=1, description="sizes of the ReLU layers of every expert")
    own_experts: int = Field(1, ge=1, description="m, experts of each scenario")
    shared_experts: int = Field(2, ge=1, description="s, shared experts")
    attention_hidden: int = Field(16, ge=1, description="units of both attentions")


class StarOptions(PoolingOptions):
    """Options of STAR."""

    name: Literal["star"] = "star"
    hidden: list[int] = Field(
        [128, 64], min_length=1, description="sizes of the ReLU layers of the star topology network"
    )
    auxiliary: list[int] = Field([32], min_length=1, description="sizes of the ReLU layers of the auxiliary network")


class TreeMsOptions(PoolingOptions):
    """Options of TreeMS."""

    name: Literal["treems"] = "treems"
    hidden: list[int] = Field([64, 32], min_length=1, description="sizes of the ReLU layers of every expert")
    tower: list[int] = Field(
        [32], min_length=1, description="sizes of the ReLU layers of the network after the experts"
    )
    experts: int = Field(4, ge=2, description="E, shared experts")
    balance: float = Field(0.01, ge=0, description="weight of the load-balancing loss of the experts")
