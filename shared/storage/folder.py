"""Objects as files below one folder."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from ..errors import ObjectNotFound, StorageFull, Unavailable

_PART = ".part"  # the suffix of a file that is still being written
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ROOM_BYTES = 2**20  # a disk that has less left is full: most results would not fit


class FolderStorage:
    """A file per key. A file gets its name only once it is whole and on the disk."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(unquote(folder))

    def put(self, key: str, data: bytes, media_type: str) -> None:  # noqa: ARG002  # files have none
        path = self._path(key)
        with _translated(f"cannot store {key}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            name = f"{path.name}."
            descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=name, suffix=_PART)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(part).replace(path)
            except BaseException:
                Path(part).unlink(missing_ok=True)
                raise
            self._sync_names(path)

    def get(self, key: str) -> bytes:
        with _found(key):
            return self._path(key).read_bytes()

    def open(self, key: str) -> BinaryIO:
        with _found(key):
            return self._path(key).open("rb")

    def exists(self, key: str) -> bool:
        with contextlib.suppress(ObjectNotFound), _found(key):
            return self._path(key).is_file()
        return False

    def delete(self, key: str) -> None:
        # Its folder stays, even if it is empty now: another put may just be using it.
        with contextlib.suppress(ObjectNotFound), _found(key):
            self._path(key).unlink()

    def keys(self, prefix: str) -> Iterator[str]:
        return (name for name in self._names(prefix) if not name.endswith(_PART))

    def remove_partial_uploads(self, prefix: str) -> None:
        for name in self._names(prefix):
            if name.endswith(_PART):
                self.delete(name)

    def prepare(self) -> None:
        with _translated(f"cannot make {self._folder}"):
            self._folder.mkdir(parents=True, exist_ok=True)

    def check(self) -> None:
        with (
            _translated(f"cannot write to {self._folder}"),
            tempfile.TemporaryFile(dir=self._folder) as file,
        ):
            file.write(bytes(_ROOM_BYTES))

    def _names(self, prefix: str) -> list[str]:
        """Of all files whose names begin with the prefix, in order, those of parts too."""
        start = self._path(prefix.rpartition("/")[0])
        files = (Path(folder, name) for folder, _, names in os.walk(start) for name in names)
        names = sorted(file.relative_to(self._folder).as_posix() for file in files)
        return [name for name in names if name.startswith(prefix)]

    def _path(self, key: str) -> Path:
        path = self._folder / key
        if not path.resolve().is_relative_to(self._folder.resolve()):
            raise ObjectNotFound(f"no object {key!r}")
        return path

    def _sync_names(self, path: Path) -> None:
        """Make a new name, and those of the folders on its way, survive a power cut."""
        for folder in path.parents:
            _sync(folder)
            if folder == self._folder:
                break


def _sync(folder: Path) -> None:
    with contextlib.suppress(OSError):  # where the platform lets us
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _found(key: str) -> Iterator[None]:
    with _translated(f"cannot reach {key}"):
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise ObjectNotFound(f"no object {key}") from error


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = StorageFull if error.errno in _FULL else Unavailable
        raise kind(f"{what}: {error.strerror}") from error
