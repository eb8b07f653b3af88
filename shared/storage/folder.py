"""Objects as files below one folder."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from shared.errors import ObjectNotFound, Unavailable

_PART = ".part"  # the suffix of a file that is still being written


class FolderStorage:
    """A file per key. A file gets its name only once it is whole and on the disk."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(unquote(folder))

    def put(self, key: str, data: bytes, media_type: str) -> None:  # noqa: ARG002  # files have none
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, part = tempfile.mkstemp(dir=path.parent, suffix=_PART)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(part).replace(path)
            except BaseException:
                Path(part).unlink(missing_ok=True)
                raise
            _sync_folder(path.parent)
        except OSError as error:
            raise Unavailable(f"cannot store {key}: {error.strerror}") from error

    def get(self, key: str) -> bytes:
        with self.open(key) as file:
            return file.read()

    def open(self, key: str) -> BinaryIO:
        try:
            return self._path(key).open("rb")
        except (FileNotFoundError, IsADirectoryError) as error:
            raise ObjectNotFound(f"no object {key}") from error
        except OSError as error:
            raise Unavailable(f"cannot read {key}: {error.strerror}") from error

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def delete(self, key: str) -> None:
        path = self._path(key)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        # Empty folders go too, up to our own; another put may just be making one of them.
        for folder in path.parents:
            if folder == self._folder:
                break
            try:
                folder.rmdir()
            except OSError:
                break

    def keys(self, prefix: str) -> Iterator[str]:
        files = (path for path in self._folder.rglob("*") if path.is_file())
        names = sorted(path.relative_to(self._folder).as_posix() for path in files)
        return (name for name in names if name.startswith(prefix) and not name.endswith(_PART))

    def prepare(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"cannot make {self._folder}: {error.strerror}") from error

    def check(self) -> None:
        try:
            with tempfile.TemporaryFile(dir=self._folder):
                pass
        except OSError as error:
            raise Unavailable(f"cannot write to {self._folder}: {error.strerror}") from error

    def _path(self, key: str) -> Path:
        path = self._folder / key
        if not path.resolve().is_relative_to(self._folder.resolve()):
            raise ObjectNotFound(f"no object {key!r}")
        return path


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut, where the platform lets us."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
