"""A real server for the tests, with a port and a folder: it starts, stops, and leaves nothing."""

import json
import os
import random
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Self

LOCALHOST = "127.0.0.1"
LOCALHOST_6 = "::1"
START_SECONDS = 180.0  # two cold cores, which many others share; 2 s is usual
STOP_SECONDS = 120.0  # with all that it wrote, on a disk that others keep busy; 1 s is usual
POLL_SECONDS = 0.02
LOG_LINES = 40  # of a server's log in an error


class UnavailableError(Exception):
    """This platform has no such server; the message names the package that is missing."""


class ServerError(Exception):
    """A server did not start or stop; the message ends with its log."""


class Server:
    """One server on 127.0.0.1, started as often as wanted on the same port and data.

    A subclass says what to run: `prepare`, once, then `command`, and when it `answers`. Data live
    until `close`; processes and files never outlive ours, however it ends: `_keeper.py`.
    Constructing one raises UnavailableError where the platform lacks the server.
    """

    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    identity: tuple[int, int] | None = None  # user and group to run as, if not as ourselves

    def __init__(self) -> None:
        self.port = free_port()
        self.secret = secrets.token_hex(16)  # so that no other server can be taken for ours
        self.pid: int | None = None
        self.start_seconds = 0.0
        self._keeper: subprocess.Popen[bytes] | None = None

    def place(self) -> str:
        """The folder in which `self.folder` is made."""
        return tempfile.gettempdir()

    def prepare(self) -> None:
        """Fill the fresh `self.folder`; `run` runs what that takes."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> Self:
        """Return once the server answers. If it does not: close, and raise ServerError."""
        if self.is_running():
            raise ServerError(self._report("was already started"))
        began = time.monotonic()
        try:
            if self._keeper is None:
                self._open()
                self.prepare()
            self._launch(self.command())
            self._await_answer()
        except BaseException:
            self.close()
            raise
        self.start_seconds = time.monotonic() - began
        return self

    def stop(self, hard: bool = False) -> None:
        """Return once no process is left: shut down in order or, if hard, by `kill -9`."""
        if not self.is_running():
            return
        with suppress(ProcessLookupError):
            if hard:
                os.killpg(self.pid, signal.SIGKILL)
            else:
                os.kill(self.pid, self.stop_signal)
        if self._hear(STOP_SECONDS) is None:
            raise ServerError(self._report(f"still there {STOP_SECONDS:.0f} s after its end"))

    def restart(self, hard: bool = False) -> Self:
        self.stop(hard)
        return self.start()

    def is_running(self) -> bool:
        return self.pid is not None and self._hear(0) is None

    def close(self) -> None:
        """Stop the server and delete its data."""
        if self._keeper is not None:
            self._keeper.communicate(timeout=STOP_SECONDS)  # closes its stdin
            self._keeper = self.pid = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, command: list[str]) -> None:
        """Run a command that ends by itself. Raises ServerError unless it succeeds."""
        self._launch(command)
        if (status := self._hear(START_SECONDS)) != 0:
            raise ServerError(self._report(f"{Path(command[0]).name} ended with status {status}"))

    def _open(self) -> None:
        keeper = Path(__file__).with_name("_keeper.py")
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper, self.place()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # so that `select` sees all there is
            start_new_session=True,  # Ctrl-C is for the tests, which then close what they opened
        )
        self.folder = Path(self._answer())
        self.log = self.folder / "log"

    def _launch(self, command: list[str]) -> None:
        user, group = self.identity or (None, None)
        order = {
            "command": command,
            "log": str(self.log),
            "stop_signal": self.stop_signal,
            "user": user,
            "group": group,
        }
        self._keeper.stdin.write(json.dumps(order).encode() + b"\n")
        self.pid = int(self._answer())

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if (status := self._hear(POLL_SECONDS)) is not None:
                raise ServerError(self._report(f"ended with status {status}"))
            if time.monotonic() > deadline:
                raise ServerError(self._report(f"no answer within {START_SECONDS:.0f} s"))

    def _hear(self, seconds: float) -> int | None:
        """The exit status, once all processes are gone, or None after so many seconds."""
        if not select.select([self._keeper.stdout], [], [], seconds)[0]:
            return None
        self.pid = None
        return int(self._answer())

    def _answer(self) -> str:
        if line := self._keeper.stdout.readline():
            return line.decode().rstrip("\n")
        raise ServerError(f"the keeper of {type(self).__name__} died; stderr says why")

    def _report(self, what: str) -> str:
        log = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join([f"{type(self).__name__} on port {self.port}: {what}; its log:", *log])


def package(name: str) -> Path:
    """The folder of an installed package, which is not imported: its files are all we want."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError(f"the package {name} is not installed")
    return Path(spec.submodule_search_locations[0])


def has_ipv6() -> bool:
    """Whether this machine has any: its own loopback address is enough."""
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind((LOCALHOST_6, 0))
        return True
    return False


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on and that stays ours while its server is down.

    It lies below the ephemeral ports (from 32768 on Linux, 49152 on macOS): no outgoing
    connection is given it, and none that polls it can connect to itself.
    """
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOCALHOST, port))
            return port
