"""Exported arrays (see benchmarks/accuracy/peer_export.py) as the named tensors that a peer's model takes.

Runs in the peers' environments and knows no musenet.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Columns = dict[str, Tensor]
Schema = dict[str, Any]

LABEL = "label"


def read_schema(export: Path) -> Schema:
    """The columns of the arrays."""
    schema: Schema = json.loads((export / "schema.json").read_text(encoding="utf-8"))
    return schema


def read_columns(export: Path, split: str, schema: Schema) -> Columns:
    """One tensor per field, number and history column, a row per impression; and the label."""
    with np.load(export / f"{split}.npz") as arrays:
        content = dict(arrays)
    named = {field["name"]: content["codes"][:, place] for place, field in enumerate(schema["fields"])}
    named |= {name: content["dense"][:, place] for place, name in enumerate(schema["dense"])}
    for place, name in enumerate(history_names(schema)):
        named[name] = content["history"][content["request"], place]
    named[LABEL] = content["label"].astype(np.float32)
    return {
        name: torch.from_numpy(column if column.dtype == np.float32 else column.astype(np.int64))
        for name, column in named.items()
    }


def batches_of(columns: Columns, size: int, count: int) -> list[Columns]:
    """The first batches of so many rows."""
    parts = {name: column.split(size) for name, column in columns.items()}
    return [{name: part[place] for name, part in parts.items()} for place in range(count)]


def history_names(schema: Schema) -> list[str]:
    """Names of the history columns, which fields may share."""
    return [f"hist_{field['name']}" for field in schema["history"]]


def targets_of_history(schema: Schema) -> list[str]:
    """The item's field that shares each history column's vocabulary: the query of DIN's attention."""
    of_items = {field["vocabulary"]: field["name"] for field in schema["fields"] if field["side"] == "item"}
    return [of_items[field["vocabulary"]] for field in schema["history"]]
