"""The files of rendered pictures: sRGB, (H, W, 3), 0..255, float32, rounded here."""

import io
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impasto.shared.pictures.codec import Plane
from impasto.shared.spec import Format

from . import png

Rendered = NDArray[np.float32]
"""(H, W, 3)"""

_SNAPSHOT_QUALITY = 90


def encode(
    image: Rendered,
    format: Format,
    *,
    bits: Literal[8, 16] = 8,
    quality: int = 92,
    alpha: Plane | None = None,
) -> bytes:
    """The file of a rendered picture; the same for the same arguments.

    bits: 16 is for png.
    quality: of jpeg and webp, 1 to 100.
    alpha: what a png and a webp carry; a jpeg has none, and lies on white.
    """
    if format == "jpeg":
        opaque = image if alpha is None else _on_white(image, alpha)
        return _saved(_levels(opaque, 8), "JPEG", quality=quality, subsampling=0)
    levels = _levels(image, bits)
    if alpha is not None:
        levels = np.dstack((levels, _levels(alpha, bits)))
    if format == "webp":
        return _saved(levels, "WEBP", quality=quality)
    return png.encode(levels) if bits == 16 else _saved(levels, "PNG", compress_level=6)


def encode_snapshot(image: Rendered, format: Format = "jpeg") -> bytes:
    """The file of a picture on its way, in any size, without the content's alpha."""
    return encode(image, format, quality=_SNAPSHOT_QUALITY)


def _on_white(image: Rendered, alpha: Plane) -> Rendered:
    lying = 255 + (image - 255) * (alpha[..., None] / np.float32(255))
    return lying.astype(np.float32)


def _levels(image: Rendered | Plane, bits: Literal[8, 16]) -> NDArray[Any]:
    """The nearest whole levels, 0 to 255 or 0 to 65535, which is 255 * 257."""
    scaled, dtype = (image * np.float32(257), np.uint16) if bits == 16 else (image, np.uint8)
    levels: NDArray[Any] = np.rint(scaled).astype(dtype)
    return levels


def _saved(levels: NDArray[np.uint8], form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, form, **options)
    return buffer.getvalue()
