"""Pictures between their files and the engine: RGB, sRGB, (H, W, 3), 0..255.

What a file gives is uint8, a `Picture`; what the engine gives is float32, and rounded here.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from shared.errors import InvalidImage
from shared.spec import Format, canvas
from workers import png

Picture = NDArray[np.uint8]
"""(H, W, 3)"""
Plane = NDArray[np.uint8]
"""(H, W): a mask or an alpha channel, 255 where there is all of it."""
Rendered = NDArray[np.float32]
"""(H, W, 3)"""

_PLANE = Image.Resampling.BILINEAR  # Lanczos is sharper, and leaves a ring around each edge
_SNAPSHOT_QUALITY = 90
Image.MAX_IMAGE_PIXELS = None  # how large a picture may be was checked when it was uploaded
_SRGB = ImageCms.createProfile("sRGB")


def decode(data: bytes, long_side: int) -> Picture:
    """A file's picture as it is meant to be seen, scaled to a long side in px.

    EXIF orientation and ICC profile are applied; what is transparent lies on white.
    Raises InvalidImage.
    """
    picture, _ = decode_with_alpha(data, long_side)
    return picture


def decode_with_alpha(data: bytes, long_side: int) -> tuple[Picture, Plane | None]:
    """What `decode` gives, and the file's alpha channel in the same size, if it has one."""
    with _opened(data, long_side) as image:
        size = canvas(image.width, image.height, long_side)
        alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
        picture = _scaled(_laid_on("white", image), size)
    return picture, None if alpha is None else _scaled(alpha, size, _PLANE)


def decode_mask(data: bytes, width: int, height: int) -> Plane:
    """A file's grey picture, stretched to a canvas; what is transparent in it is black.

    Raises InvalidImage.
    """
    with _opened(data, max(width, height)) as image:
        mask = _scaled(_laid_on("black", image).convert("L"), (width, height), _PLANE)
    if not mask.any():
        raise InvalidImage("the mask is black everywhere, accepted: white where the style applies")
    return mask


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


def encode_snapshot(image: Rendered) -> bytes:
    """A JPEG of a picture on its way, in any size, as the engine sees it."""
    return encode(image, "jpeg", quality=_SNAPSHOT_QUALITY)


@contextmanager
def _opened(data: bytes, long_side: int) -> Iterator[Image.Image]:
    """A file's picture, turned as it is seen, in sRGB, at least as large as it is needed."""
    try:
        with Image.open(io.BytesIO(data)) as file:
            file.draft(None, (2 * long_side, 2 * long_side))  # a large JPEG is read at 1/2 to 1/8
            yield _in_srgb(ImageOps.exif_transpose(file))
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise InvalidImage(f"the picture cannot be decoded: {error}") from error


def _in_srgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a grey level
        levels = np.asarray(image).astype(np.uint32)
        image = Image.fromarray((levels >> 8).astype(np.uint8))
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "L", "CMYK"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode=mode)
    except (ImageCms.PyCMSError, OSError):
        return image  # a broken profile says nothing: most viewers show the numbers as they are
    return converted or image


def _laid_on(color: str, image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    ground = Image.new("RGBA", image.size, color)
    return Image.alpha_composite(ground, image).convert("RGB")


def _scaled(
    image: Image.Image,
    size: tuple[int, int],
    resampling: Image.Resampling = Image.Resampling.LANCZOS,
) -> NDArray[np.uint8]:
    if image.size != size:
        image = image.resize(size, resampling, reducing_gap=3.0)
    return np.asarray(image)


def _on_white(image: Rendered, alpha: Plane) -> Rendered:
    return 255 + (image - 255) * (alpha[..., None] / np.float32(255))


def _levels(image: Rendered | Plane, bits: Literal[8, 16]) -> NDArray[Any]:
    """The nearest whole levels, 0 to 255 or 0 to 65535, which is 255 * 257."""
    if bits == 16:
        return np.rint(image * np.float32(257)).astype(np.uint16)
    return np.rint(image).astype(np.uint8)


def _saved(levels: NDArray[np.uint8], form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, form, **options)
    return buffer.getvalue()
