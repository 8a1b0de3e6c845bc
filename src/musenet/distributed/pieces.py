"""Tensors too large to be had at once, written to safetensors files piece by piece."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class InPieces:
    """A tensor of which there is never more than a piece.

    Args:
        shape: of the whole.
        dtype: of the whole.
        pieces: its rows from the first to the last, some at a time; may be asked for once.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: Callable[[], Iterator[Tensor]]


Piecewise = TypeVar("Piecewise", bound=Tensor | InPieces)

NAMES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What a safetensors file calls the types that models and optimizers have, in the order in which it holds them."""


def in_file_order(tensors: Mapping[str, Piecewise]) -> list[tuple[str, Piecewise]]:
    """By type, wide ones first, so that every tensor lies at a multiple of its type's size; then by name."""
    types = list(NAMES)
    return sorted(tensors.items(), key=lambda entry: (types.index(entry[1].dtype), entry[0]))


def write_in_pieces(path: Path, tensors: Mapping[str, Tensor | InPieces], metadata: dict[str, str] | None) -> None:
    """Write a safetensors file (https://github.com/huggingface/safetensors#format) as its tensors come."""
    entries = in_file_order(tensors)
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for name, tensor in entries:
        begin, end = end, end + torch.Size(tensor.shape).numel() * tensor.dtype.itemsize
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in entries:
            for piece in tensor.pieces() if isinstance(tensor, InPieces) else [tensor]:
                file.write(piece.detach().cpu().contiguous().numpy().tobytes())
