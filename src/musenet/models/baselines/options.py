"""Options of the baselines that stand beside this file."""

from typing import Any, Literal

from pydantic import Field

from musenet.errors import UserError
from musenet.models.options import ModelOptions, PoolingOptions


def library() -> Any:
    """LightGBM; raises `UserError` if it is not installed."""
    try:
        import lightgbm
    except (ImportError, OSError) as error:  # OSError: its library lacks one of the system's
        raise UserError(
            f"model.name: lightgbm needs LightGBM ({error}): install it with pip install 'musenet[rivals]', or leave "
            "the row out"
        ) from error
    return lightgbm


class BaseModelOptions(PoolingOptions):
    """Options of BaseModel."""

    name: Literal["base_model"] = "base_model"
    hidden: list[int] = [128, 64]


class LightGbmOptions(ModelOptions):
    """Options of LightGBM."""

    name: Literal["lightgbm"] = "lightgbm"
    embedding: Literal[0] = Field(0, description="not used by trees")
    numbers: Literal["plain"] = Field("plain", description="trees only compare numbers with thresholds")
    trees: int = Field(2000, ge=1, description="maximum number of trees")
    shrinkage: float = Field(0.05, gt=0, le=1, description="LightGBM's `learning_rate`")
    leaves: int = Field(63, ge=2, description="leaves of every tree")
    rows_per_leaf: int = Field(50, ge=1, description="minimum number of impressions in a leaf")
    row_share: float = Field(0.8, gt=0, le=1, description="share of the impressions used for each tree")
    column_share: float = Field(0.8, gt=0, le=1, description="share of the columns used for each tree")
    patience: int = Field(50, ge=1, description="stop after this many trees without improvement on validation")

    @property
    def by_gradient(self) -> bool:
        """Trees are grown one by one and then stay."""
        return False

    @property
    def heeded_training(self) -> frozenset[str]:
        """Nothing that says how steps of gradient descent are taken."""
        return frozenset({"requests", "unseen_rate", "monitor", "validation_impressions"})

    def check_installed(self) -> None:
        """Raise `UserError` without LightGBM."""
        library()
