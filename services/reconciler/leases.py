"""Expired leases and deadlines of jobs, and workers that have not reported for a day."""

from collections.abc import Callable

import structlog

from impasto.shared.database import Database, jobs, workers
from impasto.shared.states import State
from impasto.shared.wakeups import WakeUps

_log = structlog.get_logger(__name__)

FORGET_SECONDS = 86400  # after it, the row of a worker that stopped is of no use


class Leases:
    """Requeues jobs whose lease expired, and knows for how long the database has been reachable.

    clock: monotonic, in seconds; it only measures that time.
    """

    def __init__(
        self,
        database: Database,
        wakeups: WakeUps,
        *,
        lease_seconds: float,
        reconcile_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._wakeups = wakeups
        self._clock = clock
        # A worker renews its lease four times before it ends: it survives an outage of half of it.
        self._gap_seconds = max(2 * reconcile_seconds, lease_seconds / 2)
        self._trust_seconds = lease_seconds + 2 * reconcile_seconds
        self._last_seen: float | None = None
        self._seen_since = 0.0

    def look(self) -> None:
        """Check that the database answers. Raises Unavailable."""
        self._database.check()
        at = self._clock()
        if self._last_seen is None or at - self._last_seen > self._gap_seconds:
            self._seen_since = at
        self._last_seen = at

    def reconcile(self) -> None:
        """Requeue jobs with expired leases and fail overdue ones.

        Jobs whose wake-up was lost need no other one: idle workers poll the database.
        """
        # After an outage of the database every lease has run out, though no worker failed. So an
        # expiry counts against its job only where the worker could have renewed the lease: where
        # we have seen the database for as long as a lease lasts, without a gap. We may err (just
        # started, or frozen ourselves), but only in favour of the job.
        count_failure = self._clock() - self._seen_since >= self._trust_seconds
        can_notify = True
        for job in jobs.requeue_expired(self._database, count_failure=count_failure):
            _log.warning(
                "lease_expired",
                job=job.id,
                attempt=job.attempt,
                state=job.state,
                counted=count_failure,
            )
            if can_notify and job.state == State.QUEUED:
                # Each try takes a second while the broker is away.
                can_notify = self._wakeups.notify()
        for job in jobs.fail_overdue(self._database):
            _log.info("deadline_exceeded", job=job.id)
        for name in workers.forget(self._database, older_than_seconds=FORGET_SECONDS):
            _log.info("worker_forgotten", worker=name)
