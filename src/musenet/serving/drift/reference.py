"""What an export says of the periods that its model comes from, for `drift` to compare with."""

from typing import ClassVar

from musenet.evaluation.intervals import Interval
from musenet.results import Number, Result
from musenet.serving.drift.moves import Bent
from musenet.serving.drift.stability import Column

REFERENCE = "reference.json"
"""Its file in the export."""
METRICS = ("auc", "logloss", "calibration_ratio")
"""That are told day by day."""
REPEATS = "repeats"
"""The column that says whether a candidate repeats an earlier event."""


class Reference(Result):
    """Columns as in training, answers as in validation, which the weights were not fitted to."""

    written_by: ClassVar[str] = "`musenet export`"

    users: int
    """Of the training requests that the columns' bins were counted in."""
    columns: list[Column]
    impressions: int
    """Of validation."""
    figures: dict[str, Interval]
    """`METRICS` in validation."""
    share: list[Number]
    """(K) of the scenarios in validation."""
    requests: int
    """Of validation."""
    answers: Bent
