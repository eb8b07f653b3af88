"""Pictures from their files: sRGB, upright, (H, W, 3).

What is inspected here when it is uploaded, a worker can decode.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from shared.errors import InvalidImage, Violation
from shared.sizes import canvas

# By Pillow's name.
FORMATS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
}
MEDIA_TYPES = tuple(FORMATS.values())
ACCEPTED = f"a still picture: {', '.join(MEDIA_TYPES)}"

Picture = NDArray[np.uint8] | NDArray[np.uint16]
"""(H, W, 3), sRGB."""
Plane = NDArray[np.uint8]
"""(H, W): a mask or an alpha channel, 255 where there is all of it."""

_QUARTER_TURNS = {5, 6, 7, 8}  # the EXIF orientations that swap width and height
# What Pillow's parsers raise for damaged files; found by fuzzing (tests/unit/services).
_BROKEN = (OSError, EOFError, LookupError, SyntaxError, ValueError, struct.error, zlib.error)
_SRGB = ImageCms.createProfile("sRGB")

# Pillow's own limit only warns up to its double; ours is an argument, and refuses.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Facts:
    """What is known of a picture once it was decoded to its end.

    width, height: as it is shown, its EXIF orientation applied.
    bits: 8 or 16 a channel.
    warnings: what the file says of its colours and was not honoured, a sentence each.
    """

    media_type: str
    width: int
    height: int
    bits: int = 8
    has_alpha: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decoded:
    """A picture as it is meant to be seen, on white, and its alpha channel, if it has one."""

    picture: Picture
    alpha: Plane | None


def inspect(data: bytes, max_pixels: int) -> Facts:
    """The facts of a file's picture, decoded to its end in little memory.

    Raises InvalidImage; the field of its violation is "file".
    """
    if not data:
        raise _invalid("the file is empty", "0 bytes", ACCEPTED)
    try:
        return _inspect(data, max_pixels)
    except _BROKEN as error:
        is_unknown = isinstance(error, UnidentifiedImageError)
        why = "this is no picture of a known format" if is_unknown else f"it is damaged: {error}"
        raise _invalid(why, _beginning(data), ACCEPTED) from error


def inspect_mask(data: bytes, max_pixels: int) -> Facts:
    """The facts of a mask. Raises InvalidImage, also if its style would apply nowhere."""
    facts = inspect(data, max_pixels)
    decode_mask(data, facts.width, facts.height)
    return facts


def decode(data: bytes, long_side: int) -> Decoded:
    """A file's picture as it is meant to be seen, scaled to a long side in px.

    EXIF orientation and ICC profile are applied; what is transparent lies on white.
    Raises InvalidImage.
    """
    with _opened(data, long_side) as image:
        size = canvas(image.width, image.height, long_side)
        alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
        picture = _scaled(_laid_on("white", image), size)
    return Decoded(picture, None if alpha is None else _scaled(alpha, size, _PLANE))


def decode_mask(data: bytes, width: int, height: int) -> Plane:
    """A file's grey picture, stretched to a canvas; what is transparent in it is black.

    Raises InvalidImage.
    """
    with _opened(data, max(width, height)) as image:
        mask = _scaled(_laid_on("black", image).convert("L"), (width, height), _PLANE)
    if not mask.any():
        raise InvalidImage("the mask is black everywhere, accepted: white where the style applies")
    return mask


_PLANE = Image.Resampling.BILINEAR  # Lanczos is sharper, and leaves a ring around each edge


def _inspect(data: bytes, max_pixels: int) -> Facts:
    with Image.open(BytesIO(data), formats=tuple(FORMATS)) as image:
        # Pillow calls a JPEG "MPO" when a camera appended a preview or a gain map to it; its first
        # picture is the picture.
        is_jpeg = isinstance(image, JpegImageFile)
        media_type = FORMATS["JPEG" if is_jpeg else image.format or ""]
        width, height = image.size
        if width * height > max_pixels:  # known from the header: nothing was decoded yet
            raise _invalid(
                "the picture is too large",
                f"{width} x {height} px",
                f"at most {max_pixels} pixels, width times height",
            )
        if not is_jpeg and getattr(image, "is_animated", False):
            raise _invalid("the picture is animated", "more than one frame", ACCEPTED)
        # A JPEG is read to its end, but at an eighth of its size: a third of the time (70 ms
        # instead of 200 at 24 megapixels), a sixtieth of the memory.
        image.draft("L", (1, 1))
        image.load()
        if image.getexif().get(ExifTags.Base.Orientation) in _QUARTER_TURNS:
            width, height = height, width
        return Facts(media_type, width, height, has_alpha=image.has_transparency_data)


@contextmanager
def _opened(data: bytes, long_side: int) -> Iterator[Image.Image]:
    """A file's picture, turned as it is seen, in sRGB, at least as large as it is needed."""
    try:
        with Image.open(BytesIO(data)) as file:
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
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
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


def _beginning(data: bytes) -> str:
    return f"{len(data)} bytes, beginning with {data[:12]!r}"


def _invalid(why: str, value: str, accepted: str) -> InvalidImage:
    return InvalidImage(why, violations=[Violation("file", value, accepted)])
