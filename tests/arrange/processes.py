"""Both stacks as a person would start them, over real servers; and what processes there are."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import ClassVar

import httpx2 as httpx

from tests.arrange.paths import BIN, ROOT
from tests.servers.server import LOCALHOST, Server


class Process(Server):
    """One process of ours, kept like the servers: it does not outlive the tests."""

    arguments: ClassVar[list[str]]

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__()
        self._environment = environment

    def command(self) -> list[str]:
        # `env` sets what only this process is to see; one thread makes pictures comparable.
        variables = {"IMPASTO_THREADS": "1", "IMPASTO_LOG_FORMAT": "text", **self._environment}
        pairs = [f"{name}={value}" for name, value in variables.items()]
        return ["env", *pairs, *self.arguments]

    def answers(self) -> bool:
        return True

    def output(self) -> str:
        return self.log.read_text(errors="replace")


class Service(Process):
    """Answers HTTP."""

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    def answers(self) -> bool:
        return is_ready(self.url)


class EmbeddedStack(Service):
    """`impasto up`."""

    arguments: ClassVar = [str(BIN / "impasto"), "up"]
    stop_signal = signal.SIGINT

    def command(self) -> list[str]:
        home = f"IMPASTO_HOME={self.folder / 'home'}"
        command = super().command()
        return [command[0], home, f"IMPASTO_PORT={self.port}", *command[1:]]


class Api(Service):
    def command(self) -> list[str]:
        self.arguments = [
            *(str(BIN / "gunicorn"), "--config", str(ROOT / "deploy" / "gunicorn.conf.py")),
            *("--bind", f"{LOCALHOST}:{self.port}"),
        ]
        return super().command()


class Worker(Process):
    arguments: ClassVar = [str(BIN / "celery"), "-A", "impasto.workers", "worker"]

    def answers(self) -> bool:
        return "worker_ready" in self.output()


class Reconciler(Process):
    arguments: ClassVar = [sys.executable, "-m", "impasto.services.reconciler"]


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@dataclass(frozen=True)
class ClusterStack:
    """API, reconciler and workers as separate processes."""

    api: Api
    reconciler: Reconciler
    workers: list[Worker]

    @property
    def url(self) -> str:
        return self.api.url


@contextmanager
def cluster(environment: Mapping[str, str], workers: int) -> Iterator[ClusterStack]:
    """All processes, started at the same time: most of it is importing torch."""
    api, reconciler = Api(environment), Reconciler(environment)
    stack = ClusterStack(api, reconciler, [Worker(environment) for _ in range(workers)])
    with ExitStack() as closing, ThreadPoolExecutor() as starting:
        processes = [api, reconciler, *stack.workers]
        for process in processes:
            closing.callback(process.close)
        for started in [starting.submit(process.start) for process in processes]:
            started.result()
        yield stack


def outside() -> dict[str, str]:
    """The environment without settings of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("IMPASTO")}


def decoders_of(parent: int | None = None) -> set[int]:
    """The ids of the processes that decode for this one or another, zombies included."""
    return {
        pid
        for pid, state, command in _children(os.getpid() if parent is None else parent)
        if state == "Z" or "impasto.shared.pictures.child" in command
    }


def children_of(parent: int) -> set[int]:
    return {pid for pid, _, _ in _children(parent)}


def _children(parent: int) -> Iterator[tuple[int, str, str]]:
    told = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat=,command="], capture_output=True, text=True, check=True
    ).stdout
    for line in told.splitlines():
        pid, its_parent, state, *command = line.split(None, 3)
        if int(its_parent) == parent:
            yield int(pid), state[0], "".join(command)


def exists(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped yet does not."""
    told = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(told) and told[0] != "Z"
