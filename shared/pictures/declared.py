"""What a file says of its colours, as an ICC profile; and what is not honoured of that.

Sources: PNG third edition, section 4.3 (cICP before iCCP before sRGB before gAMA and cHRM);
ITU-T H.273 (code points); Exif 2.32 and DCF 2.0 (Adobe RGB as an option file); ICC.1:2022.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from io import BytesIO
from typing import NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from . import chunks


@dataclass(frozen=True)
class Declared:
    """profile: ICC, for `model`; without one the samples are sRGB.
    model: of the samples that the profile is for: "rgb", "gray" or "cmyk".
    warnings: what the file says and is not honoured, in a sentence each.
    """

    profile: bytes | None = None
    model: str = "rgb"
    warnings: tuple[str, ...] = ()


class _Primaries(NamedTuple):
    """Chromaticities x, y."""

    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]
    white: tuple[float, float]


_D65 = (0.3127, 0.3290)
_BT709 = _Primaries((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _D65)
_ADOBE_RGB = _Primaries((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), _D65)
_ADOBE_GAMMA = 563 / 256
# By H.273's ColourPrimaries.
_PRIMARIES = {
    1: _BT709,
    2: _BT709,  # unspecified
    5: _Primaries((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: _Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    7: _Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    9: _Primaries((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    12: _Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
}
# By H.273's TransferCharacteristics. Video's curves are shown by displays of sRGB as sRGB.
_SRGB_TRANSFERS = {1, 2, 6, 13, 14, 15}
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_HDR = {16: "PQ", 18: "HLG"}

_BMP_PROFILES = {b"DEBM", b"KNIL"}  # bV5CSType: embedded, linked

_MODELS = {"RGB ": "rgb", "GRAY": "gray", "CMYK": "cmyk"}
_SAMPLE_MODELS = {"1": "gray", "L": "gray", "LA": "gray", "I;16": "gray", "CMYK": "cmyk"}


def read(data: bytes, image: Image.Image, form: str) -> Declared:
    """What a file says of its colours.

    image: opened; its pixels are not needed. form: Pillow's name of its format.
    """
    found = chunks.of_png(data)
    if b"cICP" in found:
        return _of_code_points(*found[b"cICP"][:2])
    if profile := image.info.get("icc_profile"):
        color_type = found.get(b"IHDR", b"")[9:10]  # Pillow makes RGB of grey with 16 bits of alpha
        is_grey = color_type in {b"\0", b"\4"}
        return _of_profile(profile, "gray" if is_grey else _SAMPLE_MODELS.get(image.mode, "rgb"))
    match form:
        case "PNG":
            return _of_png(found)
        case "AVIF" | "HEIF":
            return _of_nclx(data)
        case "BMP" if data[70:74] in _BMP_PROFILES:
            return Declared(warnings=("the profile of a BMP is not read: sRGB is assumed",))
    return _of_exif(image)


def _of_profile(profile: bytes, samples: str) -> Declared:
    try:
        space = ImageCms.ImageCmsProfile(BytesIO(profile)).profile.xcolor_space
    except (ImageCms.PyCMSError, OSError):
        return Declared(warnings=("the file's colour profile is damaged: sRGB is assumed",))
    model = _MODELS.get(space)
    # Grey samples may have a profile of RGB, whose neutral axis they lie on.
    if model == samples or (model, samples) == ("rgb", "gray"):
        return Declared(profile, model or "")
    told = f"the file's colour profile is for {space.strip()}, its samples are {samples.upper()}"
    return Declared(warnings=(f"{told}: sRGB is assumed",))


def _of_png(found: Mapping[bytes, bytes]) -> Declared:
    if b"iCCP" in found:
        return Declared(warnings=("the file's colour profile is damaged: sRGB is assumed",))
    if b"sRGB" in found or not found.keys() & {b"gAMA", b"cHRM"}:
        return Declared()
    primaries = _BT709
    if len(found.get(b"cHRM", b"")) == 32:
        x_y = [value / 100_000 for value in struct.unpack(">8I", found[b"cHRM"])]
        white, red, green, blue = zip(x_y[::2], x_y[1::2], strict=True)
        primaries = _Primaries(red, green, blue, white)
    gamma = None
    if len(found.get(b"gAMA", b"")) == 4:
        (encoding,) = struct.unpack(">I", found[b"gAMA"])
        gamma = 100_000 / encoding if encoding else None
    return _made(primaries, gamma)


def _of_nclx(data: bytes) -> Declared:
    """By the colr box of an AVIF or HEIC file."""
    at = data.find(b"colrnclx", 0, 2**20)
    if at < 0 or at + 12 > len(data):
        return Declared()
    return _of_code_points(*struct.unpack(">HH", data[at + 8 : at + 12]))


def _of_code_points(primaries: int, transfer: int) -> Declared:
    if transfer in _HDR:
        told = f"the file's brightness is HDR ({_HDR[transfer]}), and taken as that of sRGB"
        return Declared(warnings=(told,))
    is_known = transfer in _SRGB_TRANSFERS or transfer in _GAMMAS
    if primaries not in _PRIMARIES or not is_known:
        told = f"the file's colours are of code points {primaries} and {transfer}: sRGB is assumed"
        return Declared(warnings=(told,))
    if _PRIMARIES[primaries] == _BT709 and transfer in _SRGB_TRANSFERS:
        return Declared()
    return _made(_PRIMARIES[primaries], _GAMMAS.get(transfer))


def _of_exif(image: Image.Image) -> Declared:
    if image.mode == "CMYK":
        return Declared(warnings=("the file has CMYK colours and no profile: they are estimated",))
    exif = image.getexif()
    details = exif.get_ifd(ExifTags.IFD.Exif)
    space = details.get(ExifTags.Base.ColorSpace)
    interop = exif.get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)
    if space == 2 or interop == "R03":
        return _made(_ADOBE_RGB, _ADOBE_GAMMA)
    if space == 0xFFFF:
        told = "the file says that its colours are uncalibrated, and has no profile"
        return Declared(warnings=(f"{told}: sRGB is assumed",))
    return Declared()


def _made(primaries: _Primaries, gamma: float | None) -> Declared:
    try:
        return Declared(_profile(primaries, gamma))
    except (imagecodecs.CmsError, ValueError):
        told = "the file tells of primaries or of a gamma that cannot be: sRGB is assumed"
        return Declared(warnings=(told,))


@cache
def srgb() -> bytes:
    profile: bytes = imagecodecs.cms_profile("srgb")
    return profile


@lru_cache(32)  # what files tell is without end
def _profile(primaries: _Primaries, gamma: float | None) -> bytes:
    """An RGB profile. gamma: its exponent; None: sRGB's curve."""
    curve = {"gamma": gamma} if gamma else {"transferfunction": _srgb_curve()}
    red, green, blue, white = ([*x_y, 1.0] for x_y in primaries)
    if not all(y > 0 for _, y in primaries):
        raise ValueError(primaries)
    profile: bytes = imagecodecs.cms_profile(
        "rgb", whitepoint=white, primaries=[*red, *green, *blue], **curve
    )
    return profile


def _srgb_curve() -> NDArray[np.uint16]:
    """From encoded to linear, at even steps. Source: IEC 61966-2-1."""
    encoded = np.linspace(0, 1, 4096)
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    curve: NDArray[np.uint16] = np.rint(linear * 65535).astype(np.uint16)
    return curve
