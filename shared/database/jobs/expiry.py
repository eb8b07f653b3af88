"""What puts those jobs right whose worker is gone, or that waited for too long."""

from sqlalchemy import ColumnElement, select, update

from shared.database.clock import now
from shared.database.connection import Database
from shared.database.jobs.fence import FAILURES_MAX, doom_checkpoints, end, fenced, requeue
from shared.database.jobs.records import Job
from shared.database.tables import checkpoints, jobs
from shared.errors import AttemptsExhausted, DeadlineExceeded
from shared.states import End, State


def take_back_expired(database: Database, *, counts: bool = True) -> list[Job]:
    """The jobs whose lease ran out, in the queue again, cancelled or failed.

    counts: whether each has failed once more; not where nobody was able to renew a lease.
    """
    return _take_back(database, jobs.c.lease_expires_at < now(), counts=counts)


def take_back_from(database: Database, worker: str) -> list[Job]:
    """The jobs of a worker that is known to be gone, since its name is in use again."""
    return _take_back(database, jobs.c.worker == worker, counts=False)


def fail_overdue(database: Database) -> list[Job]:
    """The queued jobs whose deadline passed, failed."""
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
        doom_checkpoints(connection, checkpoints.c.job_id.in_([job.id for job in failed]))
        return failed


def _take_back(database: Database, which: ColumnElement[bool], *, counts: bool) -> list[Job]:
    gone = select(jobs).where(jobs.c.state == State.RUNNING, which)
    taken = []
    with database.write() as connection:
        for row in connection.execute(gone.with_for_update(skip_locked=True)).all():
            claim = Job.from_row(row).claim
            job = fenced(connection, claim, failures=jobs.c.failures + int(counts))
            if job.failures < FAILURES_MAX or job.cancel_requested_at:
                taken.append(requeue(connection, job, End.LEASE_EXPIRED))
            else:
                error = AttemptsExhausted(
                    f"{job.failures} attempts failed, the last one because its worker was lost"
                ).problem()
                taken.append(end(connection, claim, State.FAILED, End.LEASE_EXPIRED, error=error))
    return taken
