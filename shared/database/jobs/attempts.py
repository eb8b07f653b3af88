"""What an attempt does with its job: claim, report, point to what it stored, and end."""

import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    Connection,
    ScalarSelect,
    Table,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)

from ...errors import ImpastoError
from ...states import End, Phase, State
from ..clock import now
from ..connection import Database
from ..tables import attempts, jobs, snapshots
from ..tables import checkpoints as checkpoints_table
from .fence import (
    FAILURES_MAX,
    end,
    ending,
    fenced,
    is_of,
    lost,
    requeue,
    tombstone_checkpoints,
)
from .records import Checkpoint, Claim, Job, Progress
from .waiting import is_runnable

_CHECKPOINTS_KEPT = 2  # the newest may prove corrupt

# Built once: built anew, it made a report cost twice as much on this side of the database.
_IS_LATE = jobs.c.iteration > bindparam("news_iteration")
_NEWS = {
    name: case((_IS_LATE, jobs.c[name]), else_=bindparam(f"news_{name}", type_=jobs.c[name].type))
    for name in ("iteration", "it_per_s", "loss")
}


def claim(
    database: Database,
    *,
    worker: str,
    lease_seconds: float,
    preferred: tuple[int, int] | None = None,
    claim_id: str | None = None,
) -> Job | None:
    """The best queued job, now running and this worker's; None when there is none.

    preferred: the canvas (width, height) that the worker renders already; among jobs of the same
    priority it goes first.
    claim_id: a new one, from a caller who will `reclaim` the job if the answer is lost.
    """
    claim_id = claim_id or secrets.token_hex(8)
    with database.write() as connection:
        row = connection.execute(
            update(jobs)
            .where(jobs.c.id == _best(preferred), jobs.c.state == State.QUEUED)
            .values(
                version=jobs.c.version + 1,
                state=State.RUNNING,
                phase=Phase.LOADING,
                attempt=jobs.c.attempt + 1,
                claim_id=claim_id,
                worker=worker,
                claimed_at=now(),
                started_at=func.coalesce(jobs.c.started_at, now()),
                lease_expires_at=now(lease_seconds),
                iteration=0,
                resumed_from_iteration=0,
                it_per_s=None,
                loss=None,
            )
            .returning(jobs)
        ).one_or_none()
        if row is None:
            return None
        job = Job.from_row(row)
        connection.execute(
            insert(attempts).values(
                job_id=job.id,
                attempt=job.attempt,
                claim_id=claim_id,
                worker=worker,
                started_at=job.claimed_at,
            )
        )
        return job


def _best(preferred: tuple[int, int] | None) -> ScalarSelect[str]:
    """The id of the job that is claimed next; its row is locked."""
    order = [jobs.c.priority.desc(), jobs.c.created_at, jobs.c.id]
    if preferred:
        width, height = preferred
        fits = and_(jobs.c.width == width, jobs.c.height == height)
        order.insert(1, case((fits, 0), else_=1))
    return (
        select(jobs.c.id)
        .where(is_runnable())
        .order_by(*order)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )


def reclaim(database: Database, claim_id: str, *, lease_seconds: float) -> Job | None:
    """What a claim got whose answer was lost, with a new lease; None if it got nothing."""
    with database.write() as connection:
        row = connection.execute(
            update(jobs)
            .where(jobs.c.claim_id == claim_id, jobs.c.state == State.RUNNING)
            .values(lease_expires_at=now(lease_seconds))
            .returning(jobs)
        ).one_or_none()
        return Job.from_row(row) if row else None


def report(
    database: Database, claim: Claim, progress: Progress | None, *, lease_seconds: float
) -> Job:
    """Renew the lease, and write how far the attempt is, if there is news.

    The job tells of cancel requests. News that comes late, with an iteration behind the one that
    is known, changes the phase alone. Fenced.
    """
    values: dict[str, Any] = {"lease_expires_at": now(lease_seconds)}
    news: dict[str, Any] = {}
    if progress is None:
        values["version"] = jobs.c.version  # nothing that anybody could see has changed
    else:
        values |= {"phase": progress.phase, **_NEWS}
        news = {
            "news_iteration": progress.iteration,
            "news_it_per_s": progress.it_per_s,
            "news_loss": dict(progress.loss) if progress.loss else None,
        }
    with database.write() as connection:
        return fenced(connection, claim, news, **values)


def read_claimed(database: Database, claim: Claim) -> Job:
    """The job, with what was asked of it since; nothing is written. Fenced."""
    with database.read() as connection:
        row = connection.execute(select(jobs).where(is_of(claim))).one_or_none()
    if row is None:
        raise lost(claim)
    return Job.from_row(row)


def add_snapshot(database: Database, claim: Claim, iteration: int, key: str) -> None:
    """Point to a snapshot that lies in the storage already. Fenced; may be repeated."""
    with database.write() as connection:
        fenced(connection, claim)
        _insert_once(connection, snapshots, claim, claim.attempt, iteration, key=key)


def checkpoints(database: Database, job_id: str) -> list[Checkpoint]:
    """What an attempt may begin with, the furthest first."""
    columns = checkpoints_table.c
    with database.read() as connection:
        rows = connection.execute(
            select(*columns["attempt", "iteration", "key", "sha256", "size_bytes"])
            .where(
                columns.job_id == job_id,
                columns.tombstoned_at.is_(None),
                columns.is_corrupt.is_(False),
            )
            .order_by(columns.iteration.desc(), columns.attempt.desc())
        )
        return [Checkpoint(*row) for row in rows]


def add_checkpoint(database: Database, claim: Claim, checkpoint: Checkpoint) -> None:
    """Point to a checkpoint that lies in the storage already; the newest two are kept.

    One that is further than any before is progress: the failures so far are forgiven.
    Fenced; may be repeated.
    """
    columns = checkpoints_table.c
    is_of_job = columns.job_id == claim.job_id
    furthest = select(func.coalesce(func.max(columns.iteration), 0)).where(is_of_job)
    is_progress = literal(checkpoint.iteration) > furthest.scalar_subquery()
    newest = (
        select(columns.attempt, columns.iteration)
        .where(is_of_job, columns.tombstoned_at.is_(None))
        .order_by(columns.attempt.desc(), columns.iteration.desc())
        .limit(_CHECKPOINTS_KEPT)
    )
    is_older = tuple_(columns.attempt, columns.iteration).not_in(newest)
    with database.write() as connection:
        forgiven = case((is_progress, 0), else_=jobs.c.failures)
        fenced(connection, claim, version=jobs.c.version, failures=forgiven)
        _insert_once(
            connection,
            checkpoints_table,
            claim,
            checkpoint.attempt,
            checkpoint.iteration,
            key=checkpoint.key,
            sha256=checkpoint.sha256,
            size_bytes=checkpoint.size_bytes,
        )
        tombstone_checkpoints(connection, and_(is_of_job, is_older))


def discard_checkpoint(database: Database, claim: Claim, checkpoint: Checkpoint) -> None:
    """Nobody shall begin with this one: it is missing, or not what was stored. Fenced."""
    columns = checkpoints_table.c
    is_it = and_(
        columns.job_id == claim.job_id,
        columns.attempt == checkpoint.attempt,
        columns.iteration == checkpoint.iteration,
    )
    with database.write() as connection:
        fenced(connection, claim, version=jobs.c.version)
        connection.execute(update(checkpoints_table).where(is_it).values(is_corrupt=True))
        tombstone_checkpoints(connection, is_it)


def resume(database: Database, claim: Claim, iteration: int) -> None:
    """The attempt goes on behind the checkpoint of this iteration. Fenced."""
    with database.write() as connection:
        fenced(connection, claim, iteration=iteration, resumed_from_iteration=iteration)
        connection.execute(
            update(attempts)
            .where(attempts.c.job_id == claim.job_id, attempts.c.attempt == claim.attempt)
            .values(resumed_from_iteration=iteration)
        )


def succeed(database: Database, claim: Claim, result: Mapping[str, Any]) -> None:
    """Point to the result, which lies in the storage already. Fenced; may be repeated."""
    with ending(database, claim, End.SUCCEEDED) as connection:
        end(connection, claim, State.SUCCEEDED, End.SUCCEEDED, result=dict(result))


def fail(database: Database, claim: Claim, error: ImpastoError) -> None:
    """The job cannot succeed. Fenced; may be repeated."""
    problem = error.problem()
    with ending(database, claim, End.FAILED) as connection:
        end(connection, claim, State.FAILED, End.FAILED, attempt_error=problem, error=problem)


def retry(database: Database, claim: Claim, error: ImpastoError, *, after_seconds: float) -> None:
    """Queue the job again after a failure that counts, or fail it for good.

    Fenced; may be repeated.
    """
    problem = error.problem()
    with ending(database, claim, End.RETRIED, End.FAILED, End.CANCELLED) as connection:
        job = fenced(connection, claim, failures=jobs.c.failures + 1)
        if job.failures >= FAILURES_MAX and not job.cancel_requested_at:
            end(connection, claim, State.FAILED, End.FAILED, attempt_error=problem, error=problem)
        else:
            requeue(connection, job, End.RETRIED, after_seconds, attempt_error=problem)


def hand_back(database: Database, claim: Claim, *, after_seconds: float = 0) -> None:
    """Queue the job again; no failure is counted. Fenced; may be repeated."""
    with ending(database, claim, End.HANDED_BACK, End.CANCELLED) as connection:
        requeue(connection, fenced(connection, claim), End.HANDED_BACK, after_seconds)


def acknowledge_cancel(database: Database, claim: Claim) -> None:
    """The attempt has stopped because of a cancel request. Fenced; may be repeated."""
    with ending(database, claim, End.CANCELLED) as connection:
        end(connection, claim, State.CANCELLED, End.CANCELLED)


def _insert_once(
    connection: Connection, table: Table, claim: Claim, attempt: int, iteration: int, **values: Any
) -> None:
    """Insert the row, unless it is there: its commit was made and only the answer was lost."""
    key = {"job_id": claim.job_id, "attempt": attempt, "iteration": iteration}
    if connection.execute(select(table.c.key).filter_by(**key)).first() is None:
        values |= {"claim_id": claim.claim_id, "created_at": now()}
        connection.execute(insert(table).values(**key, **values))
