"""Recalibration: a logit moved so that what is predicted is what happens, the same offline and in service.

Fitted by `evaluation.recalibration` on validation, kept with a run and in its export. Everything is numpy in float64.
"""

from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from musenet.results import Result

CalibrationKind = Literal["none", "platt", "isotonic"]
Floats = NDArray[np.float64]


class Calibration(Result):
    """An increasing function of a logit, made of a few numbers.

    `platt`: the line `slope` · z + `intercept`. `isotonic`: straight lines, in logits, between `points` (z, its
    calibrated logit); before the first and behind the last the function is constant.
    """

    written_by: ClassVar[str] = "`musenet train`"

    kind: CalibrationKind
    slope: float = 1.0
    intercept: float = 0.0
    points: list[tuple[float, float]] = []
    weights: str
    """SHA-256 of the model's weights that it belongs to."""

    @cached_property
    def _columns(self) -> tuple[Floats, Floats]:
        points = np.array(self.points, dtype=np.float64)
        return points[:, 0], points[:, 1]

    def __call__(self, logit: NDArray[np.floating]) -> Floats:
        """The calibrated logit, in the shape of the logit, which must be finite.

        >>> import numpy as np
        >>> steps = Calibration(kind="isotonic", points=[(-1.0, -3.0), (1.0, 0.0)], weights="")
        >>> steps(np.array([-5.0, 0.0, 1.0, 5.0]))
        array([-3. , -1.5,  0. ,  0. ])
        """
        values = np.asarray(logit, dtype=np.float64)
        if self.kind == "isotonic":
            return np.asarray(np.interp(values, *self._columns))
        return np.asarray(self.slope * values + self.intercept)
