"""A file's samples as arrays: 16 bits a channel, which Pillow does not give, where there are.

Arrays are uint8 or uint16, (H, W, C), upright; alpha is (H, W) of the same type, not premultiplied.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from . import chunks

Levels = NDArray[Any]

_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB = 0, 1, 2  # of a TIFF's PhotometricInterpretation
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLES, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 258, 262, 277, 338, 339
_ASSOCIATED, _UNSIGNED = 1, 1
_UPRIGHT: Mapping[int, Callable[[Levels], Levels]] = {  # by EXIF's Orientation
    2: np.fliplr,
    3: lambda levels: np.rot90(levels, 2),
    4: np.flipud,
    5: lambda levels: levels.swapaxes(0, 1),
    6: lambda levels: np.rot90(levels, -1),
    7: lambda levels: np.rot90(levels, 2).swapaxes(0, 1),
    8: np.rot90,
}


@dataclass(frozen=True)
class Samples:
    """What a file has, in its own colours.

    colors: (H, W, 1) grey, (H, W, 3) RGB or (H, W, 4) CMYK.
    """

    colors: Levels
    alpha: Levels | None = None


def bits(data: bytes, image: Image.Image, form: str) -> int:
    """How many bits a channel are read from the file: 8 or 16."""
    if form == "PNG":
        return 16 if chunks.of_png(data).get(b"IHDR", b"")[8:9] == b"\x10" else 8
    if form == "TIFF" and _is_deep_tiff(image):
        return 16
    return 8


def read(data: bytes, image: Image.Image, form: str) -> Samples:
    """The samples of an opened file."""
    if bits(data, image, form) == 8:
        return _shallow(image)
    samples = _deep_png(data) if form == "PNG" else _deep_tiff(data, image)
    alpha = None if samples.alpha is None else _upright(samples.alpha, image)
    return Samples(_upright(samples.colors, image), alpha)


def is_turned(image: Image.Image) -> bool:
    """Whether width and height change places when the picture is shown."""
    return _orientation(image) in {5, 6, 7, 8}


def _orientation(image: Image.Image) -> int:
    try:
        orientation: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, EOFError, LookupError, SyntaxError, ValueError, TypeError, struct.error):
        return 1  # a broken EXIF says nothing: viewers show the picture as it lies
    return orientation


def _upright(levels: Levels, image: Image.Image) -> Levels:
    turn = _UPRIGHT.get(_orientation(image))
    return turn(levels) if turn else levels


def _shallow(image: Image.Image) -> Samples:
    """8 bits a channel, of whatever Pillow makes of it."""
    if image.mode == "CMYK":
        pass
    elif image.mode in {"1", "L", "LA"}:
        image = image.convert("LA" if image.has_transparency_data else "L")
    else:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    levels = np.asarray(image)
    levels = _upright(levels if levels.ndim == 3 else levels[..., None], image)
    if image.mode in {"LA", "RGBA"}:
        return Samples(levels[..., :-1], levels[..., -1])
    return Samples(levels)


def _deep_png(data: bytes) -> Samples:
    levels = imagecodecs.png_decode(data)
    levels = levels if levels.ndim == 3 else levels[..., None]
    if levels.shape[2] in {2, 4}:
        return Samples(levels[..., :-1], levels[..., -1])
    key = chunks.of_png(data).get(b"tRNS", b"")
    if len(key) != 2 * levels.shape[2]:
        return Samples(levels)
    transparent = struct.unpack(f">{levels.shape[2]}H", key)
    is_opaque = (levels != np.array(transparent, levels.dtype)).any(axis=2)
    return Samples(levels, np.where(is_opaque, levels.dtype.type(65535), levels.dtype.type(0)))


def _is_deep_tiff(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    depths = tags.get(_BITS_PER_SAMPLE, ())
    formats = tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))
    photometric = tags.get(_PHOTOMETRIC)
    grey = photometric in {_MIN_IS_WHITE, _MIN_IS_BLACK}
    channels = tags.get(_SAMPLES, 1)
    is_known = (grey and channels in {1, 2}) or (photometric == _RGB and channels in {3, 4})
    return is_known and set(depths) == {16} and set(formats) == {_UNSIGNED}


def _deep_tiff(data: bytes, image: Image.Image) -> Samples:
    tags = image.tag_v2  # type: ignore[attr-defined]
    levels = imagecodecs.tiff_decode(data)
    channels = tags.get(_SAMPLES, 1)
    if levels.ndim == 2:
        levels = levels[..., None]
    elif levels.shape[0] == channels != levels.shape[2]:  # planes, one after the other
        levels = np.moveaxis(levels, 0, 2)
    if tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE:
        levels = np.concatenate([65535 - levels[..., :1], levels[..., 1:]], axis=2)
    if channels not in {2, 4}:
        return Samples(levels)
    colors, alpha = levels[..., :-1], levels[..., -1]
    if tags.get(_EXTRA_SAMPLES, (0,))[0] == _ASSOCIATED:
        share = np.maximum(alpha[..., None], 1).astype(np.float32) / 65535
        colors = np.rint(np.minimum(colors / share, 65535)).astype(np.uint16)
    return Samples(colors, alpha)
