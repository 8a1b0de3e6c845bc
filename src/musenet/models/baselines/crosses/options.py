"""Options of the models that cross their inputs."""

from typing import Literal

from pydantic import Field

from musenet.models.options import PoolingOptions


class DcnV2Options(PoolingOptions):
    """Options of DCN-V2."""

    name: Literal["dcn_v2"] = "dcn_v2"
    hidden: list[int] = Field([128, 64], min_length=1, description="sizes of the ReLU layers of the MLP")
    cross_layers: int = Field(2, ge=1, description="how many cross layers")
    low_rank: int | None = Field(None, ge=1, description="rank of each cross layer's matrix; full rank if unset")
    structure: Literal["stacked", "parallel"] = Field(
        "stacked", description="`stacked`: the MLP follows the cross layers; `parallel`: it is beside them"
    )


class NcfOptions(PoolingOptions):
    """Options of NCF."""

    name: Literal["ncf"] = "ncf"
    hidden: list[int] = Field([128, 64], min_length=1, description="sizes of the ReLU layers of the MLP")
    factors: int = Field(32, ge=1, description="size of the factorised vectors")


class WideDeepOptions(PoolingOptions):
    """Options of Wide&Deep."""

    name: Literal["wide_deep"] = "wide_deep"
    hidden: list[int] = Field([128, 64], min_length=1, description="sizes of the ReLU layers of the deep part")

    @property
    def table_columns(self) -> int:
        """One more than the embedding: the wide weights live in the same table, so a step touches few of them."""
        return self.embedding + 1


class DeepFmOptions(WideDeepOptions):
    """Options of DeepFM."""

    name: Literal["deepfm"] = "deepfm"  # type: ignore[assignment]
