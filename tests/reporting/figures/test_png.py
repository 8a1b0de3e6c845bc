"""Pixels as PNG, read back by hand."""

import struct
import zlib

import numpy as np

from musenet.reporting.figures.png import indexed_png


def read_back(png: bytes) -> np.ndarray:
    """The pixels of an indexed PNG; every checksum must hold."""
    parts, at = {}, 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + content),)
        parts[kind] = content
        at += 12 + length
    width, height, depth, colour_type = struct.unpack(">IIBB", parts[b"IHDR"][:10])
    assert (depth, colour_type) == (8, 3)
    lines = np.frombuffer(zlib.decompress(parts[b"IDAT"]), dtype=np.uint8).reshape(height, width + 1)
    assert (lines[:, 0] == 0).all()
    return np.frombuffer(parts[b"PLTE"], dtype=np.uint8).reshape(-1, 3)[lines[:, 1:]]


def test_few_colours_come_back_as_they_were() -> None:
    random = np.random.default_rng(1)
    colours = random.integers(0, 256, (200, 3), dtype=np.uint8)
    pixels = colours[random.integers(0, 200, (37, 53))]
    np.testing.assert_array_equal(read_back(indexed_png(pixels)), pixels)


def test_of_many_colours_the_most_frequent_are_kept_and_the_others_become_the_nearest() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
    odd = np.array([[[10, 10, 13], [200, 199, 200], [0, 0, 1]]], dtype=np.uint8)
    pixels = np.concatenate([grey, grey, odd], axis=1)
    found = read_back(indexed_png(pixels))
    np.testing.assert_array_equal(found[:, :512], pixels[:, :512])
    np.testing.assert_array_equal(found[0, 512:], [[11, 11, 11], [200, 200, 200], [0, 0, 0]])
