"""A reader of 16-bit PNGs, for the tests alone."""

import struct
import zlib

import numpy as np


def levels_of_png(data: bytes) -> np.ndarray:
    """The levels of a PNG of 16 bits, by a reader of its own: slow, and after the specification."""
    assert data[:8] == bytes([137, 80, 78, 71, 13, 10, 26, 10])
    chunks: list[tuple[bytes, bytes]] = []
    rest = data[8:]
    while rest:
        (length,) = struct.unpack(">I", rest[:4])
        kind, content, check = rest[4:8], rest[8 : 8 + length], rest[8 + length : 12 + length]
        assert struct.unpack(">I", check) == (zlib.crc32(kind + content),)
        chunks.append((kind, content))
        rest = rest[12 + length :]
    assert (chunks[0][0], chunks[-1]) == (b"IHDR", (b"IEND", b""))
    width, height, bits, color, *methods = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (bits, methods) == (16, [0, 0, 0])
    channels = {2: 3, 6: 4}[color]
    raw = zlib.decompress(b"".join(content for kind, content in chunks if kind == b"IDAT"))
    stride = 2 * channels * width
    assert len(raw) == height * (1 + stride)
    rows = []
    for start in range(0, len(raw), 1 + stride):
        row = bytearray(raw[start + 1 : start + 1 + stride])
        assert raw[start] == 1  # each byte is the difference to the pixel on the left
        for i in range(2 * channels, stride):
            row[i] = (row[i] + row[i - 2 * channels]) % 256
        rows.append(struct.unpack(f">{channels * width}H", row))
    return np.array(rows).reshape(height, width, channels)
