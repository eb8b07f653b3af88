"""Workers that render nothing: what they are called, and what they do with a job instead."""

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from impasto.shared.database import Database, jobs
from impasto.shared.database.jobs import Job
from impasto.shared.database.workers import Identity
from impasto.shared.errors import RenderFailed
from impasto.workers.worker import Worker
from tests.arrange.timing import wait_until


class Bench:
    """Takes jobs from a worker, and keeps each until it is told to finish it.

    fails: its jobs fail in the end, where an audit would ask for what they have made.
    """

    def __init__(self, database: Database, *, fails: bool = False) -> None:
        self._database = database
        self._fails = fails
        self.began: list[str] = []
        self.began_one = threading.Semaphore(0)
        self.finish = threading.Semaphore(0)

    def render(self, job: Job, stopping: threading.Event) -> None:
        self.began.append(job.id)
        self.began_one.release()
        while not self.finish.acquire(timeout=0.01):
            if stopping.is_set():
                jobs.hand_back(self._database, job.claim)
                return
        if self._fails:
            jobs.fail(self._database, job.claim, RenderFailed("nothing is rendered here"))
        else:
            jobs.succeed(self._database, job.claim, {})

    def wait_for(self, job_id: str, seconds: float = 20) -> None:
        """Return once it was given that job."""
        wait_until(lambda: job_id in self.began, seconds)


def worker_of(database: Database, bench: Bench, **options: object) -> Worker:
    usual = {"name": "test", "slots": 1, "lease_seconds": 60, "idle_seconds": 0.05}
    return Worker(database, **({"render": bench.render} | usual | options))


@contextmanager
def working(database: Database, bench: Bench, **options: object) -> Iterator[Worker]:
    """A worker that has started, and is to drain in time at the end."""
    worker = worker_of(database, bench, **options).start()
    yield worker
    assert worker.close(60)


def identity(number: int = 1, **changed: object) -> Identity:
    """Who a worker says that it is."""
    name = f"host:{number}"
    usual = Identity(f"{number:016x}", name, "host", number, slots=1, versions={"impasto": "1"})
    return dataclasses.replace(usual, **changed)


def wait_until_it_says(alive: Path, beginning: str) -> None:
    """Return once a worker's alive file says so."""
    wait_until(lambda: alive.exists() and alive.read_text().startswith(beginning))
