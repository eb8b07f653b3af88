"""Files that are written whole or not at all."""

import errno
import io
import os
import secrets
from pathlib import Path

from PIL import Image

from shared.errors import InvalidRequest

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}  # by suffix
_QUALITY = 92  # of JPEG and WebP: brush strokes are fine detail


def check_picture(path: Path) -> None:
    """Refuse, before the work instead of after it, a file that could not be written then.

    Raises OSError, or InvalidRequest for a suffix that names no picture format.
    """
    _format(path)
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


def write_picture(path: Path, png: bytes) -> None:
    """Write a PNG, converted where the suffix names another format."""
    format = _format(path)
    write(path, png if format == "PNG" else _converted(png, format))


def _part(path: Path) -> Path:
    target = path.resolve()
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")


def _format(path: Path) -> str:
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise InvalidRequest(f"{path}: accepted: a name with {', '.join(FORMATS)}") from None


def _converted(png: bytes, format: str) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").save(file, format, quality=_QUALITY)
    return file.getvalue()
