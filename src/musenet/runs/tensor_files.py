"""Tensors as safetensors files, whole or by rows."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from musenet.distributed.pieces import NAMES, InPieces, write_in_pieces
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
    """The tensors, in memory, and the metadata of a safetensors file; see `mapped_tensors`."""
    tensors, metadata = mapped_tensors(path, parts)
    return {name: value if name in parts else value.clone() for name, value in tensors.items()}, metadata


def mapped_tensors(path: Path, parts: Mapping[str, RowShards] = {}) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The same, but tensors stay in the file, of which the system reads what is used: they must not be written to.

    The file may be larger than memory. The safetensors package maps files too, but asks for memory for all of it.

    Args:
        path: the file.
        parts: tensors of which this worker's rows alone are read, into memory.

    Raises:
        RunError: if it is missing or damaged, or a tensor that is read in part has another number of rows.
    """
    try:
        tensors, metadata = _mapped(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise RunError(f"{path} is missing or damaged ({one_line(error)}): train again with --restart") from error
    return {
        name: _own_rows(value, parts[name], path) if name in parts else value for name, value in tensors.items()
    }, metadata


def _mapped(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, that the tensor cannot be written to
        content = torch.from_numpy(np.memmap(path, np.uint8, "r"))
    begin = 8 + int.from_bytes(content[:8].numpy().tobytes(), "little")
    header = json.loads(content[8:begin].numpy().tobytes())
    metadata: dict[str, str] = header.pop("__metadata__", {})
    types = {name: dtype for dtype, name in NAMES.items()}
    values = content[begin:]
    ends = [entry["data_offsets"][1] for entry in header.values()]
    if max(ends, default=0) != len(values):
        raise ValueError("it was cut short")
    return {
        name: values[slice(*entry["data_offsets"])].view(types[entry["dtype"]]).view(entry["shape"])
        for name, entry in header.items()
    }, metadata


def _own_rows(stored: Tensor, shards: RowShards, path: Path) -> Tensor:
    if len(stored) != shards.rows:
        raise RunError(
            f"{path} holds an embedding table of {len(stored)} rows, the dataset needs {shards.rows}: "
            "train again with --restart"
        )
    return stored[shards.own.start : shards.own.stop].clone()
