"""DIN of FuxiCTR, measured; runs in the peer's own environment and knows no musenet.

    python fuxictr_peer.py TASK.json

The package has DIN's parts (embeddings, attention, MLP) and its training step; the model that joins them is in its
repository alone. It is joined here from the same parts.
"""

import json
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import Dice, DIN_Attention, FeatureEmbeddingDict, MLP_Block
from fuxictr.pytorch.models import BaseModel
from peer_rows import LABEL, Columns, Schema, batches_of, history_names, read_columns, read_schema, targets_of_history
from torch import Tensor
from worker import Order, repeated, serve

Task = dict[str, Any]
LARGEST_GRADIENT = 10.0  # the package's own clipping, whose norm is that of all parameters


class Din(BaseModel):  # type: ignore[misc]
    """Attention of the candidate over the history in place of the history, then an MLP over everything."""

    def __init__(self, features: FeatureMap, schema: Schema, task: Task) -> None:
        super().__init__(features, model_id="din", verbose=0, model_root=".", metrics=["AUC"])
        size, activation = task["embedding"], task["activation"]
        self.history, self.targets = history_names(schema), targets_of_history(schema)
        self.embeddings = FeatureEmbeddingDict(features, size)
        units, hidden = [task["attention_hidden"]], list(task["hidden"])
        self.attention = DIN_Attention(size * len(self.history), units, _activations(activation, units))
        self.mlp = MLP_Block(
            features.sum_emb_out_dim(),
            hidden_units=hidden,
            hidden_activations=_activations(activation, hidden),
            output_dim=1,
            output_activation="Sigmoid",
        )
        self.compile("adam", "binary_crossentropy", task["learning_rate"])
        self._max_gradient_norm = LARGEST_GRADIENT
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs: Columns) -> dict[str, Tensor]:
        known = self.get_inputs(inputs)
        values = self.embeddings(known)
        events = torch.cat([values.pop(name) for name in self.history], dim=-1)
        target = torch.cat([values[name] for name in self.targets], dim=-1)
        pooled = self.attention(target, events, known[self.history[0]] != 0)
        return {"y_pred": self.mlp(torch.cat([*values.values(), pooled], dim=-1))}


def _activations(name: str, units: list[int]) -> list[Any]:
    return [Dice(count) if name == "dice" else "PReLU" for count in units]


def feature_map(schema: Schema, size: int) -> FeatureMap:
    """The columns in the package's words; fields of one vocabulary share their embeddings."""
    features: OrderedDict[str, Any] = OrderedDict()
    first: dict[str, str] = {}
    history = zip(history_names(schema), schema["history"], strict=True)
    categories = [(field["name"], field) for field in schema["fields"]]
    for kind, named in (("categorical", categories), ("sequence", list(history))):
        for name, field in named:
            vocabulary = field["vocabulary"]
            features[name] = {"source": "", "type": kind, "vocab_size": schema["codes"][vocabulary], "padding_idx": 0}
            if vocabulary in first:
                features[name]["share_embedding"] = first[vocabulary]
            first.setdefault(vocabulary, name)
    features |= {name: {"source": "", "type": "numeric"} for name in schema["dense"]}
    found = FeatureMap("measured", ".")
    found.features, found.labels, found.default_emb_dim = features, [LABEL], size
    return found


def fit(model: Din, export: Path, schema: Schema, order: Order) -> Order:
    """Train so many epochs; the probabilities of validation and test after each go to a file."""
    data = {split: read_columns(export, split, schema) for split in ("train", "valid", "test")}
    ids = [field["name"] for field in schema["fields"] if field["is_id"]]
    random = np.random.default_rng(order["seed"])
    scores: dict[str, list[np.ndarray]] = {"valid": [], "test": []}
    for _ in range(order["epochs"]):
        model.train()
        for rows in torch.from_numpy(random.permutation(len(data["train"][LABEL]))).split(order["batch_size"]):
            batch = {name: column[rows] for name, column in data["train"].items()}
            for name in ids:
                batch[name][torch.from_numpy(random.random(len(rows)) < order["unseen_rate"])] = 1
            model.train_step(batch)
        model.eval()
        with torch.no_grad():
            for split, kept in scores.items():
                kept.append(model(data[split])["y_pred"].numpy().ravel())
    stacked: Any = {split: np.stack(kept) for split, kept in scores.items()}
    np.savez(order["out"], **stacked)
    return {}


def main(task: Task) -> None:
    torch.set_num_threads(task["threads"])
    torch.manual_seed(task["seed"])
    export = Path(task["export"])
    schema = read_schema(export)
    model = Din(feature_map(schema, task["embedding"]), schema, task)

    def step(batch: Columns) -> int:
        model.train_step(batch)
        return len(batch[LABEL])

    batches = batches_of(read_columns(export, "train", schema), task["batch_size"], task["batches"])
    model.train()
    serve({"steps": repeated(step, batches), "fit": lambda order: fit(model, export, schema, order)})


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
