"""Valid pictures of each format and mode, and how they are damaged."""

import base64
import random
import re
import struct
import zlib
from functools import cache

from PIL import Image, ImageCms

from tests.arrange.pictures import animated, encode, noise, png16, rescanned

SIZE = (24, 17)

# 16 x 16 px, made by hand: nothing that is installed writes HEIC.
_HEIC = """
AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAA
AAAAACJpbG9jAAAAAERAAAEAAQAAAAABegABAAAAAAAAAIQAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAA
AA5waXRtAAAAAAABAAAA1mlwcnAAAAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNw
AAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoDyBRZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHB
crAiQAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAAB4AAAAUAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAA
AAABAAEEgQIDBAAAAIxtZGF0AAAAgCgBrxOAiyrC5F//+MKj/91rPD7CYHJO1J/7ZRs9VJByhUNKayT+jrL0g0jtEeOAglk+
uOfzsC81qPxDLXm5F/uFWqYs2zdUB7feHCra9e2/8mW2YCFhgDAlahUaWq90T0zuBxOiSl0MTaFuoudlk+AAAJTehcL3y9pW
6N7vFMWM
"""

_INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)


@cache
def seeds() -> tuple[bytes, ...]:
    """Small pictures, all of them whole."""
    picture = noise(size=SIZE)
    alpha = picture.convert("RGBA")
    alpha.putalpha(noise(1, SIZE).getchannel("R"))
    grey = picture.convert("L")
    deep = Image.frombytes("I;16", SIZE, random.Random(2).randbytes(2 * SIZE[0] * SIZE[1]))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    made = [
        *(encode(each, "JPEG") for each in (picture, grey, picture.convert("CMYK"))),
        encode(picture, "JPEG", progressive=True, icc_profile=profile, exif=exif),
        rescanned(20, SIZE),
        *(encode(each, "PNG") for each in (picture, alpha, grey, grey.convert("1"), deep)),
        *(encode(alpha.convert(mode), "PNG") for mode in ("LA", "P")),
        encode(picture, "PNG", icc_profile=profile, exif=exif, dpi=(72, 72)),
        encode(picture.convert("P"), "PNG", transparency=3, icc_profile=profile),
        png16(3, SIZE),
        png16(4, SIZE),
        *(encode(each, "WEBP") for each in (picture, alpha)),
        encode(alpha, "WEBP", lossless=True, icc_profile=profile, exif=exif),
        encode(picture, "GIF"),
        encode(picture.convert("P"), "GIF", transparency=1),
        *(encode(picture.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB")),
        *(encode(alpha, "TIFF", compression=way) for way in ("raw", "tiff_lzw", "tiff_deflate")),
        encode(picture, "TIFF", compression="jpeg"),
        encode(picture.convert("1"), "TIFF", compression="group4"),
        encode(picture.convert("CMYK"), "TIFF", icc_profile=profile, exif=exif),
        encode(deep, "TIFF"),
        *(encode(each, "AVIF", speed=10) for each in (picture, alpha)),
        base64.b64decode(_HEIC),
        *(animated(kind) for kind in ("MPO", "GIF", "WEBP", "PNG", "TIFF", "AVIF")),
    ]
    return tuple(made)


def mutated(dice: random.Random) -> bytes:
    """One of the seeds, damaged; as often as not with its checksums put right."""
    data = bytearray(dice.choice(seeds()))
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        if data:
            dice.choice(_WAYS)(dice, data)
    if data.startswith(b"\x89PNG") and dice.random() < 0.7:
        _mend_checksums(data)
    return bytes(data)


def _flip(dice: random.Random, data: bytearray) -> None:
    data[_place(dice, data)] ^= 1 << dice.randrange(8)


def _overwrite(dice: random.Random, data: bytearray) -> None:
    at = _place(dice, data)
    data[at : at + dice.randrange(1, 9)] = dice.randbytes(dice.randrange(1, 9))


def _number(dice: random.Random, data: bytearray) -> None:
    """A length, an offset or a size that is another one."""
    at, form = _place(dice, data), dice.choice((">I", "<I", ">H", "<H", "B"))
    width = struct.calcsize(form)
    told = dice.choice(_INTERESTING) & (2 ** (8 * width) - 1)
    data[at : at + width] = struct.pack(form, told)


def _truncate(dice: random.Random, data: bytearray) -> None:
    del data[dice.randrange(len(data)) :]


def _remove(dice: random.Random, data: bytearray) -> None:
    at = _place(dice, data)
    del data[at : at + dice.randrange(1, 64)]


def _double(dice: random.Random, data: bytearray) -> None:
    at = _place(dice, data)
    part = data[at : at + dice.randrange(1, 200)]
    data[at:at] = part * dice.choice((1, 2, 50))


def _splice(dice: random.Random, data: bytearray) -> None:
    """A part of another picture, from its middle or to its end."""
    other = dice.choice(seeds())
    at, begin = _place(dice, data), dice.randrange(len(other))
    end = len(other) if dice.random() < 0.5 else begin + dice.randrange(1, 200)
    data[at : at + dice.choice((0, end - begin))] = other[begin:end]


def _move(dice: random.Random, data: bytearray) -> None:
    """A chunk, a segment or a box to where another one is."""
    starts = [found.start() for found in re.finditer(rb"[A-Za-z]{4}|\xff[\xc0-\xfe]", data)]
    if len(starts) > 2:
        a, b, c = sorted(dice.sample(starts, 3))
        data[a:c] = data[b:c] + data[a:b]


_WAYS = (_flip, _overwrite, _number, _number, _truncate, _remove, _double, _splice, _move)


def _place(dice: random.Random, data: bytearray) -> int:
    """More often than not in the header."""
    return dice.randrange(min(len(data), dice.choice((40, 200, len(data)))))


def _mend_checksums(data: bytearray) -> None:
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        end = at + 8 + length
        if end + 4 > len(data):
            return
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
