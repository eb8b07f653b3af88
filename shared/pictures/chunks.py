"""The chunks of a PNG that stand before its pixels.

Source: Portable Network Graphics (PNG) Specification, third edition.
"""

from collections.abc import Mapping

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def of_png(data: bytes) -> Mapping[bytes, bytes]:
    """Each chunk before the first IDAT, the first of its name; nothing for another file."""
    found: dict[bytes, bytes] = {}
    if not data.startswith(_SIGNATURE):
        return found
    position = len(_SIGNATURE)
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4])
        name = data[position + 4 : position + 8]
        if name == b"IDAT":
            break
        found.setdefault(name, data[position + 8 : position + 8 + length])
        position += 12 + length
    return found
