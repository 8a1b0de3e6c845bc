"""What a model sees of repeats: one definition for training, evaluation and serving."""

import numpy as np

REPEAT_FEATURES = 3
A_DAY = np.log1p(86400.0)


def repeat_features(indicator: np.ndarray, count: np.ndarray, recency: np.ndarray) -> np.ndarray:
    """What a model sees of repeats: (N, 3) indicator, log(1 + count), and how long ago the last was.

    The third is log((1 + seconds) / (1 + a day)) / 2: seconds decide in a session, days in a week; halved, the values
    spread about as far as other inputs do. A day is 0, and so is what never was, which the indicator tells apart. So is
    a last time that is not before the request: a history store keeps no other of what happened long before its newest.
    """
    known = np.isfinite(recency) & (recency >= 0)
    ago = (np.log1p(np.where(known, recency, 0.0)) - A_DAY) / 2
    return np.stack([indicator, np.log1p(count), np.where(known, ago, 0.0)], axis=1).astype(np.float32)
