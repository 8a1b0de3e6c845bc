"""Pixels as a small PNG: drawings have few colours, so each pixel is a number into a list of at most 256."""

import struct
import zlib

import numpy as np
import numpy.typing as npt

COLOURS = 256
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def indexed_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Red, green and blue, [height, width, 3], as a PNG; colours beyond the 256 most frequent become the nearest one.

    >>> len(indexed_png(np.zeros((600, 800, 3), dtype=np.uint8))) < 1000
    True
    """
    height, width, _ = pixels.shape
    packed = pixels.reshape(-1, 3).astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
    colours, colour_of_pixel, counts = np.unique(packed, return_inverse=True, return_counts=True)
    palette = colours[np.argsort(-counts, kind="stable")[:COLOURS]]
    index = _nearest(colours, palette)[colour_of_pixel].reshape(height, width)
    # Each line of a PNG begins with its filter: none.
    lines = np.concatenate([np.zeros((height, 1), dtype=np.uint8), index], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = {b"IHDR": header, b"PLTE": _channels(palette).astype(np.uint8).tobytes()}
    parts |= {b"IDAT": zlib.compress(lines.tobytes(), 9), b"IEND": b""}
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in parts.items())


def _nearest(colours: npt.NDArray[np.uint32], palette: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """The place in the palette of the colour nearest to each."""
    found = np.empty(len(colours), dtype=np.uint8)
    target = _channels(palette)
    for begin in range(0, len(colours), 1024):
        apart = _channels(colours[begin : begin + 1024])[:, None] - target[None]
        found[begin : begin + 1024] = (apart**2).sum(axis=2).argmin(axis=1)
    return found


def _channels(packed: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1).astype(np.int64)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
