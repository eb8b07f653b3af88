"""An attempt's right to write, kept alive while it reports, and given up in time."""

import threading
import time
from collections.abc import Callable

import structlog

from shared.database import Database, jobs
from shared.errors import Cancelled, DeadlineExceeded, HandedBack, LeaseLost, Unavailable

_log = structlog.get_logger(__name__)

_SAFETY = 1 / 6  # of the lease: we stop that much before the database lets others in


class Lease:
    """What one claim allows, as its worker may believe it.

    stopping: set when the worker is to hand everything back.
    clock: monotonic, in seconds; the database's own clock decides, this one only errs early.
    """

    def __init__(
        self,
        database: Database,
        job: jobs.Job,
        lease_seconds: float,
        stopping: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._claim = job.claim
        self._seconds = lease_seconds
        self._stopping = stopping
        self._clock = clock
        self._reported: jobs.Progress | None = None
        self._ends = clock() + lease_seconds * (1 - _SAFETY)
        self._deadline = (
            clock() + (job.deadline_at - job.claimed_at).total_seconds()
            if job.deadline_at and job.claimed_at
            else None
        )

    def report(self, progress: jobs.Progress) -> None:
        """Write how far the attempt is, and renew the lease.

        The database may be out of reach for as long as the lease lasts.
        Raises Cancelled, LeaseLost, and what `heed` does.
        """
        self.heed()
        asked = self._clock()
        news = None if progress == self._reported else progress
        try:
            job = jobs.report(self._database, self._claim, news, lease_seconds=self._seconds)
        except Unavailable as error:
            _log.warning("report_failed", job=self._claim.job_id, detail=error.detail)
            return
        self._reported = progress
        self._ends = asked + self._seconds * (1 - _SAFETY)
        if job.cancel_requested_at:
            raise Cancelled

    def heed(self) -> None:
        """Raise HandedBack, DeadlineExceeded or LeaseLost if it is time to."""
        if self._stopping.is_set():
            raise HandedBack
        if self._deadline is not None and self._clock() >= self._deadline:
            raise DeadlineExceeded
        if self._clock() >= self._ends:
            raise LeaseLost(f"job {self._claim.job_id}: the database was out of reach for too long")
