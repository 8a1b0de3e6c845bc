"""DeepCTR-Torch's DIN on one user and his candidates; runs in the peers' own environment and knows no musenet.

    python deepctr_din.py SIZES.json

SIZES.json: `users` and `items`, the number of values of each side's columns, `history`, the item columns that events
have, `length`, `candidates`, `embedding`, `hidden`, `attention_hidden`. Every line that is read asks for one more
request; the answer is a line with the milliseconds that it took to expand the user to as many rows as there are
candidates and to compute these. One thread.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat
from deepctr_torch.models import DIN

Sizes = dict[str, Any]


def main(file: Path) -> None:
    torch.set_num_threads(1)
    sizes: Sizes = json.loads(file.read_text(encoding="utf-8"))
    model = build(sizes)
    random = np.random.default_rng(1)
    print("ready", flush=True)
    for _ in sys.stdin:
        request = new_request(sizes, random)
        begin = time.perf_counter()
        score(model, request)
        print((time.perf_counter() - begin) * 1000, flush=True)


def build(sizes: Sizes) -> Any:
    def column(name: str, values: int, vocabulary: str) -> Any:
        return SparseFeat(name, values, embedding_dim=sizes["embedding"], embedding_name=vocabulary)

    every = sizes["users"] | sizes["items"]
    columns = [column(name, values, name) for name, values in every.items()]
    columns += [
        VarLenSparseFeat(column(f"hist_{name}", every[name], name), sizes["length"], "mean", "length")
        for name in sizes["history"]
    ]
    hidden, attention = tuple(sizes["hidden"]), (sizes["attention_hidden"],)
    model = DIN(columns, sizes["history"], dnn_hidden_units=hidden, att_hidden_size=attention, att_activation="dice")
    return model.eval()


def new_request(sizes: Sizes, random: np.random.Generator) -> dict[str, np.ndarray]:
    """A user's codes (1, columns) and history (1, L), the candidates' codes (N, columns)."""
    count, length = sizes["candidates"], sizes["length"]
    request = {name: random.integers(1, values, (1, 1)) for name, values in sizes["users"].items()}
    request |= {name: random.integers(1, values, (count, 1)) for name, values in sizes["items"].items()}
    request |= {f"hist_{name}": random.integers(1, sizes["items"][name], (1, length)) for name in sizes["history"]}
    return request | {"length": np.full((1, 1), length)}


@torch.inference_mode()
def score(model: Any, request: dict[str, np.ndarray]) -> torch.Tensor:
    count = max(len(block) for block in request.values())
    blocks = [np.broadcast_to(request[name], (count, request[name].shape[1])) for name in model.feature_index]
    answer: torch.Tensor = model(torch.from_numpy(np.concatenate(blocks, axis=1, dtype=np.float32)))
    return answer


if __name__ == "__main__":
    main(Path(sys.argv[1]))
