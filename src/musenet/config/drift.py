"""From where on `musenet drift` says that something moved."""

from pydantic import Field

from musenet.options import Options


class DriftOptions(Options):
    """Thresholds; what stays below all of them ends with exit status 0."""

    unseen: float = Field(0.1, gt=0, le=1, description="increase of a column's share of unseen values over validation")
    stability: float = Field(
        0.25, gt=0, description="population stability index of a column against training, above its value under chance"
    )
    loss: float = Field(
        0.001, gt=0, description="share of the logloss that the fitted mix and taste save, beyond chance"
    )
    p: float = Field(0.001, gt=0, lt=1, description="p-value of the test that mix or taste changed")
    own: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="mix and taste are both named if each of them accounts alone for this share of the saving",
    )
