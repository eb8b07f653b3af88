"""Pictures that cost far more than their bytes: by pixels, scans, texts, profiles and frames.

`side`: of the large ones, in px; 10,000 makes the largest picture that is accepted by default.
"""

import random
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache, partial

from PIL import Image

from tests.arrange.pictures import chunk, encode, enlarged, flat, noise, paint, png, rescanned

Bomb = Callable[[int], bytes]


def zeros(count: int) -> bytes:
    """So many zero bytes, compressed, at the cost of one MiB."""
    press = zlib.compressobj(9, wbits=-15)
    block = press.compress(bytes(2**20)) + press.flush(zlib.Z_FULL_FLUSH)  # leans on none before it
    press = zlib.compressobj(9, wbits=-15)
    rest = press.compress(bytes(count & (2**20 - 1))) + press.flush()
    adler = (count % 65_521) << 16 | 1
    return b"\x78\xda" + block * (count >> 20) + rest + struct.pack(">I", adler)


def _png(bits: int, color: int, side: int, *more: bytes) -> bytes:
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    row = 1 + (side * bits * channels + 7) // 8
    return png((side, side, bits, color, 0), zeros(side * row), *more)


def _interlaced(side: int) -> bytes:
    starts = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
    passes = (*starts, (0, 1, 1, 2))
    count = 0
    for left, top, across, down in passes:
        width, height = -(-(side - left) // across), -(-(side - top) // down)
        count += height * (1 + width * 4) if width > 0 else 0
    return png((side, side, 8, 6, 1), zeros(count))


def _line(width: int, height: int) -> bytes:
    return png((width, height, 8, 0, 0), zeros(height * (width + 1)))


def _short(side: int) -> bytes:
    return png((side, side, 8, 6, 0), zlib.compress(bytes(1000)))


def _beyond(side: int) -> bytes:
    """More rows than the header tells of."""
    return png((side, 10, 8, 6, 0), zeros(4 * side * side))


def _scans(count: int, side: int) -> bytes:
    """So many scans over a large grey picture: the last one of a small picture's, anew."""
    data = encode(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    starts = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    last = data[data.rindex(b"\xff\xc4", 0, starts[-1]) : data.rindex(b"\xff\xd9")]
    return data[:-2] + last * (count - len(starts)) + b"\xff\xd9"


def _progressive(subsampling: int, side: int) -> bytes:
    picture = Image.new("RGB", (side, side), "red")
    return encode(picture, "JPEG", progressive=True, subsampling=subsampling)


def _segments(count: int, _: int) -> bytes:
    """A JPEG that begins with so many segments in which there is nothing."""
    data = paint(kind="JPEG")
    return data[:2] + b"\xff\xe5\x00\x02" * count + data[2:]


def _filled(_: int) -> bytes:
    data = paint(kind="JPEG")
    return data[:2] + b"\xff" * 20_000_000 + data[2:]


def _texts(kind: bytes, body: bytes, count: int, _: int) -> bytes:
    return _annotated(*(chunk(kind, body) for _ in range(count)))


def _annotated(*more: bytes) -> bytes:
    """A small PNG with these chunks, before its pixels."""
    return png((48, 36, 8, 2, 0), zlib.compress(bytes(36 * (1 + 3 * 48))), *more)


def _compressed_text(mib: int, count: int, _: int) -> bytes:
    return _annotated(*[chunk(b"zTXt", b"Comment\0\0" + _zeros_mib(mib))] * count)


def _international_text(mib: int, _: int) -> bytes:
    return _annotated(chunk(b"iTXt", b"Comment\0\1\0\0\0" + _zeros_mib(mib)))


def _profile(mib: int, _: int) -> bytes:
    return _annotated(chunk(b"iCCP", b"ICC\0\0" + _zeros_mib(mib)))


@cache
def _zeros_mib(mib: int) -> bytes:
    return zeros(mib * 2**20)


def _jpeg_profiles(_: int) -> bytes:
    data = paint(kind="JPEG")
    body = b"ICC_PROFILE\0"
    parts = [
        b"\xff\xe2" + struct.pack(">H", 2 + len(body) + 2 + 65_000) + body + bytes([n, 255])
        + random.Random(n).randbytes(65_000)
        for n in range(1, 256)
    ]  # fmt: skip
    return data[:2] + b"".join(parts) + data[2:]


def _icc(count: int, tag_bytes: int) -> bytes:
    """A profile of so many tags, each of which says that it has so many bytes."""
    tags = b"".join(
        struct.pack(">4sII", b"A2B%d" % (i % 3), 128 + 4 + 12 * count, tag_bytes)
        for i in range(count)
    )
    table = b"mft2" + bytes(4) + bytes([3, 3, 255, 0]) + bytes(36) + struct.pack(">HH", 4096, 4096)
    size = 128 + 4 + len(tags) + len(table)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    head = head.ljust(36, b"\0") + b"acsp"
    return head.ljust(128, b"\0") + struct.pack(">I", count) + tags + table


def _profile_of_tables(_: int) -> bytes:
    return _annotated(chunk(b"iCCP", b"ICC\0\0" + zlib.compress(_icc(3, 2**31 - 1))))


def _profile_of_tags(_: int) -> bytes:
    return encode(noise(), "JPEG", icc_profile=_icc(60_000, 2**16))


def _tiff(*entries: tuple[int, int, int, int], following: int = 0, body: bytes = b"") -> bytes:
    """A TIFF with one folder of (tag, type, count, value)."""
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (
        b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + struct.pack("<I", following) + body
    )


def _exif_loop(_: int) -> bytes:
    data = b"Exif\0\0" + _tiff((0x8769, 4, 1, 8), (0x0112, 3, 1, 6), following=8)
    return encode(noise(), "JPEG", exif=data)


def _exif_counts(_: int) -> bytes:
    entries = [(0x0100 + i, 5, 2**32 - 1, 8) for i in range(5000)]
    return encode(noise(), "JPEG", exif=b"Exif\0\0" + _tiff(*entries))


def _exif_chunk(_: int) -> bytes:
    entries = [(0x0100 + i, 2, 2**20, 8) for i in range(60_000)]
    return _annotated(chunk(b"eXIf", _tiff(*entries, body=bytes(2**21))))


def _exif_noise(_: int) -> bytes:
    return _annotated(chunk(b"eXIf", b"II*\0" + random.Random(0).randbytes(10 * 2**20)))


def _tiff_page(side: int) -> list[tuple[int, int, int, int]]:
    return [
        (256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, side), (279, 4, 1, side * side),
    ]  # fmt: skip


def _tiff_loop(_: int) -> bytes:
    return _tiff(*_tiff_page(16), following=8, body=bytes(256))


def _tiff_pages(count: int, _: int) -> bytes:
    page = _tiff_page(4)
    size = 2 + 12 * len(page) + 4
    rows = struct.pack("<H", len(page)) + b"".join(struct.pack("<HHII", *each) for each in page)
    following = [8 + size * (i + 1) for i in range(count - 1)]
    pages = (rows + struct.pack("<I", after) for after in (*following, 0))
    return b"II*\0" + struct.pack("<I", 8) + b"".join(pages)


def _tiff_strips(_: int) -> bytes:
    return _tiff(*_tiff_page(60_000)[:5], (273, 4, 2**31, 8), (279, 4, 2**31, 8), body=bytes(999))


def _frames(kind: str, count: int, _: int) -> bytes:
    more = [noise(i, (4, 4)) for i in range(count)]
    return encode(more[0], kind, save_all=True, append_images=more[1:])


def _boxed(kind: bytes, _: int) -> bytes:
    """An AVIF whose size in the header is another one."""
    data = bytearray(encode(noise(), "AVIF", speed=10))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", *([65_535] * 2 if kind == b"huge" else [10_000] * 2))
    return bytes(data)


def _webp_canvas(_: int) -> bytes:
    """An animation on the largest canvas that WebP has."""
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    data = bytearray(encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    at = data.index(b"VP8X") + 12
    data[at : at + 6] = (2**24 - 1).to_bytes(3, "little") + (9).to_bytes(3, "little")
    return bytes(data)


def _gif(side: int) -> bytes:
    return encode(Image.new("P", (side, side)), "GIF")


def _webp(lossless: bool, side: int) -> bytes:
    # The longest side of a WebP is 16,383 px.
    return encode(Image.new("RGBA", (side, side)), "WEBP", lossless=lossless, quality=0, method=0)


BOMBS: Mapping[str, Bomb] = {
    # Pixels.
    "png, 4 x 8 bits": partial(_png, 8, 6),
    "png, 4 x 16 bits": partial(_png, 16, 6),
    "png, 3 x 16 bits": partial(_png, 16, 2),
    "png, grey of 16 bits": partial(_png, 16, 0),
    "png, 1 bit": partial(_png, 1, 0),
    "png, interlaced": _interlaced,
    "png, one row": lambda side: _line(side * side, 1),
    "png, one column": lambda side: _line(1, side * side),
    "png, its rows are missing": _short,
    "png, more rows than it says": _beyond,
    "png, 60,000 px": lambda _: enlarged("PNG", 60_000, 60_000),
    "png, a pixel too many": lambda side: _line(side * side + 1, 1),
    "gif": _gif,
    "gif, 60,000 px": lambda _: enlarged("GIF", 60_000, 60_000),
    "bmp, 1 bit": lambda side: encode(Image.new("1", (side, side)), "BMP"),
    "tiff, deflate": lambda side: encode(
        Image.new("RGBA", (side, side)), "TIFF", compression="tiff_deflate"
    ),
    "webp, lossless": partial(_webp, True),
    "webp, lossy": partial(_webp, False),
    "webp, animated on a huge canvas": _webp_canvas,
    "avif, 65,535 px by its box": partial(_boxed, b"huge"),
    "avif, 10,000 px by its box": partial(_boxed, b"large"),
    "jpeg, baseline": lambda side: flat("RGB", (side, side), "JPEG"),
    "jpeg, 65,000 px": lambda _: enlarged("JPEG", 65_000, 65_000),
    # Scans.
    "jpeg, progressive 4:2:0": partial(_progressive, 2),
    "jpeg, progressive 4:4:4": partial(_progressive, 0),
    "jpeg, 100 scans": partial(_scans, 100),
    "jpeg, 200 scans": partial(_scans, 200),
    "jpeg, 1,500 scans": partial(_scans, 1500),
    "jpeg, 100 scans of a small one": lambda _: rescanned(100, (400, 300)),
    # Chunks and segments.
    "jpeg, a million segments": partial(_segments, 10**6),
    "jpeg, 20 MB of fill bytes": _filled,
    "png, 40 MB of text": lambda side: _texts(b"tEXt", b"Comment\0" + b"a" * 10**6, 40, side),
    "png, a million texts": partial(_texts, b"tEXt", b"a\0", 10**6),
    "png, a million chunks of nothing": partial(_texts, b"prVt", b"", 10**6),
    "png, a million empty IDAT": partial(_texts, b"IDAT", b"", 10**6),
    "png, 1 GiB in a zTXt": partial(_compressed_text, 1024, 1),
    "png, 100 x 64 MiB in zTXt": partial(_compressed_text, 64, 100),
    "png, 1,000 x 1 MiB in zTXt": partial(_compressed_text, 1, 1000),
    "png, 1 GiB in an iTXt": partial(_international_text, 1024),
    # Profiles.
    "png, 1 GiB in a profile": partial(_profile, 1024),
    "png, 1 MiB in a profile": partial(_profile, 1),
    "png, a profile of 16M x 16M x 16M entries": _profile_of_tables,
    "jpeg, a profile of 60,000 tags": _profile_of_tags,
    "jpeg, 16 MB of profile": _jpeg_profiles,
    # EXIF.
    "jpeg, EXIF that leads to itself": _exif_loop,
    "jpeg, EXIF of 5,000 x 4 G entries": _exif_counts,
    "png, EXIF of 60,000 x 1 MiB": _exif_chunk,
    "png, 10 MiB of EXIF": _exif_noise,
    # Frames and folders.
    "gif, 10,000 frames": partial(_frames, "GIF", 10_000),
    "png, 2,000 frames": partial(_frames, "PNG", 2_000),
    "webp, 500 frames": partial(_frames, "WEBP", 500),
    "tiff, a folder that leads to itself": _tiff_loop,
    "tiff, 100,000 folders": partial(_tiff_pages, 100_000),
    "tiff, 2 G strips": _tiff_strips,
}
