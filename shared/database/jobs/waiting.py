"""The jobs that wait: which of them may be claimed, and who goes first."""

from typing import Any

from sqlalchemy import Connection, Tuple, and_, func, or_, select, tuple_

from ...states import State
from ..clock import now
from ..connection import Database
from ..tables import jobs
from .records import Job


def count_runnable(database: Database) -> int:
    """How many queued jobs could be claimed at this moment."""
    with database.read() as connection:
        query = select(func.count()).select_from(jobs).where(is_runnable())
        return connection.execute(query).scalar_one()


def is_runnable() -> Any:
    return and_(
        jobs.c.state == State.QUEUED,
        jobs.c.available_at <= now(),
        or_(jobs.c.deadline_at.is_(None), jobs.c.deadline_at > now()),
    )


def age() -> Tuple:
    return tuple_(jobs.c.created_at, jobs.c.id)


def ahead(connection: Connection, job: Job) -> int:
    """How many queued jobs will be claimed before this one."""
    is_older = age() < tuple_(job.created_at, job.id)
    goes_first = or_(
        jobs.c.priority > job.priority, and_(jobs.c.priority == job.priority, is_older)
    )
    query = select(func.count()).select_from(jobs).where(is_runnable(), goes_first)
    return connection.execute(query).scalar_one()
