"""Pictures decoded in child processes, each within bounds of time and memory.

Uploads are decoded here and nowhere else. A picture that takes too much, or that its
decoder crashes on, costs a child and is refused; the process that asked goes on. Small pictures
have children of their own, so that they are not behind large ones.
"""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import structlog
from numpy.typing import NDArray

from ..errors import Busy, DecoderKilled, InvalidImage, Violation
from .children import Answer, Children, Died
from .codec import Decoded, Facts

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Limits:
    """What one picture may take.

    memory_bytes: of the child's data; its code and stack take 30 MiB more.
    cpu_seconds: the picture's verdict: more than this is refused, on whatever machine.
    seconds: until there is an answer, the wait for a child included. Beyond them nothing is said
    of the picture: this machine is busy.
    """

    memory_bytes: int
    cpu_seconds: float
    seconds: float


# A picture of 100 megapixels with an alpha channel takes 400 MB; the whole child, 512 MiB. The
# slowest of that size that we know take a second.
INSPECTION = Limits(memory_bytes=480 * 2**20, cpu_seconds=5.0, seconds=8.0)
# Whatever was let in: colours converted, transparency laid on a ground, each in a copy of its own.
DECODING = Limits(memory_bytes=8 * 2**30, cpu_seconds=120.0, seconds=600.0)

SMALL_BYTES = 2**20  # a larger file is a large picture, whatever it holds
SMALL_PIXELS = 4_000_000
SMALL_CPU_SECONDS = 0.3  # 4 megapixels take 0.1; whatever takes longer goes on among the large

_CRASHES = {
    -number
    for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)
}


class _Large(Exception):
    """Not a picture for the children that are kept for small ones."""


class Decoders:
    """A pool of children that decode; safe to use from any thread.

    children: at most so many, `large` of which are for large pictures. Each is started when it is
    first needed, and used again.
    line: how many may wait for a child of either kind; whoever comes then is told Busy.
    """

    def __init__(
        self,
        *,
        children: int = 3,
        large: int = 1,
        line: int = 64,
        inspection: Limits = INSPECTION,
        decoding: Limits = DECODING,
    ) -> None:
        self._inspection = inspection
        self._decoding = decoding
        self._small_lane = _Lane(children - large, line)
        self._large_lane = _Lane(large, line)
        self._children = Children()

    @property
    def busy(self) -> int:
        """How many children have a picture now."""
        return self._children.busy

    @property
    def pids(self) -> set[int]:
        """The processes that there are now."""
        return self._children.pids

    def start(self, count: int = 1) -> Self:
        """Start so many children ahead of the first pictures; they get ready by themselves."""
        self._children.start(count)
        return self

    def close(self) -> None:
        """End the children that are idle, and the others as soon as they are."""
        self._children.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def inspect(self, data: bytes, max_pixels: int) -> Facts:
        """As `codec.inspect`.

        Raises InvalidImage; Unavailable or DecoderKilled where nothing can be said of the picture.
        """
        return _facts(self._run("inspect", data, [max_pixels], self._inspection))

    def inspect_mask(self, data: bytes, max_pixels: int) -> Facts:
        """As `codec.inspect_mask`. Raises as `inspect`."""
        return _facts(self._run("inspect_mask", data, [max_pixels], self._inspection))

    def decode(self, data: bytes, long_side: int) -> Decoded:
        """As `codec.decode`, into arrays that are the caller's. Raises as `inspect`."""
        _, arrays = self._run("decode", data, [long_side], self._decoding)
        return Decoded(arrays[0], arrays[1] if len(arrays) > 1 else None)

    def decode_mask(self, data: bytes, width: int, height: int) -> NDArray[np.uint8]:
        """As `codec.decode_mask`. Raises as `inspect`."""
        _, (mask,) = self._run("decode_mask", data, [width, height], self._decoding)
        return mask

    def _run(self, act: str, data: bytes, arguments: Sequence[int], limits: Limits) -> Answer:
        request = {"act": act, "arguments": arguments, "memory_bytes": limits.memory_bytes}
        deadline = time.monotonic() + limits.seconds
        if len(data) <= SMALL_BYTES:
            cpu_seconds = min(SMALL_CPU_SECONDS, limits.cpu_seconds)
            bounds = {"cpu_seconds": cpu_seconds, "pixels_max": SMALL_PIXELS}
            with suppress(_Large), self._small_lane.turn(deadline):
                return self._asked(request | bounds, data, deadline, limits)
        with self._large_lane.turn(deadline):
            return self._asked(
                request | {"cpu_seconds": limits.cpu_seconds}, data, deadline, limits
            )

    def _asked(
        self, request: dict[str, Any], data: bytes, deadline: float, limits: Limits
    ) -> Answer:
        """What a child says; a second one where the first was killed by somebody else."""
        try:
            return self._asked_once(request, data, deadline, limits)
        except Died as error:
            _log.warning("decoder_killed", status=error.status)
        try:
            return self._asked_once(request, data, deadline, limits)
        except Died as error:
            raise DecoderKilled from error

    def _asked_once(
        self, request: dict[str, Any], data: bytes, deadline: float, limits: Limits
    ) -> Answer:
        child = self._children.take()
        try:
            answer = child.ask(request, data, deadline)
        except TimeoutError:
            raise Busy(f"no child has decoded the picture in {limits.seconds:g} s") from None
        except Died as error:
            if error.status == -signal.SIGPROF and "pixels_max" in request:
                raise _Large from None
            if error.status == -signal.SIGPROF:
                raise _takes_too_much(f"{limits.cpu_seconds:g} s", data, limits) from None
            if error.status in _CRASHES:
                name = signal.Signals(-error.status).name
                raise _refused("its decoder crashes on it", f"{name}", data) from None
            raise
        finally:
            self._children.give_back(child)
        return _understood(answer, data, limits)


class _Lane:
    """Lets so many in at once; so many more wait for their turn."""

    def __init__(self, width: int, line: int) -> None:
        self._free = threading.Semaphore(width)
        self._places = threading.Semaphore(width + line)

    @contextmanager
    def turn(self, deadline: float) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Busy
        try:
            if not self._free.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise Busy
            try:
                yield
            finally:
                self._free.release()
        finally:
            self._places.release()


def _facts(answer: Answer) -> Facts:
    told = answer[0]["facts"]
    return Facts(**told | {"warnings": tuple(told["warnings"])})


def _understood(answer: Answer, data: bytes, limits: Limits) -> Answer:
    """The answer, if it is one. Raises InvalidImage."""
    header, _ = answer
    if header.get("is_large"):
        raise _Large
    if header.get("is_exhausted"):
        raise _takes_too_much(f"{limits.memory_bytes >> 20} MiB", data, limits)
    if refused := header.get("refused"):
        detail, violations = refused
        raise InvalidImage(detail, violations=[Violation(*each) for each in violations])
    if failed := header.get("failed"):
        _log.error("decoder_failed", traceback=failed)
        raise _refused("its decoder fails on it", failed.splitlines()[-1], data)
    return answer


def _takes_too_much(bound: str, data: bytes, limits: Limits) -> InvalidImage:
    accepted = (
        f"what is decoded within {limits.cpu_seconds:g} s and {limits.memory_bytes >> 20} MiB:"
        " fewer pixels, or saved anew by an ordinary program"
    )
    why = f"the picture takes more than {bound} to decode"
    return InvalidImage(why, violations=[Violation("", f"{len(data)} bytes", accepted)])


def _refused(why: str, told: str, data: bytes) -> InvalidImage:
    accepted = "a picture that is whole; saved anew by another program, it may pass"
    value = f"{len(data)} bytes: {told}"
    return InvalidImage(
        f"the picture is damaged: {why}", violations=[Violation("", value, accepted)]
    )
