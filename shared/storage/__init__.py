"""Where pictures lie: a folder, or any S3-compatible store. The URL decides."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

from ..errors import InvalidSetting


class Storage(Protocol):
    """Objects under keys. An object is created, never overwritten with other bytes.

    Every method raises `Unavailable` when the store is out of reach, within ten seconds even if
    it is frozen, and `StorageFull` when it has no space left. No method tries for longer.
    """

    def put(self, key: str, data: bytes, media_type: str) -> None:
        """Keep the bytes under the key; afterwards every reader sees all of them, or nothing."""

    def get(self, key: str) -> bytes:
        """The object's bytes. Raises `ObjectNotFound`."""

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """The object as a stream, for large files. Raises `ObjectNotFound`."""

    def exists(self, key: str) -> bool: ...

    def delete(self, key: str) -> None:
        """Remove the object; one that is not there is removed already."""

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that begin with the prefix, in order."""

    def remove_partial_uploads(self, prefix: str) -> None:
        """Remove what puts under keys with the prefix left that were killed; none is under way."""

    def prepare(self) -> None:
        """Make the folder or the bucket where it is missing."""

    def check(self) -> None:
        """Raise `Unavailable` unless the store answers, and a folder has room for a picture."""


def open_storage(url: str) -> Storage:
    """The storage behind a URL: `file:///folder` or `s3://bucket/prefix`."""
    parts = urlsplit(url)
    match parts.scheme:
        case "file":
            from .folder import FolderStorage

            return FolderStorage(parts.path)
        case "s3":
            from .s3 import S3Storage  # boto3 is an extra

            return S3Storage(parts.netloc, parts.path)
    raise InvalidSetting(f"storage URL {url!r}: accepted: file:///FOLDER or s3://BUCKET/PREFIX")
