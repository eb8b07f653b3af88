"""What clients do with jobs: submit, look, and cancel."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

from sqlalchemy import Connection, case, exists, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from ...errors import IdempotencyConflict, JobNotFound
from ...spec import JobSpec
from ...states import TERMINAL, State
from ..clock import now
from ..connection import Database
from ..tables import DEFAULT_OWNER, attempts, checkpoints, jobs, snapshots
from ..workers import read_fleet
from .fence import tombstone_checkpoints
from .records import Attempt, Job, JobWarning, Snapshot, View
from .waiting import age, ahead


def submit(
    database: Database,
    spec: JobSpec,
    canvas: tuple[int, int],
    *,
    owner_id: str = DEFAULT_OWNER,
    idempotency_key: str | None = None,
    warnings: Sequence[JobWarning] = (),
) -> tuple[Job, bool]:
    """The queued job, and whether it is new.

    canvas: (width, height) of the result, in px.
    warnings: what its document tells beside its status.
    With an idempotency key that its owner used for the same spec before, it is the job of then.
    Raises IdempotencyConflict where the spec was another.
    """
    width, height = canvas
    new = insert(jobs).values(
        id=secrets.token_hex(10),
        owner_id=owner_id,
        version=1,
        state=State.QUEUED,
        spec=spec.model_dump(mode="json"),
        spec_digest=spec.digest(),
        idempotency_key=idempotency_key,
        labels=spec.labels,
        warnings=[asdict(warning) for warning in warnings],
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
        if idempotency_key and (
            job := find_by_idempotency_key(database, spec, idempotency_key, owner_id=owner_id)
        ):
            return job, False
        raise


def find_by_idempotency_key(
    database: Database, spec: JobSpec, idempotency_key: str, *, owner_id: str = DEFAULT_OWNER
) -> Job | None:
    """The job that this owner submitted with this key before, if any.

    Raises IdempotencyConflict where the spec was another.
    """
    with database.read() as connection:
        is_it = (jobs.c.owner_id == owner_id) & (jobs.c.idempotency_key == idempotency_key)
        row = connection.execute(select(jobs).where(is_it)).one_or_none()
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
    """The job with its snapshots, its attempts and its place in the queue. Raises JobNotFound.

    Of a queued job it also tells who is there to claim it: one aggregate, however many they are.
    """
    with database.read() as connection:
        job = _get(connection, job_id)
        is_queued = job.state == State.QUEUED
        made = connection.execute(
            select(*(attempts.c[field.name] for field in fields(Attempt)))
            .where(attempts.c.job_id == job_id)
            .order_by(attempts.c.attempt)
        )
        return View(
            job=job,
            snapshots=_snapshots(connection, job_id),
            attempts=[Attempt(*row) for row in made],
            ahead=ahead(connection, job) if is_queued else 0,
            fleet=read_fleet(connection) if is_queued else None,
            at=connection.execute(select(now())).scalar_one(),
        )


def list_jobs(
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
            query = query.where(age() < tuple_(last.created_at, last.id))
        return [Job.from_row(row) for row in connection.execute(query)]


def request_cancel(database: Database, job_id: str) -> Job:
    """The job after the request: cancelled if it was queued, else its worker will see it.

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
        if row is None:
            return _get(connection, job_id)
        job = Job.from_row(row)
        if job.state in TERMINAL:
            tombstone_checkpoints(connection, checkpoints.c.job_id == job_id)
        return job


def _get(connection: Connection, job_id: str) -> Job:
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    if row is None:
        raise JobNotFound(f"there is no job {job_id!r}")
    return Job.from_row(row)


def _snapshots(connection: Connection, job_id: str) -> list[Snapshot]:
    """Those of the present attempt, and of earlier ones up to where the later ones resumed.

    Where two attempts took one of the same iteration, it is the later one's.
    """
    later = attempts.alias("later")
    is_overtaken = exists().where(
        later.c.job_id == snapshots.c.job_id,
        later.c.attempt > snapshots.c.attempt,
        later.c.resumed_from_iteration < snapshots.c.iteration,
    )
    rows = connection.execute(
        select(*snapshots.c["attempt", "iteration", "key", "created_at"])
        .where(snapshots.c.job_id == job_id, ~is_overtaken)
        .order_by(snapshots.c.iteration, snapshots.c.attempt)
    )
    return list({row.iteration: Snapshot(*row) for row in rows}.values())
