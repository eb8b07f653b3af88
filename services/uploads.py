"""Pictures are decoded before they are accepted: what is let in here, every worker can read."""

import struct
import threading
import zlib
from dataclasses import dataclass
from io import BytesIO

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from shared import keys
from shared.errors import InvalidImage, Violation

# By Pillow's name. TIFF is left out for its decoder's record, HEIC because Pillow has none.
FORMATS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
}
MEDIA_TYPES = tuple(FORMATS.values())
ACCEPTED = f"a still picture: {', '.join(MEDIA_TYPES)}"

_QUARTER_TURNS = {5, 6, 7, 8}  # the EXIF orientations that swap width and height
_UNDECLARED = {None, "", "application/octet-stream"}  # senders that do not know say this
_ALIASES = {"image/jpg": "image/jpeg"}
# What Pillow's parsers trip over when bytes lie; found by fuzzing (tests/unit/services).
_BROKEN = (OSError, EOFError, LookupError, SyntaxError, ValueError, struct.error, zlib.error)
# A PNG of 100 megapixels takes 400 MB while it is decoded: one at a time, not one per thread.
_decoder = threading.Lock()

# Pillow's own limit only warns up to its double; ours is an argument, and refuses.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Upload:
    """A file as it arrived, and what the sender says it is."""

    data: bytes
    media_type: str | None = None

    @property
    def id(self) -> str:
        return keys.digest(self.data)


@dataclass(frozen=True)
class Picture:
    """What is known of a picture once it was decoded."""

    media_type: str
    width: int  # as it is shown, its EXIF orientation applied
    height: int


def inspect(upload: Upload, max_pixels: int, *, field: str = "file") -> Picture:
    """The picture that these bytes are, decoded to the end.

    field: how a refusal names the upload.
    Raises InvalidImage.
    """
    if not upload.data:
        raise _invalid("the file is empty", field, "0 bytes", ACCEPTED)
    try:
        with _decoder:
            picture = _decode(upload.data, max_pixels, field)
    except _BROKEN as error:
        is_unknown = isinstance(error, UnidentifiedImageError)
        why = "this is no picture of a known format" if is_unknown else f"it is damaged: {error}"
        raise _invalid(why, field, _beginning(upload.data), ACCEPTED) from error
    declared = _ALIASES.get(upload.media_type or "", upload.media_type)
    if declared not in _UNDECLARED and declared != picture.media_type:
        raise _invalid(
            f"the bytes are {picture.media_type}, and were declared as something else",
            field,
            declared,
            picture.media_type,
        )
    return picture


def _decode(data: bytes, max_pixels: int, field: str) -> Picture:
    with Image.open(BytesIO(data), formats=tuple(FORMATS)) as image:
        # Pillow calls a JPEG "MPO" when a camera appended a preview or a gain map to it; its first
        # picture is the picture.
        is_jpeg = isinstance(image, JpegImageFile)
        media_type = FORMATS["JPEG" if is_jpeg else image.format or ""]
        width, height = image.size
        if width * height > max_pixels:  # known from the header: nothing was decoded yet
            raise _invalid(
                "the picture is too large",
                field,
                f"{width} x {height} px",
                f"at most {max_pixels} pixels, width times height",
            )
        if not is_jpeg and getattr(image, "is_animated", False):
            raise _invalid("the picture is animated", field, "more than one frame", ACCEPTED)
        # A JPEG is read to its end, but at an eighth of its size: a third of the time (70 ms
        # instead of 200 at 24 megapixels), a sixtieth of the memory.
        image.draft("L", (1, 1))
        image.load()
        if image.getexif().get(ExifTags.Base.Orientation) in _QUARTER_TURNS:
            width, height = height, width
        return Picture(media_type, width, height)


def _beginning(data: bytes) -> str:
    return f"{len(data)} bytes, beginning with {data[:12]!r}"


def _invalid(why: str, field: str, value: str | None, accepted: str) -> InvalidImage:
    return InvalidImage(f"{field}: {why}", violations=[Violation(field, value, accepted)])
