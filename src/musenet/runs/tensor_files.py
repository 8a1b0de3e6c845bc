"""Tensors as safetensors files, whole or by rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from musenet.distributed.pieces import InPieces, write_in_pieces
from musenet.distributed.row_shards import RowShards
from musenet.errors import RunError, one_line
from musenet.files import replacing


def save_tensors(path: Path, tensors: Mapping[str, Tensor | InPieces], metadata: dict[str, str] | None = None) -> None:
    """Replace a safetensors file; the metadata is text by name."""
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items() if isinstance(value, Tensor)}
    with replacing(path) as temporary:
        if len(whole) == len(tensors):
            save_file(whole, temporary, metadata)
        else:
            write_in_pieces(temporary, tensors, metadata)


def load_tensors(path: Path, parts: Mapping[str, RowShards] = {}) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Args:
        path: the file.
        parts: tensors of which this worker's rows alone are read.

    Raises:
        RunError: if it is missing or damaged, or a tensor that is read in part has another number of rows.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {
                name: _own_rows(file.get_slice(name), parts[name], path) if name in parts else file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118
            }
            return tensors, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} is missing or damaged ({one_line(error)}): train again with --restart") from error


def _own_rows(stored: Any, shards: RowShards, path: Path) -> Tensor:
    rows, size = stored.get_shape()
    if rows != shards.rows:
        raise RunError(
            f"{path} holds an embedding table of {rows} rows, the dataset needs {shards.rows}: "
            "train again with --restart"
        )
    if not shards.own:
        return torch.empty(0, size)
    own: Tensor = stored[shards.own.start : shards.own.stop]
    return own
