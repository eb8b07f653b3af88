"""The processes that pictures are decoded in: each is started when needed, and used again."""

import os
import socket
import subprocess
import sys
import time
import weakref
from collections import deque
from pathlib import Path
from typing import Any

import structlog
from numpy.typing import NDArray

from ..errors import Unavailable
from . import frames

_log = structlog.get_logger(__name__)

_ROOT = Path(__file__).parents[3]  # where a child finds this package
# What the child inherits: nothing of what is secret, nor of what tunes its parent.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

Answer = tuple[dict[str, Any], list[NDArray[Any]]]


class Died(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status  # as of `Popen.returncode`


class Child:
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

    def ask(self, request: dict[str, Any], data: bytes, deadline: float) -> Answer:
        """Raises TimeoutError, or Died; then it is of no more use."""
        self.is_asked = True
        try:
            self._connection.settimeout(max(0.001, deadline - time.monotonic()))
            frames.send(self._connection, request, data)
            answer = frames.Receiver(self._connection, deadline)
            arrays = [answer.array(*each) for each in answer.header.get("arrays", ())]
        except frames.Closed:
            raise Died(self._status()) from None
        self.is_asked = bool(answer.header.get("is_last"))  # and it will not answer again
        return answer.header, arrays

    def _status(self) -> int:
        """How it ended; it is ended if it has not."""
        try:
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class Children:
    """Those that there are; safe to use from any thread."""

    def __init__(self) -> None:
        self._idle: deque[Child] = deque()
        self._all: weakref.WeakSet[Child] = weakref.WeakSet()
        self._is_closed = False

    @property
    def busy(self) -> int:
        """How many have a picture now."""
        return sum(child.is_asked and child.end.alive for child in self._all.copy())

    @property
    def pids(self) -> set[int]:
        """The processes that there are now."""
        return {child.pid for child in self._all.copy() if child.end.alive}

    def start(self, count: int) -> None:
        """Have so many idle; they get ready by themselves."""
        while len(self._idle) < count:
            self._idle.append(self._open())

    def close(self) -> None:
        """End those that are idle, and the others as soon as they are."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().end()

    def take(self) -> Child:
        """One that waits for a picture. Raises Unavailable."""
        while True:
            try:
                child = self._idle.pop()  # the one used last: its pages are warm
            except IndexError:
                return self._open()
            if child.is_usable():
                return child
            child.end()

    def give_back(self, child: Child) -> None:
        """To be used again; another one in its place if it is of no more use."""
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

    def _open(self) -> Child:
        child = Child()
        self._all.add(child)
        return child


def _end(process: "subprocess.Popen[bytes]", connection: socket.socket) -> None:
    connection.close()
    process.kill()
    process.wait()


def _environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return inherited | _ONE_THREAD
