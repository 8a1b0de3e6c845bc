"""From where on `musenet drift` says that something moved."""

from pydantic import Field

from musenet.options import Options


class DriftOptions(Options):
    """Thresholds; what stays below all of them ends with exit status 0."""

    unseen: float = Field(
        0.1, gt=0, le=1, description="values of a column that are served as unseen, more than in validation"
    )
    stability: float = Field(
        0.25, gt=0, description="population stability index of a column against training, beyond what chance gives"
    )
    loss: float = Field(
        0.001, gt=0, description="share of the logloss that knowing the new mix and taste would save, beyond chance"
    )
    p: float = Field(0.001, gt=0, lt=1, description="and how improbable that is if neither moved")
    own: float = Field(
        0.2, gt=0, lt=1, description="mix and taste are both named if each has so much of that to itself"
    )
