"""Forks of zygotes, as the driver sees them: born, stopped, killed, gone."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.arrange.paths import ROOT
from tests.chaos import clocks


class Process:
    """One fork. `name` is how a worker calls itself; times are the machine's clock."""

    def __init__(self, pid: int, role: str, log: Path) -> None:
        self.pid = pid
        self.role = role
        self.log = log
        self.name = f"{socket.gethostname()}:{pid}"
        self.born_at = time.time()
        self.gone_at = 0.0
        self.status: int | None = None
        self._is_gone = threading.Event()

    @property
    def is_alive(self) -> bool:
        return not self._is_gone.is_set()

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if self.is_alive:
                os.kill(self.pid, number)

    def await_end(self, timeout_seconds: float) -> bool:
        """Whether it is gone within that time."""
        return self._is_gone.wait(timeout_seconds)

    def end(self, timeout_seconds: float = 10) -> None:
        """Kill it, and wait until it is gone."""
        self.send(signal.SIGKILL)
        assert self.await_end(timeout_seconds), f"{self.role} {self.pid} outlives SIGKILL"

    def bury(self, status: int) -> None:
        self.status, self.gone_at = status, time.time()
        self._is_gone.set()


class Zygote:
    """Starts processes within some ten milliseconds each; leaving the `with` kills them all.

    folder: for what they write.
    skew_seconds: how far their wall clocks are ahead. Raises NoFaketimeError where that cannot be.
    """

    def __init__(self, folder: Path, skew_seconds: float = 0.0) -> None:
        self._folder = folder
        self._skew_seconds = skew_seconds
        self._skewed = clocks.skewed(skew_seconds) if skew_seconds else {}
        self._births: queue.Queue[int] = queue.Queue()
        self._ordering = threading.Lock()
        self._children: dict[int, Process] = {}
        self._gone_early: dict[int, int] = {}
        self._bookkeeping = threading.Lock()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.zygote"],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | self._skewed,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        ready = self._news()
        assert ready, "the zygote ended before it was ready"
        found = clocks.wrong(ready["clocks"], clocks.seen(), self._skew_seconds)
        assert not found, f"the zygote's clocks: {', '.join(found)}"
        self._listener = threading.Thread(target=self._listen, name="zygote", daemon=True)
        self._listener.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for child in list(self._children.values()):
            child.send(signal.SIGKILL)
        self._process.stdin.close()
        self._process.wait(30)
        self._listener.join()
        self._process.stdout.close()

    def start(
        self,
        role: str,
        environment: Mapping[str, str],
        *,
        is_chain: bool = True,
        mutant: str | None = None,
    ) -> Process:
        with self._ordering:
            wrong = f"{self._skew_seconds:+g}s" if self._skew_seconds else ""
            log = self._folder / f"{role}{wrong}-{len(self._children)}.log"
            order = {
                "role": role,
                "environment": dict(environment),
                "log": str(log),
                "is_chain": is_chain,
                "mutant": mutant,
            }
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            process = Process(self._births.get(timeout=30), role, log)
            with self._bookkeeping:
                self._children[process.pid] = process
                status = self._gone_early.pop(process.pid, None)
            if status is not None:
                process.bury(status)
        return process

    def _listen(self) -> None:
        while news := self._news():
            if born := news.get("born"):
                self._births.put(born)
            elif gone := news.get("gone"):
                with self._bookkeeping:
                    process = self._children.get(gone)
                    if process is None or not process.is_alive:  # told before `start` knows it
                        self._gone_early[gone] = news["status"]
                        continue
                process.bury(news["status"])

    def _news(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        return json.loads(line) if line else {}


class Zygotes:
    """A zygote for each skew of the clock: the right one at once, others when they are wanted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: dict[float, Zygote] = {}
        self._opening = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.of(0.0)
        return self

    def __exit__(self, *told: object) -> None:
        self._stack.close()

    def of(self, skew_seconds: float) -> Zygote:
        """Raises NoFaketimeError where clocks cannot be wrong."""
        with self._opening:
            if skew_seconds not in self._opened:
                zygote = self._stack.enter_context(Zygote(self._folder, skew_seconds))
                self._opened[skew_seconds] = zygote
            return self._opened[skew_seconds]
