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
    requests = np.arange(dataset.manifest.requests)
    request = np.repeat(requests, dataset.sizes_of(requests))
    keys = {"item": dataset.candidates.item}
    if dataset.requests.predefined_scenario is not None:
        keys["scenario"] = dataset.requests.predefined_scenario[request]
    keys["user"] = dataset.requests.user[request]
    label = dataset.candidates.label.astype(np.float64)
    splits: tuple[Split, ...] = ("valid", "test")
    for split in splits:
        period = dataset.manifest.splits[split]
        shown = dataset.candidates_between(period.begin, period.end)
        scores = {name: _score(key, label, shown) for name, key in keys.items()}
        scores[" + ".join(keys)] = np.sum(list(scores.values()), axis=0)
        for name, score in scores.items():
            print(f"{split:6}{name:24}AUC {auc(label[shown], score):.4f}")


def _score(key: np.ndarray, label: np.ndarray, rows: slice) -> np.ndarray:
    """(rows) log odds of each row's value, less the overall ones, counted on all that was before."""
    before = slice(rows.start)
    overall = label[before].mean()
    shown = np.bincount(key[before], minlength=key.max() + 1)
    clicks = np.bincount(key[before], weights=label[before], minlength=key.max() + 1)
    rate = (clicks + PRIOR * overall) / (shown + PRIOR)
    odds = np.log(rate / (1 - rate)) - np.log(overall / (1 - overall))
    return np.asarray(odds[key[rows]])


if __name__ == "__main__":
    main(sys.argv[1])
