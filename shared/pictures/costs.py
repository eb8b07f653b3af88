"""What a picture costs to decode, as the structure of its file tells, before anybody decodes it.

A few kilobytes can hold a thousand scans of a huge picture, each of which goes over all of it, or
a million chunks in which there is nothing. What is too much here takes minutes there.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import InvalidImage, Violation
from . import chunks

SCANS_MAX = 100  # encoders make about ten
SCANNED_PIXELS_MAX = 2_000_000_000  # of all scans together: 20 of the largest picture
COEFFICIENT_BYTES_MAX = 320 * 2**20  # 100 megapixels in 4:2:0 take 286 MiB
SEGMENTS_MAX = 10_000  # a profile takes 255 at most
FILL_BYTES_MAX = 2**16  # between two segments, where there are none
CHUNKS_MAX = 1000  # of texts and the like
PIXEL_CHUNKS_MAX = 100_000  # in 64 MB, 600 bytes each; encoders take 4,096 at least

FOLDERS_MAX = 1000  # of a TIFF: pages, and smaller versions of them


@dataclass(frozen=True)
class _Tiff:
    """How the numbers of a TIFF lie in it."""

    order: Literal["little", "big"]
    first: int  # where the first folder's offset is
    count_bytes: int
    entry_bytes: int
    offset_bytes: int

    def number(self, data: bytes, position: int, count: int) -> int:
        return int.from_bytes(data[position : position + count], self.order)


_TIFFS = {
    b"II*\0": _Tiff("little", 4, 2, 12, 4),
    b"MM\0*": _Tiff("big", 4, 2, 12, 4),
    b"II+\0": _Tiff("little", 8, 8, 20, 8),
    b"MM\0+": _Tiff("big", 8, 8, 20, 8),
}
_END, _SCAN = 0xD9, 0xDA
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # but for tables, and one that is reserved
_BARE = {0x01, 0xD8}  # without a length
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")


def check(data: bytes) -> None:
    """Raise InvalidImage for a file that costs far more than a picture of its size does."""
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(chunks.SIGNATURE):
        _check_png(data)
    elif form := _TIFFS.get(data[:4]):
        _check_tiff(data, form)


def _check_jpeg(data: bytes) -> None:
    scans = pixels = coefficient_bytes = 0
    for number, (marker, gap, position) in enumerate(_segments(data), start=1):
        _bound("segments", number, SEGMENTS_MAX)
        if not scans:  # within a scan, it is the scan that comes between
            _bound("bytes between two segments", gap, FILL_BYTES_MAX)
        if marker in _FRAMES and not pixels:
            pixels, coefficient_bytes = _size(data[position : position + 2**10])
        if marker == _SCAN:
            scans += 1
            _bound("scans", scans, SCANS_MAX)
            _bound("pixels in all its scans", scans * pixels, SCANNED_PIXELS_MAX)
        if scans > 1:  # then all is kept until the last one
            _bound("bytes of coefficients in its scans", coefficient_bytes, COEFFICIENT_BYTES_MAX)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Of each marker of the first picture: itself, the gap before it, where its segment lies."""
    position = 2
    while found := _MARKER.search(data, position):
        (marker,) = found[1]
        if marker == _END:
            return
        yield marker, found.start() - position, found.end()
        position = found.end()
        if marker not in _BARE:
            position += int.from_bytes(data[position : position + 2])


def _size(frame: bytes) -> tuple[int, int]:
    """The pixels, and what the coefficients of all blocks take; zeros if the header is cut off."""
    height, width = (int.from_bytes(frame[at : at + 2]) for at in (3, 5))
    count = frame[7] if len(frame) > 7 else 0
    factors = [(each >> 4, each & 15) for each in frame[9 : 8 + 3 * count : 3]]
    across, down = (max((each[axis] for each in factors), default=0) for axis in (0, 1))
    if not across or not down:
        return width * height, 0
    blocks = sum(
        -(-width * horizontal // (8 * across)) * -(-height * vertical // (8 * down))
        for horizontal, vertical in factors
    )
    return width * height, blocks * 64 * 2


def _check_png(data: bytes) -> None:
    counts = {True: 0, False: 0}
    for name, _ in chunks.walk(data):
        if name == b"IEND":  # decoders stop there
            break
        is_pixels = name == b"IDAT"
        counts[is_pixels] += 1
        _bound("chunks of pixels", counts[True], PIXEL_CHUNKS_MAX)
        _bound("chunks beside its pixels", counts[False], CHUNKS_MAX)


def _check_tiff(data: bytes, form: "_Tiff") -> None:
    seen: set[int] = set()
    position = form.number(data, form.first, form.offset_bytes)
    while 0 < position < len(data) and position not in seen:
        seen.add(position)
        _bound("folders", len(seen), FOLDERS_MAX)
        entries = form.number(data, position, form.count_bytes)
        position += form.count_bytes + entries * form.entry_bytes
        position = form.number(data, position, form.offset_bytes)


def _bound(what: str, count: int, most: int) -> None:
    if count > most:
        raise InvalidImage(
            f"the picture has too many {what}",
            violations=[
                Violation("", f"more than {most} {what}", f"at most {most} {what}; save it anew")
            ],
        )
