"""DIN of DeepCTR-Torch, measured; runs in the peer's own environment and knows no musenet.

    python deepctr_torch_peer.py TASK.json

The model and its rows are those of benchmarks/accuracy, which has to be on the import path. Its MLP has PReLU whatever
the activation unit has.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from deepctr_peer import Rows, build
from peer_rows import read_schema
from torch import Tensor, nn
from worker import repeated, serve


def main(task: dict[str, Any]) -> None:
    torch.set_num_threads(task["threads"])
    export = Path(task["export"])
    schema = read_schema(export)
    model = build({"model": task | {"name": "din"}, "seed": task["seed"], "initial": "usual"}, schema)
    optimizer = torch.optim.Adam(model.parameters(), lr=task["learning_rate"])
    rows = Rows(export / "train.npz", schema, model)
    size = task["batch_size"]

    def step(batch: tuple[Tensor, Tensor]) -> int:
        x, label = batch
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy(model(x)[:, 0], label).backward()
        optimizer.step()
        return len(label)

    model.train()
    batches = list(zip(rows.x.split(size), rows.label.split(size), strict=True))[: task["batches"]]
    serve({"steps": repeated(step, batches)})


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
