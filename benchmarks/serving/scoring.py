"""One user and 500 candidates: our scorer, the same model in PyTorch, and DeepCTR-Torch's DIN, one after the other.

    python benchmarks/serving/scoring.py --python benchmarks/accuracy/.venv-peers/bin/python

Every round times each of them once, so that what else the machine does falls on all alike. Ours is timed from the
request as a dictionary to the answer, ids looked up and columns encoded; the peer from codes that it is handed. One
thread each. The last lines are the medians with their quartiles, and the ratios.
"""

import json
import subprocess
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from ads_shape import ITEM, LENGTH, export_model, write_ads_shape

from musenet.serving.export.graphs import logit_of
from musenet.serving.export.one_request import INPUTS, LookedUp, batch_of
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.store.history import PastEvent, RepeatStatistics, UserHistory
from musenet.simulators.ads.published import ADS, PROFILE_VALUES, USERS

CANDIDATES, WARMUP, HISTORIES = 500, 10, 500
HIDDEN, ATTENTION, EMBEDDING = [128, 64], 64, 16
MUSENET: dict[str, Any] = {"name": "musenet", "scenarios": 4, "hidden": HIDDEN, "embedding": EMBEDDING}
MODELS: dict[str, dict[str, Any]] = {
    "MUSENET soft": MUSENET,
    "MUSENET hard": MUSENET | {"assignment": "hard"},
    "DIN": {"name": "din", "hidden": HIDDEN, "embedding": EMBEDDING, "attention_hidden": ATTENTION},
}
PEER = "DeepCTR-Torch's DIN"
Timed = Callable[[], float]


def main() -> None:
    parser = ArgumentParser(description="Milliseconds to score one user's candidates.")
    parser.add_argument("--python", type=Path, help="of the peers' environment; without, no peer is timed")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--small", type=int, default=1, help="divide users and items by this")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        timed = ours(Path(folder), arguments.small)
        peer = None
        if arguments.python is not None:
            peer = start_peer(arguments.python, Path(folder), arguments.small)
            timed[PEER] = lambda: ask(peer)
        spent = measure(timed, arguments.rounds)
        if peer is not None:
            peer.communicate()
    show(spent)


def ours(folder: Path, small: int) -> dict[str, Timed]:
    """A timer of each model's scorer, of its graphs alone, and of the same in PyTorch."""
    users, items = USERS // small, ADS // small
    dataset = write_ads_shape(folder / "dataset", users, items)
    random = np.random.default_rng(1)
    timed: dict[str, Timed] = {}
    for name, options in MODELS.items():
        model = export_model(folder / name.replace(" ", "-"), dataset, options)
        scorer = Scorer(folder / name.replace(" ", "-") / "export", store=RandomPast(random))
        timed |= timers(name, scorer, model, lambda: new_request(random, users, items))
    return timed


def timers(name: str, scorer: Scorer, model: Any, request: Callable[[], dict[str, Any]]) -> dict[str, Timed]:
    model.eval()
    model.table = LookedUp()

    def whole() -> float:
        asked = request()
        return milliseconds(lambda: scorer.score(asked))

    def graphs() -> float:
        encoded = scorer.encode(request())
        return milliseconds(lambda: scorer.logit(encoded))

    def in_torch() -> float:
        encoded = scorer.encode(request())
        inputs = [torch.from_numpy(encoded.inputs[one]) for one in INPUTS]
        with torch.inference_mode():
            return milliseconds(lambda: logit_of(model, batch_of(inputs)))

    return {name: whole, f"{name}, its graphs alone": graphs, f"{name}, the same in PyTorch": in_torch}


class RandomPast:
    """A store that gives everybody 50 events, made beforehand; reading one is measured elsewhere."""

    def __init__(self, random: np.random.Generator) -> None:
        self.histories = cycle([new_history(random) for _ in range(HISTORIES)])

    def read(self, user: str, before: float | None) -> UserHistory:
        return next(self.histories)


def new_history(random: np.random.Generator) -> UserHistory:
    categories = random.integers(1, ITEM["cate_id"] + 1, LENGTH).astype(str)
    brands = random.integers(1, ITEM["brand"] + 1, LENGTH).astype(str)
    pairs = list(zip(categories.tolist(), brands.tolist(), strict=True))
    events = (PastEvent(None, "pv", float(at), {"cate_id": c, "brand": b}) for at, (c, b) in enumerate(pairs))
    return UserHistory(tuple(events), dict.fromkeys(pairs, RepeatStatistics(1, 1.0)))


def new_request(random: np.random.Generator, users: int, items: int) -> dict[str, Any]:
    chosen = random.integers(1, items + 1, CANDIDATES)
    return {
        "user": int(random.integers(1, users + 1)),
        "time": 1_494_600_000.0,
        "context": {"pid": "1"},
        "candidates": [{"item": int(item)} for item in chosen],
    }


def start_peer(python: Path, folder: Path, small: int) -> subprocess.Popen[str]:
    sizes = {
        "users": {"user": USERS // small + 3, "pid": 5} | {name: size + 3 for name, size in PROFILE_VALUES.items()},
        "items": {"adgroup_id": ADS // small + 3} | {name: size + 3 for name, size in ITEM.items()},
        "history": ["cate_id", "brand"],
        "length": LENGTH,
        "candidates": CANDIDATES,
        "embedding": EMBEDDING,
        "hidden": HIDDEN,
        "attention_hidden": ATTENTION,
    }
    (folder / "sizes.json").write_text(json.dumps(sizes))
    command = [str(python), str(Path(__file__).with_name("deepctr_din.py")), str(folder / "sizes.json")]
    peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while line_of(peer.stdout) != "ready":
        pass
    return peer


def ask(peer: subprocess.Popen[str]) -> float:
    assert peer.stdin is not None
    peer.stdin.write("one\n")
    peer.stdin.flush()
    return float(line_of(peer.stdout))


def line_of(pipe: IO[str] | None) -> str:
    assert pipe is not None
    line = pipe.readline().strip()
    if not line:
        raise SystemExit("the peer ended: see its message above")
    return line


def milliseconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1000


def measure(timed: dict[str, Timed], rounds: int) -> dict[str, np.ndarray]:
    """(rounds,) milliseconds of each, in turn."""
    spent: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(WARMUP + rounds):
        for name, timer in timed.items():
            taken = timer()
            if turn >= WARMUP:
                spent[name].append(taken)
    return {name: np.array(values) for name, values in spent.items()}


def show(spent: dict[str, np.ndarray]) -> None:
    width = max(map(len, spent))
    print(f"1 user, {CANDIDATES} candidates, one thread: milliseconds, median (quartiles; 99th percentile)")
    for name, values in spent.items():
        low, middle, high, last = np.percentile(values, [25, 50, 75, 99])
        print(f"{name:{width}}  {middle:6.2f}  ({low:.2f} to {high:.2f}; {last:.2f})")
    for name in MODELS:
        if PEER in spent:
            print(f"{PEER} / {name}: {ratio(spent[PEER], spent[name])}")
        print(f"PyTorch / ONNX Runtime, {name}: {ratio(*(spent[f'{name}, {how}'] for how in RUNTIMES))}")


RUNTIMES = ("the same in PyTorch", "its graphs alone")


def ratio(slow: np.ndarray, fast: np.ndarray) -> str:
    """Median and quartiles of the rounds' ratios."""
    low, middle, high = np.percentile(slow / fast, [25, 50, 75])
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
