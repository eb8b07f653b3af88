"""Pictures decoded in child processes, each within bounds of time and memory.

Uploads are decoded here and nowhere else. A picture that takes too much, or that its
decoder crashes on, costs a child and is refused; the process that asked goes on. Small pictures
have children of their own, so that they are not behind large ones.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import structlog
from numpy.typing import NDArray

from ..errors import Busy, DecoderKilled, InvalidImage, Unavailable, Violation
from . import frames
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

# What the child inherits: nothing of what is secret, nor of what tunes its parent.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_ROOT = Path(__file__).parents[3]  # where a child finds this package
_CRASHES = {
    -number
    for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)
}


class _Large(Exception):
    """Not a picture for the children that are kept for small ones."""


class _Died(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status  # as of `Popen.returncode`


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
        self._idle: deque[_Child] = deque()
        self._children: weakref.WeakSet[_Child] = weakref.WeakSet()
        self._is_closed = False

    @property
    def busy(self) -> int:
        """How many children have a picture now."""
        return sum(child.is_asked and child.end.alive for child in self._children.copy())

    @property
    def pids(self) -> set[int]:
        """The processes that there are now."""
        return {child.pid for child in self._children.copy() if child.end.alive}

    def start(self, count: int = 1) -> Self:
        """Start so many children ahead of the first pictures; they get ready by themselves."""
        while len(self._idle) < count:
            self._idle.append(self._open())
        return self

    def close(self) -> None:
        """End the children that are idle, and the others as soon as they are."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().end()

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

    def _run(self, act: str, data: bytes, arguments: Sequence[int], limits: Limits) -> "_Answer":
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
    ) -> "_Answer":
        """What a child says; a second one where the first was killed by somebody else."""
        try:
            return self._asked_once(request, data, deadline, limits)
        except _Died as error:
            _log.warning("decoder_killed", status=error.status)
        try:
            return self._asked_once(request, data, deadline, limits)
        except _Died as error:
            raise DecoderKilled from error

    def _asked_once(
        self, request: dict[str, Any], data: bytes, deadline: float, limits: Limits
    ) -> "_Answer":
        child = self._take()
        try:
            answer = child.ask(request, data, deadline)
        except TimeoutError:
            raise Busy(f"no child has decoded the picture in {limits.seconds:g} s") from None
        except _Died as error:
            if error.status == -signal.SIGPROF and "pixels_max" in request:
                raise _Large from None
            if error.status == -signal.SIGPROF:
                raise _takes_too_much(f"{limits.cpu_seconds:g} s", data, limits) from None
            if error.status in _CRASHES:
                name = signal.Signals(-error.status).name
                raise _refused("its decoder crashes on it", f"{name}", data) from None
            raise
        finally:
            self._give_back(child)
        return _understood(answer, data, limits)

    def _take(self) -> "_Child":
        while True:
            try:
                child = self._idle.pop()  # the one used last: its pages are warm
            except IndexError:
                return self._open()
            if child.is_usable():
                return child
            child.end()

    def _open(self) -> "_Child":
        child = _Child()
        self._children.add(child)
        return child

    def _give_back(self, child: "_Child") -> None:
        if not child.is_usable():
            child.end()
            if self._is_closed:
                return
            try:  # the next one, ready before it is needed
                child = self._open()
            except Unavailable as error:
                _log.warning("no_decoder", detail=error.detail)
                return
        self._idle.append(child)
        if self._is_closed:
            self.close()


_Answer = tuple[dict[str, Any], list[NDArray[Any]]]


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


class _Child:
    """A process that decodes one picture after the other, and ends with this object."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "impasto.shared.pictures.child"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    cwd=_ROOT,
                    env=_environment(),
                    process_group=0,  # Ctrl-C on a terminal is for its parent
                )
        except OSError as error:
            ours.close()
            raise Unavailable(f"no process to decode pictures in: {error.strerror}") from error
        self._connection = ours
        self.is_asked = False  # or it never answered
        self.pid = self._process.pid
        self.end = weakref.finalize(self, _end, self._process, ours)

    def is_usable(self) -> bool:
        """Whether it lives and waits for a picture."""
        return not self.is_asked and self._process.poll() is None

    def ask(self, request: dict[str, Any], data: bytes, deadline: float) -> _Answer:
        """Raises TimeoutError, or _Died; then it is of no more use."""
        self.is_asked = True
        try:
            self._connection.settimeout(max(0.001, deadline - time.monotonic()))
            frames.send(self._connection, request, data)
            answer = frames.Receiver(self._connection, deadline)
            arrays = [answer.array(*each) for each in answer.header.get("arrays", ())]
        except frames.Closed:
            raise _Died(self._status()) from None
        self.is_asked = bool(answer.header.get("is_last"))  # and it will not answer again
        return answer.header, arrays

    def _status(self) -> int:
        """How it ended; it is ended if it has not."""
        try:
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _end(process: "subprocess.Popen[bytes]", connection: socket.socket) -> None:
    connection.close()
    process.kill()
    process.wait()


def _environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return inherited | _ONE_THREAD


def _facts(answer: _Answer) -> Facts:
    told = answer[0]["facts"]
    return Facts(**told | {"warnings": tuple(told["warnings"])})


def _understood(answer: _Answer, data: bytes, limits: Limits) -> _Answer:
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
