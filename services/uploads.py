"""Pictures are decoded before they are accepted: what is let in here, every worker can read."""

import threading
from dataclasses import dataclass, replace

from shared import keys
from shared.errors import InvalidImage, Violation
from shared.pictures import codec

_UNDECLARED = {None, "", "application/octet-stream"}  # senders that do not know say this
_ALIASES = {"image/jpg": "image/jpeg"}
# A PNG of 100 megapixels takes 400 MB while it is decoded: one at a time, not one per thread.
_decoder = threading.Lock()


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
    try:
        with _decoder:
            facts = codec.inspect(upload.data, max_pixels)
    except InvalidImage as error:
        violations = [replace(violation, field=field) for violation in error.violations]
        raise InvalidImage(f"{field}: {error.detail}", violations=violations) from error
    picture = Picture(facts.media_type, facts.width, facts.height)
    declared = _ALIASES.get(upload.media_type or "", upload.media_type)
    if declared not in _UNDECLARED and declared != picture.media_type:
        raise _invalid(
            f"the bytes are {picture.media_type}, and were declared as something else",
            field,
            declared,
            picture.media_type,
        )
    return picture


def _invalid(why: str, field: str, value: str | None, accepted: str) -> InvalidImage:
    return InvalidImage(f"{field}: {why}", violations=[Violation(field, value, accepted)])
