"""Workers: each tells of itself while it lives; the others read who is there.

A worker counts as alive until its lease runs out, which it renews like those of its jobs. What it
tells is news for people, not a claim to anything: no job moves because of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, literal, select, update

from ..states import WorkerState
from .clock import now
from .connection import Database
from .tables import workers

_ANY_PIXELS = 2**62  # of a worker that does not know how large a render fits
_IS_ALIVE = (workers.c.lease_expires_at > now()).label("is_alive")


@dataclass(frozen=True)
class Identity:
    """What a worker is for all of its life."""

    id: str  # of one life: another process may have had its name before
    name: str
    host: str
    pid: int
    slots: int
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Condition:
    """What may change while it lives."""

    state: WorkerState = WorkerState.STARTING
    code: str | None = None  # of the error that keeps it from being ready
    detail: str | None = None
    busy_slots: int = 0
    device: str | None = None
    max_pixels: int | None = None  # no render of more fits into its memory; None: not known


@dataclass(frozen=True)
class Group:
    """Workers that are alive and in the same state for the same reason, summed up."""

    state: WorkerState
    code: str | None
    workers: int
    slots: int
    free_slots: int
    max_pixels: int  # that the largest of them can hold


@dataclass(frozen=True)
class Fleet:
    """Which workers there are."""

    groups: list[Group]  # of those that are alive
    heartbeat_at: datetime | None  # when a worker last wrote its row, alive or not

    @property
    def alive(self) -> int:
        return sum(group.workers for group in self.groups)

    @property
    def ready(self) -> list[Group]:
        return [group for group in self.groups if group.state == WorkerState.READY]


# What a worker does.


def register(
    database: Database, worker: Identity, condition: Condition, *, lease_seconds: float
) -> None:
    """Tell that a worker lives; whoever had its name before is gone. May be repeated."""
    namesakes = (workers.c.name == worker.name) & (workers.c.id != worker.id)
    with database.write() as connection:
        connection.execute(delete(workers).where(namesakes))
        _renew(connection, worker, condition, lease_seconds)


def renew(
    database: Database, worker: Identity, condition: Condition, *, lease_seconds: float
) -> None:
    """Tell that it still does, and how it is."""
    with database.write() as connection:
        _renew(connection, worker, condition, lease_seconds)


def leave(database: Database, worker: Identity) -> None:
    """Tell that the worker has ended. May be repeated."""
    last = Condition(WorkerState.DRAINING)
    values = {name: getattr(last, name) for name in ("state", "code", "detail", "busy_slots")}
    with database.write() as connection:
        connection.execute(
            update(workers)
            .where(workers.c.id == worker.id)
            .values(heartbeat_at=now(), lease_expires_at=now(), **values)
        )


def _renew(
    connection: Connection, worker: Identity, condition: Condition, lease_seconds: float
) -> None:
    values = {**vars(condition), "heartbeat_at": now(), "lease_expires_at": now(lease_seconds)}
    changed = connection.execute(update(workers).where(workers.c.id == worker.id).values(values))
    if not changed.rowcount:  # new, or forgotten meanwhile
        connection.execute(insert(workers).values(**vars(worker), **values, started_at=now()))


# What the others do.


def fleet(database: Database) -> Fleet:
    with database.read() as connection:
        return read_fleet(connection)


def read_fleet(connection: Connection) -> Fleet:
    """Who is there, in one query whose answer is short however many they are."""
    kind = workers.c["state", "code"]
    rows = connection.execute(
        select(
            _IS_ALIVE,
            *kind,
            func.count(),
            func.sum(workers.c.slots),
            func.sum(workers.c.slots - workers.c.busy_slots),
            func.max(func.coalesce(workers.c.max_pixels, literal(_ANY_PIXELS))),
            func.max(workers.c.heartbeat_at),
        ).group_by("is_alive", *kind)
    ).all()
    groups = [Group(*row[1:-1]) for row in rows if row.is_alive]
    groups.sort(key=lambda group: (list(WorkerState).index(group.state), group.code or ""))
    return Fleet(groups, max((row[-1] for row in rows), default=None))


def list_workers(database: Database) -> list[Row[Any]]:
    """All that are known, the latest heartbeat first; with whether each is alive."""
    with database.read() as connection:
        query = select(workers, _IS_ALIVE, now().label("at"))
        return list(connection.execute(query.order_by(workers.c.heartbeat_at.desc(), workers.c.id)))


def forget(database: Database, *, older_than_seconds: float) -> list[str]:
    """Delete the workers without a heartbeat for so long; their names."""
    is_gone = workers.c.lease_expires_at < now(-older_than_seconds)
    with database.write() as connection:
        rows = connection.execute(delete(workers).where(is_gone).returning(workers.c.name))
        return list(rows.scalars())
