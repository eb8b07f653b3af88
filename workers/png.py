"""PNG with 16 bits in each channel, which Pillow reads and does not write for RGB."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from impasto.shared.pictures.chunks import SIGNATURE

_COLOR_TYPES = {3: 2, 4: 6}  # by the number of channels: RGB, RGBA
_SUB = 1  # the filter: what is kept of a byte is its difference to the pixel on the left
_BAND_ROWS = 64  # are compressed at a time, so that the picture is in memory only once
_LEVEL = 6


def encode(levels: NDArray[np.uint16]) -> bytes:
    """The file of a picture, (H, W, 3) or with alpha (H, W, 4), 0..65535.

    Source: Portable Network Graphics (PNG) Specification, third edition.
    """
    height, width, channels = levels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOR_TYPES[channels], 0, 0, 0)
    packer = zlib.compressobj(_LEVEL)
    file = [SIGNATURE, _chunk(b"IHDR", header)]
    for top in range(0, height, _BAND_ROWS):
        band = _filtered(levels[top : top + _BAND_ROWS])
        file.append(_chunk(b"IDAT", packer.compress(band)))
    file += [_chunk(b"IDAT", packer.flush()), _chunk(b"IEND", b"")]
    return b"".join(file)


def _filtered(levels: NDArray[np.uint16]) -> bytes:
    """Rows of pixels as the bytes that are compressed, each row after its filter's number."""
    rows, _, channels = levels.shape
    pixel = 2 * channels  # bytes
    raw = levels.astype(">u2").view(np.uint8).reshape(rows, -1)
    filtered = raw.copy()
    filtered[:, pixel:] -= raw[:, :-pixel]  # modulo 256
    return np.insert(filtered, 0, _SUB, axis=1).tobytes()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
