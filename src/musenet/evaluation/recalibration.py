"""Fitting a recalibration on predictions, and applying it to them.

scikit-learn does the fitting and is imported where it is used, as in `recovery.py`.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from musenet.calibration import Calibration, CalibrationKind
from musenet.errors import RunError
from musenet.evaluation.predictions import Floats, Predictions

FIT_ON = "give split.valid a longer period, or set calibration: none"


def fit_calibration(kind: CalibrationKind, predictions: Predictions, weights: str) -> Calibration | None:
    """The recalibration of a model by what it predicted and what happened; None for `none`.

    `platt`: logistic regression on the logit, with Platt's targets (1999): of N₊ clicks (N₊ + 1) / (N₊ + 2), of N₋
    others 1 / (N₋ + 2), so that no slope is infinite. `isotonic`: pool adjacent violators; each block of equal shares
    is one point at its mean logit (centred isotonic regression, Oron and Flournoy 2017), shares at least 1 / (N + 2)
    from 0 and 1. Between points the function rises, so that it ties only what lies outside all of them.

    Args:
        kind: of recalibration.
        predictions: of the period to fit on, uncalibrated.
        weights: SHA-256 of the model's weights.

    Raises:
        RunError: if there is nothing to fit on.
    """
    if kind == "none":
        return None
    label = predictions.label.astype(np.float64)
    weight = np.ones(len(label)) if predictions.weight is None else predictions.weight
    clicks, others = float(weight @ label), float(weight @ (1 - label))
    if not (clicks > 0 and others > 0):
        raise RunError(
            f"calibration: {kind} is fitted on validation, which holds {len(label):,} impressions of weight {clicks:g} "
            f"clicked and {others:g} not: {FIT_ON}"
        )
    fit: Callable[..., dict[str, object]] = _line if kind == "platt" else _points
    return Calibration.model_validate({"kind": kind, "weights": weights} | fit(predictions.logit, label, weight))


def recalibrated(predictions: Predictions, calibration: Calibration | None) -> Predictions:
    """The predictions with calibrated logits; each scenario's logit moves by as much as the candidate's own."""
    if calibration is None:
        return predictions
    raw, of_scenarios = predictions.logit, predictions.scenario_logit
    logit = calibration(raw)
    moved = None if of_scenarios is None else of_scenarios + (logit - raw)[:, None]
    return replace(predictions, logit=logit, scenario_logit=moved, uncalibrated=raw)


def _line(logit: Floats, label: Floats, weight: Floats) -> dict[str, object]:
    from sklearn.linear_model import LogisticRegression

    clicks, others = weight @ label, weight @ (1 - label)
    target = np.where(label > 0, (clicks + 1) / (clicks + 2), 1 / (others + 2))
    twice, outcome = np.concatenate([logit, logit])[:, None], np.repeat([1, 0], len(logit))
    counts = np.concatenate([weight * target, weight * (1 - target)])
    found = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10).fit(twice, outcome, counts)
    return {"slope": float(found.coef_[0, 0]), "intercept": float(found.intercept_[0])}


def _points(logit: Floats, label: Floats, weight: Floats) -> dict[str, object]:
    from sklearn.isotonic import IsotonicRegression

    least = 1 / (len(label) + 2)
    counted = weight > 0
    logit, label, weight = logit[counted], label[counted], weight[counted]
    found = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(logit, label, weight)
    share, block = np.unique(found.predict(logit), return_inverse=True)
    middle = np.bincount(block, weights=weight * logit) / np.bincount(block, weights=weight)
    return {"points": list(zip(middle.tolist(), np.log(share / (1 - share)).tolist(), strict=True))}
