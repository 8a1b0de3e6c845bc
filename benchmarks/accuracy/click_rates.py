"""The baseline without a model: click rates of item, predefined scenario and user, added on the logit scale.

    python benchmarks/accuracy/click_rates.py datasets/kuairand

Rates are counted on everything before the split and drawn towards the overall rate p0, as if a value had been seen ten
times more at that rate: p = (clicks + 10 p0) / (shown + 10). The score is the sum of logit(p) - logit(p0).
"""

import sys
from pathlib import Path

import numpy as np

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.metrics import auc

PRIOR = 10


def main(folder: str) -> None:
    dataset = Dataset(Path(folder))
    offset = dataset.column("requests/candidate_offset")
    request = np.repeat(np.arange(len(offset) - 1), np.diff(offset))
    keys = {"item": np.asarray(dataset.column("candidates/item"))}
    if dataset.has("requests/predefined_scenario"):
        keys["scenario"] = dataset.column("requests/predefined_scenario")[request]
    keys["user"] = dataset.column("requests/user")[request]
    label = np.asarray(dataset.column("candidates/label"), dtype=np.float64)
    splits: tuple[Split, ...] = ("valid", "test")
    for split in splits:
        period = dataset.manifest.splits[split]
        begin, end = int(offset[period.begin]), int(offset[period.end])
        scores = {name: _score(key, label, begin, end) for name, key in keys.items()}
        scores[" + ".join(keys)] = np.sum(list(scores.values()), axis=0)
        for name, score in scores.items():
            print(f"{split:6}{name:24}AUC {auc(label[begin:end], score):.4f}")


def _score(key: np.ndarray, label: np.ndarray, begin: int, end: int) -> np.ndarray:
    """(end - begin) log odds of each row's value, less the overall ones, counted on the rows before `begin`."""
    overall = label[:begin].mean()
    shown = np.bincount(key[:begin], minlength=key.max() + 1)
    clicks = np.bincount(key[:begin], weights=label[:begin], minlength=key.max() + 1)
    rate = (clicks + PRIOR * overall) / (shown + PRIOR)
    odds = np.log(rate / (1 - rate)) - np.log(overall / (1 - overall))
    return np.asarray(odds[key[begin:end]])


if __name__ == "__main__":
    main(sys.argv[1])
