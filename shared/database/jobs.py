"""The life of a job: each legal move of `shared.states` as one conditional statement.

Every write of an attempt is fenced: it carries the `claim_id` that the attempt was given and asks
for `state = 'running'`. Where it changes no row, the attempt is over: `LeaseLost`.
"""

import datetime
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import (
    Connection,
    Row,
    Tuple,
    and_,
    case,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError

from shared.database.clock import now
from shared.database.connection import Database
from shared.database.tables import attempts, jobs, snapshots
from shared.errors import (
    AttemptsExhausted,
    DeadlineExceeded,
    IdempotencyConflict,
    ImpastoError,
    JobNotFound,
    LeaseLost,
)
from shared.spec import JobSpec
from shared.states import TERMINAL, End, Phase, State

FAILURES_MAX = 3  # how often an attempt may fail or vanish before its job does


@dataclass(frozen=True)
class Job:
    """One row of the table `jobs`, as it was when it was read."""

    id: str
    version: int  # rises with each visible change: the ETag
    state: State
    spec: dict[str, Any]
    spec_digest: str  # names the picture that the spec asks for
    idempotency_key: str | None
    labels: dict[str, str]
    width: int  # of the canvas: renders of one size share a pass
    height: int
    priority: int  # higher is claimed first
    created_at: datetime.datetime
    available_at: datetime.datetime  # not claimed before: the pause before a retry
    deadline_at: datetime.datetime | None
    cancel_requested_at: datetime.datetime | None  # a wish, not yet a fact
    started_at: datetime.datetime | None  # of the first attempt
    finished_at: datetime.datetime | None
    attempt: int  # counts claims; only rises; orders the attempts
    failures: int  # counts what the job may be to blame for: the retry budget
    claim_id: str | None  # of the running attempt: the fence
    worker: str | None
    claimed_at: datetime.datetime | None
    lease_expires_at: datetime.datetime | None  # past it, the reconciler takes the job back
    phase: Phase | None
    iteration: int
    iterations: int
    it_per_s: float | None
    loss: dict[str, float] | None  # total, content, style, tv at `iteration`
    resumed_from_iteration: int
    error: dict[str, Any] | None  # a problem+json document
    result: dict[str, Any] | None  # keys, digest and size of what the job made

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        return cls(**row._mapping)

    @property
    def claim(self) -> "Claim":
        return Claim(self.id, self.attempt, self.claim_id or "")


@dataclass(frozen=True)
class Claim:
    """The right of one attempt to write."""

    job_id: str
    attempt: int
    claim_id: str


@dataclass(frozen=True)
class Progress:
    """How far an attempt has come."""

    phase: Phase
    iteration: int = 0
    it_per_s: float | None = None
    loss: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Snapshot:
    """A picture of the progress, already in the storage."""

    attempt: int
    iteration: int
    key: str
    created_at: datetime.datetime


@dataclass(frozen=True)
class Attempt:
    """One claim of a job, and how it ended."""

    attempt: int
    worker: str
    started_at: datetime.datetime
    ended_at: datetime.datetime | None
    end: End | None
    error: dict[str, Any] | None


@dataclass(frozen=True)
class View:
    """A job and what hangs on it, read together."""

    job: Job
    snapshots: list[Snapshot]  # of the present attempt, and of those that it resumed
    attempts: list[Attempt]
    ahead: int  # how many queued jobs will be claimed before this one
    at: datetime.datetime  # the database's clock


# What clients do.


def submit(
    database: Database,
    spec: JobSpec,
    canvas: tuple[int, int],
    *,
    idempotency_key: str | None = None,
) -> tuple[Job, bool]:
    """The queued job, and whether it is new.

    canvas: (width, height) of the result, in px.
    With an idempotency key that was used for the same spec before, it is the job of that time.
    Raises IdempotencyConflict where the spec was another.
    """
    width, height = canvas
    new = insert(jobs).values(
        id=secrets.token_hex(10),
        version=1,
        state=State.QUEUED,
        spec=spec.model_dump(mode="json"),
        spec_digest=spec.digest(),
        idempotency_key=idempotency_key,
        labels=spec.labels,
        width=width,
        height=height,
        priority=spec.priority,
        created_at=now(),
        available_at=now(),
        deadline_at=now(spec.deadline_seconds) if spec.deadline_seconds else None,
        attempt=0,
        failures=0,
        iteration=0,
        iterations=spec.iterations,
        resumed_from_iteration=0,
    )
    try:
        with database.write() as connection:
            return Job.from_row(connection.execute(new.returning(jobs)).one()), True
    except IntegrityError:
        if idempotency_key and (job := submitted(database, spec, idempotency_key)):
            return job, False
        raise


def submitted(database: Database, spec: JobSpec, idempotency_key: str) -> Job | None:
    """The job that was submitted with this key before, if any.

    Raises IdempotencyConflict where the spec was another.
    """
    with database.read() as connection:
        same_key = select(jobs).where(jobs.c.idempotency_key == idempotency_key)
        row = connection.execute(same_key).one_or_none()
    if row is None:
        return None
    job = Job.from_row(row)
    if job.spec != spec.model_dump(mode="json"):
        raise IdempotencyConflict(
            f"the key {idempotency_key!r} belongs to job {job.id}, which has another spec"
        )
    return job


def get(database: Database, job_id: str) -> Job:
    """The job as it is now. Raises JobNotFound."""
    with database.read() as connection:
        return _get(connection, job_id)


def view(database: Database, job_id: str) -> View:
    """The job with its snapshots, its attempts and its place in the queue. Raises JobNotFound."""
    with database.read() as connection:
        job = _get(connection, job_id)
        taken = connection.execute(
            select(*snapshots.c["attempt", "iteration", "key", "created_at"])
            .where(snapshots.c.job_id == job_id, snapshots.c.attempt == job.attempt)
            .order_by(snapshots.c.iteration)
        )
        made = connection.execute(
            select(*attempts.c["attempt", "worker", "started_at", "ended_at", "end", "error"])
            .where(attempts.c.job_id == job_id)
            .order_by(attempts.c.attempt)
        )
        return View(
            job=job,
            snapshots=[Snapshot(*row) for row in taken],
            attempts=[Attempt(*row) for row in made],
            ahead=_ahead(connection, job) if job.state == State.QUEUED else 0,
            at=connection.execute(select(now())).scalar_one(),
        )


def listing(
    database: Database,
    *,
    states: list[State] | None = None,
    labels: Mapping[str, str] | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[Job]:
    """The newest jobs first; `before` is the id of the last job of the page before."""
    query = select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
    if states:
        query = query.where(jobs.c.state.in_(states))
    for name, value in (labels or {}).items():
        query = query.where(jobs.c.labels[name].as_string() == value)
    with database.read() as connection:
        if before:
            last = _get(connection, before)
            query = query.where(_age() < tuple_(last.created_at, last.id))
        return [Job.from_row(row) for row in connection.execute(query)]


def request_cancel(database: Database, job_id: str) -> Job:
    """The job after the wish: cancelled if it was queued, else its worker will see the wish.

    A job that has ended stays as it is. Raises JobNotFound.
    """
    is_queued = jobs.c.state == State.QUEUED
    with database.write() as connection:
        row = connection.execute(
            update(jobs)
            .where(
                jobs.c.id == job_id,
                jobs.c.state.in_([State.QUEUED, State.RUNNING]),
                jobs.c.cancel_requested_at.is_(None),
            )
            .values(
                version=jobs.c.version + 1,
                cancel_requested_at=now(),
                state=case((is_queued, State.CANCELLED), else_=jobs.c.state),
                finished_at=case((is_queued, now()), else_=None),
            )
            .returning(jobs)
        ).one_or_none()
        return Job.from_row(row) if row else _get(connection, job_id)


# What an attempt does.


def claim(
    database: Database,
    *,
    worker: str,
    lease_seconds: float,
    preferred: tuple[int, int] | None = None,
) -> Job | None:
    """The best queued job, now running and this worker's; None when there is none.

    preferred: the canvas (width, height) that the worker renders already; among jobs of the same
    priority it goes first.
    """
    order = [jobs.c.priority.desc(), jobs.c.created_at, jobs.c.id]
    if preferred:
        width, height = preferred
        fits = and_(jobs.c.width == width, jobs.c.height == height)
        order.insert(1, case((fits, 0), else_=1))
    best = (
        select(jobs.c.id)
        .where(_is_runnable())
        .order_by(*order)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    claim_id = secrets.token_hex(8)
    with database.write() as connection:
        row = connection.execute(
            update(jobs)
            .where(jobs.c.id == best, jobs.c.state == State.QUEUED)
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


def report(
    database: Database, claim: Claim, progress: Progress | None, *, lease_seconds: float
) -> Job:
    """Renew the lease, and write how far the attempt is, if there is news; the job tells of wishes.

    Fenced.
    """
    values: dict[str, Any] = {"lease_expires_at": now(lease_seconds)}
    if progress is None:
        values["version"] = jobs.c.version  # nothing that anybody could see has changed
    else:
        values |= {
            "phase": progress.phase,
            "iteration": progress.iteration,
            "it_per_s": progress.it_per_s,
            "loss": dict(progress.loss) if progress.loss else None,
        }
    with database.write() as connection:
        return _fenced(connection, claim, **values)


def add_snapshot(database: Database, claim: Claim, iteration: int, key: str) -> None:
    """Point to a snapshot that lies in the storage already. Fenced."""
    with database.write() as connection:
        _fenced(connection, claim)
        connection.execute(
            insert(snapshots).values(
                job_id=claim.job_id,
                attempt=claim.attempt,
                iteration=iteration,
                claim_id=claim.claim_id,
                key=key,
                created_at=now(),
            )
        )


def succeed(database: Database, claim: Claim, result: Mapping[str, Any]) -> None:
    """Point to the result, which lies in the storage already. Fenced."""
    with database.write() as connection:
        _end(connection, claim, State.SUCCEEDED, End.SUCCEEDED, result=dict(result))


def fail(database: Database, claim: Claim, error: ImpastoError) -> None:
    """The job cannot succeed, or has failed too often. Fenced."""
    with database.write() as connection:
        problem = error.problem()
        _end(connection, claim, State.FAILED, End.FAILED, attempt_error=problem, error=problem)


def retry(database: Database, claim: Claim, error: ImpastoError, *, after_seconds: float) -> None:
    """Queue the job again after a failure that counts, or fail it for good. Fenced."""
    problem = error.problem()
    with database.write() as connection:
        job = _fenced(connection, claim, failures=jobs.c.failures + 1)
        if job.failures >= FAILURES_MAX:
            _end(connection, claim, State.FAILED, End.FAILED, attempt_error=problem, error=problem)
        else:
            _requeue(connection, job, End.RETRIED, after_seconds, attempt_error=problem)


def hand_back(database: Database, claim: Claim, *, after_seconds: float = 0) -> None:
    """Queue the job again; no failure is counted. Fenced."""
    with database.write() as connection:
        _requeue(connection, _fenced(connection, claim), End.HANDED_BACK, after_seconds)


def acknowledge_cancel(database: Database, claim: Claim) -> None:
    """The attempt has stopped because somebody wished it. Fenced."""
    with database.write() as connection:
        _end(connection, claim, State.CANCELLED, End.CANCELLED)


# What the reconciler does.


def take_back_expired(database: Database) -> list[Job]:
    """The jobs whose lease ran out, in the queue again, cancelled or failed."""
    return _take_back(database, jobs.c.lease_expires_at < now())


def take_back_from(database: Database, worker: str) -> list[Job]:
    """The jobs of a worker that is known to be gone, since its name is in use again."""
    return _take_back(database, jobs.c.worker == worker, counts=False)


def fail_overdue(database: Database) -> list[Job]:
    """The queued jobs whose deadline passed, failed."""
    is_overdue = and_(jobs.c.state == State.QUEUED, jobs.c.deadline_at <= now())
    with database.write() as connection:
        rows = connection.execute(
            update(jobs)
            .where(is_overdue)
            .values(
                version=jobs.c.version + 1,
                state=State.FAILED,
                finished_at=now(),
                error=DeadlineExceeded().problem(),
            )
            .returning(jobs)
        )
        return [Job.from_row(row) for row in rows]


def count_runnable(database: Database) -> int:
    """How many queued jobs could be claimed at this moment."""
    with database.read() as connection:
        query = select(func.count()).select_from(jobs).where(_is_runnable())
        return connection.execute(query).scalar_one()


def _is_runnable() -> Any:
    return and_(
        jobs.c.state == State.QUEUED,
        jobs.c.available_at <= now(),
        or_(jobs.c.deadline_at.is_(None), jobs.c.deadline_at > now()),
    )


def _age() -> Tuple:
    return tuple_(jobs.c.created_at, jobs.c.id)


def _ahead(connection: Connection, job: Job) -> int:
    is_older = _age() < tuple_(job.created_at, job.id)
    goes_first = or_(
        jobs.c.priority > job.priority, and_(jobs.c.priority == job.priority, is_older)
    )
    query = select(func.count()).select_from(jobs).where(_is_runnable(), goes_first)
    return connection.execute(query).scalar_one()


def _get(connection: Connection, job_id: str) -> Job:
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    if row is None:
        raise JobNotFound(f"there is no job {job_id!r}")
    return Job.from_row(row)


def _fenced(connection: Connection, claim: Claim, **values: Any) -> Job:
    """Change the running job, if it is still this claim's. Raises LeaseLost."""
    row = connection.execute(
        update(jobs)
        .where(
            jobs.c.id == claim.job_id,
            jobs.c.claim_id == claim.claim_id,
            jobs.c.state == State.RUNNING,
        )
        .values({"version": jobs.c.version + 1, **values})
        .returning(jobs)
    ).one_or_none()
    if row is None:
        raise LeaseLost(f"job {claim.job_id} is no longer attempt {claim.attempt}'s")
    return Job.from_row(row)


def _end(
    connection: Connection,
    claim: Claim,
    state: State,
    end: End,
    attempt_error: Mapping[str, Any] | None = None,
    **values: Any,
) -> Job:
    """Leave `running`: for good, or back into the queue."""
    if state in TERMINAL:
        values["finished_at"] = now()
    job = _fenced(
        connection, claim, state=state, phase=None, worker=None, lease_expires_at=None, **values
    )
    connection.execute(
        update(attempts)
        .where(attempts.c.job_id == claim.job_id, attempts.c.attempt == claim.attempt)
        .values(ended_at=now(), end=end, error=attempt_error)
    )
    return job


def _requeue(
    connection: Connection,
    job: Job,
    end: End,
    after_seconds: float = 0,
    attempt_error: Mapping[str, Any] | None = None,
) -> Job:
    """Leave `running` for the queue, or for good where somebody wished to cancel."""
    if job.cancel_requested_at:
        return _end(connection, job.claim, State.CANCELLED, End.CANCELLED, attempt_error)
    available = now(after_seconds)
    return _end(connection, job.claim, State.QUEUED, end, attempt_error, available_at=available)


def _take_back(database: Database, which: Any, *, counts: bool = True) -> list[Job]:
    gone = select(jobs).where(jobs.c.state == State.RUNNING, which)
    taken = []
    with database.write() as connection:
        for row in connection.execute(gone.with_for_update(skip_locked=True)).all():
            claim = Job.from_row(row).claim
            job = _fenced(connection, claim, failures=jobs.c.failures + int(counts))
            if job.failures < FAILURES_MAX or job.cancel_requested_at:
                taken.append(_requeue(connection, job, End.LEASE_EXPIRED))
            else:
                error = AttemptsExhausted(
                    f"{job.failures} attempts failed, the last one because its worker was lost"
                ).problem()
                taken.append(_end(connection, claim, State.FAILED, End.LEASE_EXPIRED, error=error))
    return taken
