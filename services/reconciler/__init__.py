"""Puts right what a crash or an outage left behind."""

import threading
from pathlib import Path

import structlog
from celery import Celery

from shared import queue
from shared.database import Database, jobs
from shared.errors import Unavailable
from shared.states import State

_log = structlog.get_logger(__name__)


class Reconciler:
    """Sweeps every few seconds. Each sweep is safe to repeat, and beside others."""

    def __init__(
        self,
        database: Database,
        doorbell: Celery,
        sweep_seconds: float,
        alive_file: Path | None = None,
    ) -> None:
        self._database = database
        self._doorbell = doorbell
        self._sweep_seconds = sweep_seconds
        self._alive_file = alive_file  # touched with each sweep

    def run(self, stopping: threading.Event) -> None:
        """Sweep until the event is set."""
        while not stopping.is_set():
            try:
                self.sweep()
            except Unavailable as error:
                _log.warning("sweep_failed", detail=error.detail)
            if self._alive_file:
                self._alive_file.touch()
            stopping.wait(self._sweep_seconds)

    def sweep(self) -> None:
        """Take back expired leases and fail what is too late.

        Nobody has to ring for jobs whose wake-up was lost: idle workers look by themselves.
        """
        for job in jobs.take_back_expired(self._database):
            _log.warning("lease_expired", job=job.id, attempt=job.attempt, state=job.state)
            if job.state == State.QUEUED:
                queue.ring(self._doorbell)
        for job in jobs.fail_overdue(self._database):
            _log.info("deadline_exceeded", job=job.id)
