"""The chunks of a PNG.

Source: Portable Network Graphics (PNG) Specification, third edition.
"""

from collections.abc import Iterator, Mapping

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def walk(data: bytes) -> Iterator[tuple[bytes, slice]]:
    """The name of each chunk, and where its content lies; nothing for another file."""
    if not data.startswith(SIGNATURE):
        return
    position = len(SIGNATURE)
    while name := data[position + 4 : position + 8]:
        begin = position + 8
        position = begin + int.from_bytes(data[position : position + 4]) + 4  # with its checksum
        yield name, slice(begin, position - 4)


def of_png(data: bytes) -> Mapping[bytes, bytes]:
    """Each chunk before the first IDAT, the first of its name; nothing for another file."""
    found: dict[bytes, bytes] = {}
    for name, content in walk(data):
        if name == b"IDAT":
            break
        found.setdefault(name, data[content])
    return found
