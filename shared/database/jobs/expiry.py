"""Jobs whose lease or deadline has expired: requeued, cancelled or failed."""

from sqlalchemy import ColumnElement, select, update

from ...errors import AttemptsExhausted, DeadlineExceeded
from ...states import End, State
from ..clock import now
from ..connection import Database
from ..tables import checkpoints, jobs
from .fence import (
    FAILURES_MAX,
    end,
    fenced,
    requeue,
    tombstone_checkpoints,
)
from .records import Job


def requeue_expired(database: Database, *, count_failure: bool = True) -> list[Job]:
    """Requeue the jobs whose lease has expired, or end them where no attempt is left.

    count_failure: whether the expiry counts as a failed attempt; not where no worker could have
    renewed its lease. Returns the jobs as they are now.
    """
    return _requeue(database, jobs.c.lease_expires_at < now(), count_failure=count_failure)


def requeue_from(database: Database, worker: str) -> list[Job]:
    """Requeue the jobs of a worker that is known to have ended: its name is in use again."""
    return _requeue(database, jobs.c.worker == worker, count_failure=False)


def fail_overdue(database: Database) -> list[Job]:
    """Fail the queued jobs whose deadline has passed, and return them."""
    with database.write() as connection:
        rows = connection.execute(
            update(jobs)
            .where(jobs.c.state == State.QUEUED, jobs.c.deadline_at <= now())
            .values(
                version=jobs.c.version + 1,
                state=State.FAILED,
                finished_at=now(),
                error=DeadlineExceeded().problem(),
            )
            .returning(jobs)
        )
        failed = [Job.from_row(row) for row in rows]
        tombstone_checkpoints(connection, checkpoints.c.job_id.in_([job.id for job in failed]))
        return failed


def _requeue(database: Database, which: ColumnElement[bool], *, count_failure: bool) -> list[Job]:
    gone = select(jobs).where(jobs.c.state == State.RUNNING, which)
    taken = []
    with database.write() as connection:
        for row in connection.execute(gone.with_for_update(skip_locked=True)).all():
            claim = Job.from_row(row).claim
            job = fenced(connection, claim, failures=jobs.c.failures + int(count_failure))
            if job.failures < FAILURES_MAX or job.cancel_requested_at:
                taken.append(requeue(connection, job, End.LEASE_EXPIRED))
            else:
                error = AttemptsExhausted(
                    f"{job.failures} attempts failed, the last one because its worker was lost"
                ).problem()
                taken.append(end(connection, claim, State.FAILED, End.LEASE_EXPIRED, error=error))
    return taken
