"""What a JPEG costs to decode, told by its markers alone.

A few kilobytes can hold a thousand scans of a huge picture, each of which goes over all of it, and
any JPEG of several scans is kept as coefficients until the last one.
"""

import re
from collections.abc import Iterator

from shared.errors import InvalidImage, Violation

SCANS_MAX = 100  # encoders make about ten
COEFFICIENT_BYTES_MAX = 320 * 2**20  # 100 megapixels in 4:2:0 take 286 MiB

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # but for tables, and one that is reserved
_BARE = {0x01, _START}  # without a length
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")


def check(data: bytes) -> None:
    """Raise InvalidImage for a JPEG of too many scans, or of too large ones."""
    if not data.startswith(b"\xff\xd8"):
        return
    scans = coefficient_bytes = 0
    for marker, position in _segments(data):
        if marker in _FRAMES and not coefficient_bytes:
            coefficient_bytes = _coefficient_bytes(data[position : position + 2**10])
        if marker != _SCAN:
            continue
        scans += 1
        if scans > SCANS_MAX:
            raise _invalid(
                "the picture has too many scans",
                f"more than {SCANS_MAX} scans",
                f"a JPEG of at most {SCANS_MAX} scans",
            )
        if scans == 2 and coefficient_bytes > COEFFICIENT_BYTES_MAX:
            raise _invalid(
                "the picture takes too much memory to decode",
                f"{coefficient_bytes >> 20} MiB of coefficients in more than one scan",
                f"at most {COEFFICIENT_BYTES_MAX >> 20} MiB, or a JPEG of one scan (baseline)",
            )


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Each marker of the first picture in these bytes, and where its segment lies."""
    position = 2
    while found := _MARKER.search(data, position):
        position = found.end()
        (marker,) = found[1]
        if marker == _END:
            return
        yield marker, position
        if marker not in _BARE:
            position += int.from_bytes(data[position : position + 2])


def _coefficient_bytes(frame: bytes) -> int:
    """What the coefficients of all blocks take, by a frame's header; 0 if it is cut off."""
    height, width = (int.from_bytes(frame[at : at + 2]) for at in (3, 5))
    factors = (
        [(each >> 4, each & 15) for each in frame[9 : 8 + 3 * frame[7] : 3]] if frame[7:] else []
    )
    across, down = (max((each[axis] for each in factors), default=0) for axis in (0, 1))
    if not across or not down:
        return 0
    return sum(
        -(-width * horizontal // (8 * across)) * -(-height * vertical // (8 * down)) * 64 * 2
        for horizontal, vertical in factors
    )


def _invalid(why: str, value: str, accepted: str) -> InvalidImage:
    return InvalidImage(why, violations=[Violation("", value, accepted)])
