"""DIN of torch-rechub, measured; runs in the peer's own environment and knows no musenet.

    python torch_rechub_peer.py TASK.json

Its maths are nearly ours: each history column has an attention of its own, and BatchNorm stands in every layer.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peer_rows import LABEL, Columns, Schema, batches_of, history_names, read_columns, read_schema, targets_of_history
from torch import nn
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.ranking import DIN
from worker import repeated, serve

Task = dict[str, Any]


def build(task: Task, schema: Schema) -> nn.Module:
    """The package's model in the sizes asked for; a history column shares its item field's embeddings."""
    size, targets = task["embedding"], targets_of_history(schema)
    codes = {field["name"]: schema["codes"][field["vocabulary"]] for field in schema["fields"]}
    sparse = {name: SparseFeature(name, count, embed_dim=size) for name, count in codes.items()}
    history = [
        SequenceFeature(name, codes[target], embed_dim=size, pooling="concat", shared_with=target)
        for name, target in zip(history_names(schema), targets, strict=True)
    ]
    return DIN(
        features=[feature for name, feature in sparse.items() if name not in targets],
        history_features=history,
        target_features=[sparse[name] for name in targets],
        mlp_params={"dims": list(task["hidden"])},
        attention_mlp_params={"dims": [task["attention_hidden"]], "activation": task["activation"]},
    )


def main(task: Task) -> None:
    torch.set_num_threads(task["threads"])
    torch.manual_seed(task["seed"])
    export = Path(task["export"])
    schema = read_schema(export)
    model = build(task, schema)
    optimizer = torch.optim.Adam(model.parameters(), lr=task["learning_rate"])

    def step(batch: Columns) -> int:
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy(model(batch), batch[LABEL]).backward()
        optimizer.step()
        return len(batch[LABEL])

    model.train()
    batches = batches_of(read_columns(export, "train", schema), task["batch_size"], task["batches"])
    serve({"steps": repeated(step, batches)})


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
