"""Small pictures for the tests, as good and as bad as clients send them."""

import random
import re
import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image


def noise(seed: int = 0, size: tuple[int, int] = (48, 36)) -> Image.Image:
    """Pixels that no format shrinks to nothing; the same for the same arguments."""
    return Image.frombytes("RGB", size, random.Random(seed).randbytes(size[0] * size[1] * 3))


def encode(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def paint(seed: int = 0, kind: str = "PNG", size: tuple[int, int] = (48, 36)) -> bytes:
    return encode(noise(seed, size), kind)


def animated(kind: str) -> bytes:
    """Two frames; as "MPO", a JPEG with a second one appended."""
    return encode(noise(0), kind, save_all=True, append_images=[noise(1)])


def enlarged(kind: str, width: int, height: int) -> bytes:
    """A small picture whose header tells another size."""
    data = bytearray(paint(0, kind))
    match kind:
        case "PNG":
            data[16:24] = struct.pack(">II", width, height)
            data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        case "JPEG":
            frame = data.index(b"\xff\xc0")
            data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
        case "GIF":
            data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(header: tuple[int, int, int, int, int], compressed: bytes, *more: bytes) -> bytes:
    """A PNG by hand: (width, height, bits, color type, interlace), its rows, other chunks."""
    width, height, bits, color, interlace = header
    fields = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlace)
    chunks = (chunk(b"IHDR", fields), *more, chunk(b"IDAT", compressed), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png16(channels: int, size: tuple[int, int]) -> bytes:
    """A PNG of 16 bits a channel, 3 or 4 of them."""
    width, height = size
    row = 2 * channels * width
    rows = b"".join(b"\0" + random.Random(y).randbytes(row) for y in range(height))
    return png((width, height, 16, {3: 2, 4: 6}[channels], 0), zlib.compress(rows))


def flat(mode: str, size: tuple[int, int], kind: str = "PNG", **options: Any) -> bytes:
    """A large picture in few bytes, and with little work."""
    return encode(Image.new(mode, size), kind, **{"compress_level": 1, **options})


def rescanned(count: int, size: tuple[int, int] = (48, 36)) -> bytes:
    """A progressive JPEG of so many scans: its last one, again and again."""
    data = encode(noise(size=size).convert("L"), "JPEG", progressive=True)
    starts = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    # Each scan comes with the table that it is coded by.
    last = data[data.rindex(b"\xff\xc4", 0, starts[-1]) : data.rindex(b"\xff\xd9")]
    return data[:-2] + last * (count - len(starts)) + b"\xff\xd9"


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
