"""Files that are written whole or not at all."""

import errno
import io
import os
import secrets
from pathlib import Path

from PIL import Image

from impasto.shared.errors import InvalidRequest

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}  # by suffix
_QUALITY = 92  # of JPEG and WebP: brush strokes are fine detail


def check_picture(path: Path) -> None:
    """Refuse, before the work instead of after it, a file that could not be written then.

    Raises OSError, or InvalidRequest for a suffix that names no picture format.
    """
    format_of(path)
    check_writable(path)


def check_writable(path: Path) -> None:
    """Raise OSError unless a file can be made at the path."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    trial = _part(path)
    try:
        trial.touch(exist_ok=False)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    trial.unlink()


def write(path: Path, data: bytes) -> None:
    """Whoever reads the path meanwhile sees the old file or the new one, never a part."""
    part = _part(path)
    try:
        part.write_bytes(data)
        part.replace(path.resolve())  # what a link points to is replaced, not the link
    finally:
        part.unlink(missing_ok=True)


def write_picture(path: Path, data: bytes) -> None:
    """Write a picture's file, converted where the suffix names another format."""
    with Image.open(io.BytesIO(data)) as picture:
        if picture.format != format_of(path).upper():
            data = _converted(picture, format_of(path))
    write(path, data)


def format_of(path: Path) -> str:
    """The spec's word for the format that a suffix names. Raises InvalidRequest."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise InvalidRequest(f"{path}: accepted: a name with {', '.join(FORMATS)}") from None


def on_white(picture: Image.Image) -> Image.Image:
    """The picture without its alpha channel, if it has one."""
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _part(path: Path) -> Path:
    target = path.resolve()
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")


def _converted(picture: Image.Image, format: str) -> bytes:
    file = io.BytesIO()
    if format == "jpeg":
        picture = on_white(picture)
    picture.save(file, format, quality=_QUALITY)  # a PNG knows no quality
    return file.getvalue()
