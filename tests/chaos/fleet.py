"""Workers and reconcilers that are kept alive, whatever is done to them."""

import random
import signal
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.chaos.processes import Process
from tests.chaos.world import World


@dataclass(frozen=True)
class Blow:
    """What was done to a worker; `at` and `until` are the machine's clock."""

    kind: str  # kill | pause | drain
    worker: str
    at: float
    until: float = 0.0


class Fleet:
    """Keeps so many of each role alive, as an orchestrator does: who is gone is replaced."""

    def __init__(
        self, world: World, *, workers: int, reconcilers: int = 1, mutant: str | None = None
    ) -> None:
        self._world = world
        self._wanted = {"worker": workers, "reconciler": reconcilers}
        self._mutant = mutant
        self._members: list[Process] = []
        self._held: set[int] = set()  # paused or draining: nobody else's target
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="fleet", daemon=True)
        self.blows: list[Blow] = []

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._keeper.join()
        for process in self._members:
            process.send(signal.SIGCONT)
            process.end()

    def take(
        self, among: set[str] | None, chance: random.Random, role: str = "worker"
    ) -> Process | None:
        """One that nobody else has, for the caller alone until `give`; None if there is none.

        among: the names that may be taken; None for any.
        """
        with self._lock:
            free = [
                process
                for process in self._members
                if process.role == role
                and process.is_alive
                and process.pid not in self._held
                and (among is None or process.name in among)
            ]
            if not free:
                return None
            taken = chance.choice(free)
            self._held.add(taken.pid)
            return taken

    def give(self, process: Process) -> None:
        with self._lock:
            self._held.discard(process.pid)

    def kill(self, process: Process) -> None:
        """`kill -9`."""
        self.blows.append(Blow("kill", process.name, time.time()))
        process.send(signal.SIGKILL)
        self.give(process)

    def pause(self, process: Process, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long. Returns when it runs again."""
        began = time.time()
        process.send(signal.SIGSTOP)
        self._stopping.wait(seconds)
        process.send(signal.SIGCONT)
        self.blows.append(Blow("pause", process.name, began, time.time()))
        self.give(process)

    @property
    def workers(self) -> list[Process]:
        with self._lock:
            return [each for each in self._members if each.role == "worker" and each.is_alive]

    def _keep(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                self._members = [process for process in self._members if process.is_alive]
                present = [process.role for process in self._members]
            for role, count in self._wanted.items():
                for _ in range(count - present.count(role)):
                    born = self._world.start(role, self._mutant)
                    with self._lock:
                        self._members.append(born)
            self._stopping.wait(0.05)
