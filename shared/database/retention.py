"""What may be deleted, and what was: a tombstone, then the objects, then that they are gone.

Each move can be repeated, so a reconciler may die between any two of them. Where objects lie is
known from a row: nobody lists the storage to guess whose they are.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Table, and_, select, update

from .. import object_keys
from .clock import now
from .connection import Database
from .tables import attempts, checkpoints, jobs, snapshots


@dataclass(frozen=True)
class Folder:
    """Where an attempt that has ended kept its objects."""

    job_id: str
    attempt: int
    claim_id: str

    @property
    def prefix(self) -> str:
        return f"{object_keys.attempt(self.job_id, self.attempt, self.claim_id)}/"


@dataclass(frozen=True)
class Tombstone:
    """A checkpoint that nobody follows any more."""

    job_id: str
    attempt: int
    iteration: int
    key: str


_FOLDER = attempts.c["job_id", "attempt", "claim_id"]


# Jobs that are too old.


def expire(database: Database, *, older_than_seconds: float, limit: int) -> list[str]:
    """The ids of the jobs that ended so long ago; from now on nobody follows their pointers."""
    is_old = and_(jobs.c.expired_at.is_(None), jobs.c.finished_at < now(-older_than_seconds))
    oldest = select(jobs.c.id).where(is_old).order_by(jobs.c.finished_at).limit(limit)
    with database.write() as connection:
        rows = connection.execute(
            update(jobs)
            .where(jobs.c.id.in_(oldest), is_old)
            .values(version=jobs.c.version + 1, expired_at=now())
            .returning(jobs.c.id)
        )
        return list(rows.scalars())


def list_unpurged(database: Database, *, limit: int) -> list[Folder]:
    """The attempts of expired jobs whose objects are still to be deleted."""
    is_due = and_(jobs.c.expired_at.is_not(None), attempts.c.purged_at.is_(None))
    with database.read() as connection:
        query = select(*_FOLDER).join(jobs).where(is_due).order_by(*_FOLDER).limit(limit)
        return [Folder(*row) for row in connection.execute(query)]


def mark_purged(database: Database, folder: Folder) -> None:
    """Record that nothing is left below the folder."""
    _mark(database, folder, "purged_at", "collected_at")


# What attempts left behind.


def list_uncollected(database: Database, *, older_than_seconds: float, limit: int) -> list[Folder]:
    """The attempts that ended so long ago, and may have uploaded what they never pointed to."""
    is_due = and_(attempts.c.collected_at.is_(None), attempts.c.ended_at < now(-older_than_seconds))
    with database.read() as connection:
        query = select(*_FOLDER).where(is_due).order_by(attempts.c.ended_at).limit(limit)
        return [Folder(*row) for row in connection.execute(query)]


def pointers(database: Database, folder: Folder) -> set[str]:
    """The keys that rows of the attempt name; it has ended, so there will be no others."""
    with database.read() as connection:
        of_rows = [
            connection.execute(select(table.c.key).where(_is_of(table, folder))).scalars()
            for table in (snapshots, checkpoints)
        ]
        result = connection.execute(
            select(jobs.c.result).where(
                jobs.c.id == folder.job_id, jobs.c.claim_id == folder.claim_id
            )
        ).scalar_one_or_none()
        return object_keys.keys_of_result(result).union(*of_rows)


def mark_collected(database: Database, folder: Folder) -> None:
    """Record that only what rows point to is left below the folder."""
    _mark(database, folder, "collected_at")


# Checkpoints with a tombstone.


def list_tombstones(database: Database, *, limit: int) -> list[Tombstone]:
    """Those whose objects are still to be deleted, the oldest first."""
    is_due = and_(checkpoints.c.tombstoned_at.is_not(None), checkpoints.c.deleted_at.is_(None))
    with database.read() as connection:
        fields = checkpoints.c["job_id", "attempt", "iteration", "key"]
        query = select(*fields).where(is_due).order_by(checkpoints.c.tombstoned_at).limit(limit)
        return [Tombstone(*row) for row in connection.execute(query)]


def mark_deleted(database: Database, checkpoint: Tombstone) -> None:
    """Record that the checkpoint's object is deleted."""
    with database.write() as connection:
        connection.execute(
            update(checkpoints)
            .where(_is_of(checkpoints, checkpoint), checkpoints.c.iteration == checkpoint.iteration)
            .values(deleted_at=now())
        )


def _is_of(table: Table, attempt: Folder | Tombstone) -> ColumnElement[bool]:
    return and_(table.c.job_id == attempt.job_id, table.c.attempt == attempt.attempt)


def _mark(database: Database, folder: Folder, *columns: str) -> None:
    with database.write() as connection:
        done = update(attempts).where(_is_of(attempts, folder))
        connection.execute(done.values({column: now() for column in columns}))
