"""ICC profiles and TIFFs written by hand, after the standards, for tests of what reads them.

Sources: ICC.1:2022 (header, XYZ, curv, para), TIFF 6.0.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

D65 = (0.3127, 0.3290)
BT709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)

Vector = NDArray[np.float64]


def decoded_srgb(encoded: Vector) -> Vector:
    """Encoded 0..1 to linear. Source: IEC 61966-2-1."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def encoded_srgb(linear: Vector) -> Vector:
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def to_xyz(primaries: Sequence[tuple[float, float]], white: tuple[float, float] = D65) -> Vector:
    """The matrix from linear RGB to XYZ, under its own white."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    x, y = white
    return columns * np.linalg.solve(columns, [x / y, 1, (1 - x - y) / y])


@dataclass(frozen=True)
class Space:
    """An RGB space with the white of D65. gamma: None for sRGB's curve."""

    primaries: tuple[tuple[float, float], ...]
    gamma: float | None = None

    def to_srgb(self, color: Vector) -> Vector:
        """0..1 to 0..1."""
        linear = color**self.gamma if self.gamma else decoded_srgb(color)
        return encoded_srgb(np.linalg.solve(to_xyz(BT709), to_xyz(self.primaries) @ linear))

    def profile(self) -> bytes:
        """A display profile of matrix and curves."""
        x, y = D65
        source, target = (_BRADFORD @ w for w in (np.array([x / y, 1, (1 - x - y) / y]), _D50))
        adapted = np.linalg.solve(_BRADFORD, np.diag(target / source) @ _BRADFORD)
        matrix = adapted @ to_xyz(self.primaries)
        curve = _curve(self.gamma)
        tags = {f"{name}XYZ": _xyz(matrix[:, i]) for i, name in enumerate("rgb")}
        tags |= {f"{name}TRC": curve for name in "rgb"}
        return _profile(b"RGB ", tags)


def gray_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", {"kTRC": _curve(gamma)})


def tiff16(
    levels: NDArray[np.uint16],
    *,
    profile: bytes = b"",
    orientation: int = 1,
    is_inverted: bool = False,
) -> bytes:
    """An uncompressed TIFF: (H, W, C) of 1 to 4 channels, the last of 2 and 4 an alpha channel."""
    height, width, channels = levels.shape
    photometric = 2 if channels >= 3 else 0 if is_inverted else 1
    pixels = levels.astype("<u2").tobytes()
    entries: list[tuple[int, int, int, bytes]] = [
        (256, 4, 1, struct.pack("<I", width)),
        (257, 4, 1, struct.pack("<I", height)),
        (258, 3, channels, struct.pack(f"<{channels}H", *[16] * channels)),
        (259, 3, 1, struct.pack("<H", 1)),
        (262, 3, 1, struct.pack("<H", photometric)),
        (273, 4, 1, b"pixels"),
        (274, 3, 1, struct.pack("<H", orientation)),
        (277, 3, 1, struct.pack("<H", channels)),
        (278, 4, 1, struct.pack("<I", height)),
        (279, 4, 1, struct.pack("<I", len(pixels))),
    ]
    if channels in {2, 4}:
        entries.append((338, 3, 1, struct.pack("<H", 2)))  # unassociated
    if profile:
        entries.append((34675, 7, len(profile), profile))
    start = 8 + 2 + 12 * len(entries) + 4
    more = b""
    directory = struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        told = struct.pack("<I", 0) if value == b"pixels" else value
        if value == b"pixels":
            long = sum(len(v) + len(v) % 2 for *_, v in entries if len(v) > 4 and v != b"pixels")
            told = struct.pack("<I", start + long)
        elif len(value) > 4:
            told = struct.pack("<I", start + len(more))
            more += value + b"\0" * (len(value) % 2)
        directory += struct.pack("<HHI", tag, kind, count) + told.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", 8) + directory + b"\0" * 4 + more + pixels


def _curve(gamma: float | None) -> bytes:
    if gamma:
        return b"para" + b"\0" * 4 + struct.pack(">HHi", 0, 0, round(gamma * 65536))
    parameters = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    fixed = struct.pack(">5i", *(round(value * 65536) for value in parameters))
    return b"para" + b"\0" * 4 + struct.pack(">HH", 3, 0) + fixed


def _xyz(values: Sequence[float] | Vector) -> bytes:
    return b"XYZ " + b"\0" * 4 + struct.pack(">3i", *(round(value * 65536) for value in values))


def _profile(space: bytes, tags: Mapping[str, bytes]) -> bytes:
    text = "made for a test".encode("utf-16-be")
    named = b"mluc" + b"\0" * 4 + struct.pack(">II", 1, 12) + b"enUS"
    named += struct.pack(">II", len(text), 28) + text
    tags = {"desc": named, "cprt": named, "wtpt": _xyz(_D50), **tags}
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name.encode() + struct.pack(">II", offset + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    header = bytearray(128)
    header[8:12] = b"\x04\x30\0\0"
    header[12:24] = b"mntr" + space + b"XYZ "
    header[36:40] = b"acsp"
    header[68:80] = struct.pack(">3i", *(round(value * 65536) for value in _D50))
    whole = bytes(header) + table + body
    return struct.pack(">I", len(whole)) + whole[4:]
