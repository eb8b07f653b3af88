"""The fence, and how an attempt ends behind it.

Every write of an attempt carries the `claim_id` that the attempt was given and asks for
`state = 'running'`. Where it changes no row, the attempt is over: `LeaseLost`.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, update

from ...errors import AttemptsExhausted, LeaseLost
from ...states import TERMINAL, End, State
from ..clock import now
from ..connection import Database
from ..tables import attempts, checkpoints, jobs
from .records import Claim, Job

FAILURES_MAX = 3  # how often attempts may fail or vanish without progress before their job does
ATTEMPTS_MAX = 50  # how often a job is begun, whoever is to blame that it did not end


def fenced(
    connection: Connection, claim: Claim, parameters: Mapping[str, Any] | None = None, **values: Any
) -> Job:
    """Change the running job, if it is still this claim's. Raises LeaseLost.

    parameters: of those values that name one.
    """
    row = connection.execute(
        update(jobs)
        .where(is_of(claim))
        .values({"version": jobs.c.version + 1, **values})
        .returning(jobs),
        parameters,
    ).one_or_none()
    if row is None:
        raise lost(claim)
    return Job.from_row(row)


def is_of(claim: Claim) -> ColumnElement[bool]:
    return (
        (jobs.c.id == claim.job_id)
        & (jobs.c.claim_id == claim.claim_id)
        & (jobs.c.state == State.RUNNING)
    )


def lost(claim: Claim) -> LeaseLost:
    return LeaseLost(f"job {claim.job_id} is no longer attempt {claim.attempt}'s")


@contextlib.contextmanager
def ending(database: Database, claim: Claim, *ends: End) -> Iterator[Connection]:
    """A transaction that ends the attempt in one of these ways; it may be made again.

    The connection may break after the commit and before its answer. Whoever then ends the attempt
    once more changes no row, and finds that it has ended so.
    """
    try:
        with database.write() as connection:
            yield connection
    except LeaseLost:
        if _end_of(database, claim) not in ends:
            raise


def _end_of(database: Database, claim: Claim) -> End | None:
    with database.read() as connection:
        return connection.execute(
            select(attempts.c.end).where(
                attempts.c.job_id == claim.job_id,
                attempts.c.attempt == claim.attempt,
                attempts.c.claim_id == claim.claim_id,
            )
        ).scalar_one_or_none()


def end(
    connection: Connection,
    claim: Claim,
    state: State,
    how: End,
    attempt_error: Mapping[str, Any] | None = None,
    **values: Any,
) -> Job:
    """Leave `running`: for good, or back into the queue."""
    if state in TERMINAL:
        values["finished_at"] = now()
    job = fenced(
        connection, claim, state=state, phase=None, worker=None, lease_expires_at=None, **values
    )
    connection.execute(
        update(attempts)
        .where(attempts.c.job_id == claim.job_id, attempts.c.attempt == claim.attempt)
        .values(ended_at=now(), end=how, error=attempt_error)
    )
    if state in TERMINAL:
        tombstone_checkpoints(connection, checkpoints.c.job_id == claim.job_id)
    return job


def requeue(
    connection: Connection,
    job: Job,
    how: End,
    after_seconds: float = 0,
    attempt_error: Mapping[str, Any] | None = None,
) -> Job:
    """Leave `running` for the queue, or for good: on a cancel request, or after the last try."""
    if job.cancel_requested_at:
        return end(connection, job.claim, State.CANCELLED, End.CANCELLED, attempt_error)
    if job.attempt >= ATTEMPTS_MAX:
        error = AttemptsExhausted(f"none of {job.attempt} attempts came to an end").problem()
        return end(connection, job.claim, State.FAILED, how, attempt_error, error=error)
    available = now(after_seconds)
    return end(connection, job.claim, State.QUEUED, how, attempt_error, available_at=available)


def tombstone_checkpoints(connection: Connection, which: ColumnElement[bool]) -> None:
    """Nobody will follow these rows any more; the reconciler deletes what they point to."""
    connection.execute(
        update(checkpoints)
        .where(which, checkpoints.c.tombstoned_at.is_(None))
        .values(tombstoned_at=now())
    )
