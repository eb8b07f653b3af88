"""Pictures are decoded before they are accepted: what is let in here, every worker can read."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property

from impasto.shared import object_keys
from impasto.shared.errors import DecoderKilled, InvalidImage, Unavailable, Violation
from impasto.shared.pictures.codec import Facts
from impasto.shared.pictures.pool import Decoders

_REMEMBERED = 1000


@dataclass(frozen=True)
class Upload:
    """A file as it arrived. What its sender said it is does not matter: its bytes do."""

    data: bytes

    @cached_property
    def id(self) -> str:
        return object_keys.digest(self.data)


@dataclass(frozen=True)
class _Refused:
    """An InvalidImage without the frames that raised it, which hold the picture's bytes."""

    error: InvalidImage


_Found = Facts | _Refused


class Inspections:
    """What pictures are, by decoding each once: bytes that come again, or at once, are known.

    max_pixels: of a picture, width times height.
    """

    def __init__(self, decoders: Decoders, max_pixels: int) -> None:
        self._decoders = decoders
        self._max_pixels = max_pixels
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, bool], Future[_Found]] = OrderedDict()

    def picture(self, upload: Upload, *, field: str = "file") -> Facts:
        """What these bytes are.

        field: how a refusal names the upload.
        Raises InvalidImage, or Unavailable where there are too many to decode.
        """
        return self._told(upload.id, False, lambda: upload.data, field)

    def mask(self, asset_id: str, read: Callable[[], bytes], *, field: str) -> Facts:
        """What these bytes are as a mask; `read` is called if nothing is known. Raises so, too."""
        return self._told(asset_id, True, read, field)

    def _told(self, id: str, is_mask: bool, read: Callable[[], bytes], field: str) -> Facts:
        found = self._once((id, is_mask), read)
        if isinstance(found, Facts):
            return found
        error = found.error
        told = error.violations or [Violation(field, None, error.detail)]
        violations = [replace(each, field=field) for each in told]
        raise InvalidImage(f"{field}: {error.detail}", violations=violations)

    def _once(self, key: tuple[str, bool], read: Callable[[], bytes]) -> _Found:
        with self._lock:
            future = self._known.get(key)
            if is_first := future is None:
                future = self._known[key] = Future()
                if len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        assert future is not None
        if is_first:
            try:
                future.set_result(self._look(read(), is_mask=key[1]))
            except BaseException as error:  # says nothing of the picture: not to be remembered
                with self._lock:
                    self._known.pop(key, None)
                future.set_exception(error)
        return future.result()

    def _look(self, data: bytes, *, is_mask: bool) -> _Found:
        look = self._decoders.inspect_mask if is_mask else self._decoders.inspect
        try:
            return look(data, self._max_pixels)
        except DecoderKilled as error:
            raise Unavailable(error.detail) from error
        except InvalidImage as error:
            return _Refused(InvalidImage(error.detail, violations=error.violations))
