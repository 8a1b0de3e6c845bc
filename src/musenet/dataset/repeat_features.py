"""What a model sees of repeats: one definition for training, evaluation and serving."""

import numpy as np

SECONDS_PER_DAY = 86400.0


REPEAT_FEATURES = 3


def repeat_features(indicator: np.ndarray, count: np.ndarray, recency: np.ndarray) -> np.ndarray:
    """What a model sees of repeats: (N, 3) indicator, log(1 + count), log(1 + days since the last), 0 if never."""
    days = np.where(np.isfinite(recency), recency, 0.0) / SECONDS_PER_DAY
    return np.stack([indicator, np.log1p(count), np.log1p(days)], axis=1).astype(np.float32)
