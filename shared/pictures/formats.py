"""Which files are pictures here, and what is said of those that are not."""

import re

from pi_heif import register_heif_opener
from PIL import Image

from ..errors import InvalidImage, Violation

# By Pillow's name.
FORMATS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
}
MEDIA_TYPES = tuple(FORMATS.values())
ACCEPTED = f"a still picture: {', '.join(MEDIA_TYPES)}"

_ANIMATIONS = {
    "PNG": "an animated PNG (APNG)",
    "GIF": "an animated GIF",
    "WEBP": "an animated WebP",
    "AVIF": "an AVIF image sequence",
    "TIFF": "a TIFF of several pages",
}
_SEQUENCES = {b"avis": "an AVIF image sequence", b"hevc": "a HEIC image sequence"}
_SEQUENCE_BRANDS = re.compile(rb"....ftyp(avis|hevc|hevx)", re.DOTALL)
# Files that people take for pictures that every program reads; by how they begin.
_OTHERS = {
    "a JPEG XL": re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL "),
    "a JPEG 2000": re.compile(rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP  "),
    "a Photoshop document": re.compile(rb"8BPS"),
    "a PDF": re.compile(rb"%PDF-"),
    "an SVG drawing": re.compile(
        rb"\s*(\xef\xbb\xbf)?(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*"
        rb"(<!DOCTYPE svg[^>]*>\s*)?<svg[\s>]",
        re.DOTALL,
    ),
    "a camera raw file": re.compile(
        rb"II\*\x00.{4}CR|II\x55\x00|FUJIFILMCCD-RAW|IIRO|....ftypcrx", re.DOTALL
    ),
    "a video": re.compile(
        rb"....ftyp(isom|mp4|M4V|qt|avc1|3gp)|\x1a\x45\xdf\xa3|RIFF....AVI ", re.DOTALL
    ),
    "an icon": re.compile(rb"\x00\x00[\x01\x02]\x00"),
    "a web page": re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE),
}
_RAW_TAGS = {50706: "a camera raw file (DNG)", 33422: "a camera raw file"}  # DNGVersion, CFAPattern

register_heif_opener(thumbnails=False)
# Pillow's own limit only warns up to its double; ours is an argument, and refuses.
Image.MAX_IMAGE_PIXELS = None


def format_of(image: Image.Image) -> str:
    """Which of `FORMATS` an opened file is. Raises InvalidImage unless it is one still picture."""
    # Pillow calls a JPEG "MPO" when a camera appended a preview or a gain map to it; its first
    # picture is the picture. So is a HEIC file's primary image.
    form = "JPEG" if image.format == "MPO" else image.format or ""
    if form in _ANIMATIONS and getattr(image, "is_animated", False):
        frames = getattr(image, "n_frames", 0)
        raise invalid(f"the picture is {_ANIMATIONS[form]}", f"{frames} frames", ACCEPTED)
    if form == "TIFF":
        tags = getattr(image, "tag_v2", {})
        for tag, name in _RAW_TAGS.items():
            if tag in tags:
                raise refused_kind(name)
    return form


def check_beginning(data: bytes) -> None:
    """Raise InvalidImage for what is no picture of a kind that is read, by its name."""
    if not data:
        raise invalid("the file is empty", "0 bytes", ACCEPTED)
    if sequence := _SEQUENCE_BRANDS.match(data):
        name = _SEQUENCES.get(sequence[1], "a HEIC image sequence")
        raise invalid(f"the picture is {name}", name, ACCEPTED)
    for name, beginning in _OTHERS.items():
        if beginning.match(data[:1024]):
            raise refused_kind(name)


def refused_kind(name: str) -> InvalidImage:
    accepted = f"{ACCEPTED}; save it as a PNG, or as a JPEG of high quality"
    return invalid(f"this is {name}", name, accepted)


def beginning(data: bytes) -> str:
    return f"{len(data)} bytes, beginning with {data[:12]!r}"


def invalid(why: str, value: str, accepted: str) -> InvalidImage:
    return InvalidImage(why, violations=[Violation("", value, accepted)])
