"""Small pictures for the tests, as good and as bad as clients send them."""

import random
import struct
import zlib
from io import BytesIO
from typing import Any

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
