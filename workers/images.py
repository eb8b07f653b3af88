"""Pictures between their files and the engine: uint8, RGB, sRGB, (H, W, 3)."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from shared.errors import InvalidImage
from shared.spec import canvas

Picture = NDArray[np.uint8]

_SNAPSHOT_QUALITY = 90
Image.MAX_IMAGE_PIXELS = None  # how large a picture may be was checked when it was uploaded
_SRGB = ImageCms.createProfile("sRGB")


def decode(data: bytes, long_side: int) -> Picture:
    """A file's picture as it is meant to be seen, scaled to a long side in px.

    EXIF orientation and ICC profile are applied; what is transparent lies on white.
    Raises InvalidImage.
    """
    try:
        with Image.open(io.BytesIO(data)) as file:
            file.draft(None, (2 * long_side, 2 * long_side))  # a large JPEG is read at 1/2 to 1/8
            image = ImageOps.exif_transpose(file)
            image = _on_white(_in_srgb(image))
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise InvalidImage(f"the picture cannot be decoded: {error}") from error
    size = canvas(image.width, image.height, long_side)
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(image)


def encode_png(picture: Picture) -> bytes:
    return _encode(picture, "PNG", compress_level=6)


def encode_jpeg(picture: Picture) -> bytes:
    return _encode(picture, "JPEG", quality=_SNAPSHOT_QUALITY, subsampling=0)


def with_colors_of(picture: Picture, colors: Picture) -> Picture:
    """The light of one picture with the colours of another of the same size.

    Source: Gatys et al. 2016, "Preserving color in neural artistic style transfer", luminance
    only; here in YCbCr.
    """
    light, _, _ = Image.fromarray(picture).convert("YCbCr").split()
    _, blue, red = Image.fromarray(colors).convert("YCbCr").split()
    return np.asarray(Image.merge("YCbCr", (light, blue, red)).convert("RGB"))


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


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _encode(picture: Picture, form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, form, **options)
    return buffer.getvalue()
