"""Both stacks as a person would start them: our own processes, over real servers."""

import signal
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import httpx2 as httpx

from tests.servers.server import LOCALHOST, Server

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]


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


class EmbeddedStack(Process):
    """`impasto up`."""

    arguments: ClassVar = [str(BIN / "impasto"), "up"]
    stop_signal = signal.SIGINT

    def command(self) -> list[str]:
        home = f"IMPASTO_HOME={self.folder / 'home'}"
        command = super().command()
        return [command[0], home, f"IMPASTO_PORT={self.port}", *command[1:]]

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    def answers(self) -> bool:
        return is_ready(self.url)


class Api(Process):
    def command(self) -> list[str]:
        self.arguments = [
            *(str(BIN / "gunicorn"), "--config", str(ROOT / "deploy" / "gunicorn.conf.py")),
            *("--bind", f"{LOCALHOST}:{self.port}"),
        ]
        return super().command()

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    def answers(self) -> bool:
        return is_ready(self.url)


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
